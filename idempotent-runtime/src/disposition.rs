//! Asking a call for its disposition.

use std::future::Future;

use crate::engine::{
    disposition::{Disposition, DispositionCell},
    scope::Scope,
};

/// Awaits a call, and gives its disposition beside its output.
///
/// With more than one idempotent call directly inside, the last to end counts; calls made by their bodies do not.
///
/// ```
/// # use idempotent_runtime::{Disposition, Error, Idempotency, with_disposition};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// let idempotency = Idempotency::memory();
/// let call = || with_disposition(idempotency.call("greet").key("k").arguments(&"Ada").run(async { Ok::<_, Error>("Hello, Ada".to_owned()) }));
/// assert_eq!(call().await.1, Disposition::Executed);
/// assert_eq!(call().await.1, Disposition::Replayed);
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// As the call's own.
pub async fn with_disposition<F: Future>(call: F) -> (F::Output, Disposition) {
    let noted = DispositionCell::default();
    let output = Scope::of_call(noted.clone()).around(call).await;
    (output, noted.get())
}
