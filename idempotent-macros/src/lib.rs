//! The `#[idempotent]` attribute; its documentation is in `idempotent-runtime`.

/// Runs an async function once per key.
#[proc_macro_attribute]
pub fn idempotent(_: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    item
}
