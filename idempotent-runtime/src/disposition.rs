//! How a call came to its answer.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::execution::Scope;

/// How a call came to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Disposition {
    /// No idempotent call was made.
    NotCalled = 0,
    /// The body ran, as the key's first run.
    Executed,
    /// The body ran, after an earlier run of the key had ended without an outcome.
    TookOver,
    /// The stored result of an earlier run was returned.
    Replayed,
    /// A run that was under way was waited for, and its result returned.
    Waited,
    /// The body ran without protection, since the store was out of reach and the handle was built to run then.
    Unprotected,
    /// The call was refused with an [`Error`](crate::Error).
    Refused,
}

impl Disposition {
    const ALL: [Self; 7] = [
        Self::NotCalled,
        Self::Executed,
        Self::TookOver,
        Self::Replayed,
        Self::Waited,
        Self::Unprotected,
        Self::Refused,
    ];

    /// A stable, machine-readable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotCalled => "not-called",
            Self::Executed => "executed",
            Self::TookOver => "took-over",
            Self::Replayed => "replayed",
            Self::Waited => "waited",
            Self::Unprotected => "unprotected",
            Self::Refused => "refused",
        }
    }

    /// Whether this call ran the body.
    #[must_use]
    pub const fn ran(self) -> bool {
        matches!(self, Self::Executed | Self::TookOver | Self::Unprotected)
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where [`with_disposition`] looks: the last disposition of the calls made directly inside it.
#[derive(Clone, Default)]
pub(crate) struct Observed(Arc<AtomicU8>);

impl Observed {
    pub(crate) fn note(&self, disposition: Disposition) {
        self.0.store(disposition as u8, Ordering::Relaxed);
    }
}

/// Awaits a call and says how it came to its answer.
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
    let observed = Observed::default();
    let output = Scope::observed(observed.clone()).around(call).await;
    let disposition = Disposition::ALL.get(usize::from(observed.0.load(Ordering::Relaxed)));
    (output, disposition.copied().unwrap_or(Disposition::NotCalled))
}
