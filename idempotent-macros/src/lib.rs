//! The `#[idempotent]` attribute of `idempotent-runtime`, which re-exports it: depend on that crate, not on this one.

mod args;
mod codegen;
mod diagnostics;
mod duration;
mod expand;
mod function;
mod template;
mod types;
mod validate;

use std::path::Path;

use proc_macro::{Span, TokenStream};

/// Runs an async function once per key.
#[proc_macro_attribute]
pub fn idempotent(args: TokenStream, item: TokenStream) -> TokenStream {
    let file = module_of(&Span::call_site().file());
    expand::expand(args.into(), &item.into(), file.as_deref()).into()
}

/// The module that a file most likely is: its name, or its folder's for `mod.rs`.
fn module_of(file: &str) -> Option<String> {
    let path = Path::new(file);
    let name = match path.file_stem()?.to_str()? {
        "mod" => path.parent()?.file_name()?.to_str()?.to_owned(),
        "lib" | "main" => std::env::var("CARGO_CRATE_NAME").ok()?,
        other => other.to_owned(),
    };
    Some(name.replace('-', "_"))
}
