//! What a test puts around the calls of its tasks: a handle in place of the installed one, and what watches or disturbs them.

use std::future::Future;

use super::probe::Probe;
#[cfg(feature = "memory")]
use super::{fingerprint::Captured, interrupt::Trap};
use crate::{error::Error, idempotency::Idempotency};

tokio::task_local! {
    static SURROUNDINGS: Surroundings;
}

/// What is around a future.
#[derive(Clone, Default)]
pub(super) struct Surroundings {
    pub(super) handle: Option<&'static Idempotency>,
    pub(super) probe: Option<Probe>,
    #[cfg(feature = "memory")]
    pub(super) trap: Option<Trap>,
    #[cfg(feature = "memory")]
    pub(super) captured: Option<Captured>,
}

impl Surroundings {
    pub(super) fn current() -> Self {
        SURROUNDINGS.try_with(Clone::clone).unwrap_or_default()
    }

    pub(super) fn around<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        SURROUNDINGS.scope(self, future)
    }

    #[cfg(feature = "memory")]
    pub(super) fn enter<R>(self, act: impl FnOnce() -> R) -> R {
        SURROUNDINGS.sync_scope(self, act)
    }

    /// Reads a part of what is around the caller, if anything is.
    pub(super) fn read<R>(read: impl FnOnce(&Self) -> R) -> Option<R> {
        SURROUNDINGS.try_with(read).ok()
    }
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
    let handle = Some(&*Box::leak(Box::new(handle)));
    Surroundings { handle, ..Surroundings::current() }.around(future).await
}

/// Gives the handle that functions without `store = …` use here: that of [`with`] or [`interrupt`](super::interrupt), or the
/// installed one. For services that keep a handle of their own.
///
/// # Errors
///
/// [`Error::NotInstalled`].
///
/// ```
/// # #[cfg(feature = "memory")] tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use idempotent_runtime::{Idempotency, testing};
///
/// assert!(testing::with(Idempotency::memory(), async { testing::current_handle() }).await.is_ok());
/// # });
/// ```
pub fn current_handle() -> Result<Idempotency, Error> {
    crate::install::installed().cloned()
}

pub(crate) fn handle() -> Option<&'static Idempotency> {
    Surroundings::read(|around| around.handle).flatten()
}

/// The future of a task that goes on with what the present one has begun.
pub(crate) fn handed_on<F: Future>(future: F) -> impl Future<Output = F::Output> {
    Surroundings::current().around(future)
}
