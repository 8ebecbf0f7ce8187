//! A handle for the tasks of one test, in place of the installed one.

use std::future::Future;

use crate::idempotency::Idempotency;

tokio::task_local! {
    static SCOPED: Option<&'static Idempotency>;
}

/// Runs a future in which functions without `store = …` use this handle, whatever is installed. So tests in one process do not
/// see each other's records.
///
/// It counts for what the future awaits and for detached bodies and messages, also one in the other. A task that
/// is spawned in it has the installed handle again, unless it is spawned as `with(handle, task)`.
///
/// The handle is kept until the process ends, as an installed one is.
///
/// ```
/// # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
/// use idempotent_runtime::{Disposition, Error, Idempotency, idempotent, testing, with_disposition};
///
/// #[idempotent(name = "mail.send", key = message_id)]
/// async fn send(message_id: &str, text: &str) -> Result<usize, Error> {
///     Ok(text.len())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # pub async fn main() {
/// for _test in 0..2 {
///     testing::with(Idempotency::memory(), async {
///         for expected in [Disposition::Executed, Disposition::Replayed] {
///             let (sent, how) = with_disposition(send("m-1", "hello")).await;
///             assert_eq!((sent.unwrap(), how), (5, expected));
///         }
///     })
///     .await;
/// }
/// # }
/// # }
/// # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main() }
/// # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
/// ```
///
/// # Cancel safety
///
/// As that of the future.
pub async fn with<F: Future>(handle: Idempotency, future: F) -> F::Output {
    SCOPED.scope(Some(Box::leak(Box::new(handle))), future).await
}

pub(super) fn handle() -> Option<&'static Idempotency> {
    SCOPED.try_with(|handle| *handle).ok().flatten()
}

/// The future of a task that goes on with what the present one has begun.
pub(crate) fn handed_on<F: Future>(future: F) -> impl Future<Output = F::Output> {
    SCOPED.scope(handle(), future)
}
