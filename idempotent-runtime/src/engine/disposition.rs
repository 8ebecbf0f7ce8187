//! The disposition of a call, and the cell in which it is noted for whoever asked.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

/// The way in which a call came to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Disposition {
    /// No idempotent call was made.
    NotCalled = 0,
    /// The body ran, as the key's first run.
    Executed,
    /// The body ran, after an earlier run of the key had ended without an outcome, or had failed.
    TookOver,
    /// The stored result of an earlier run was returned.
    Replayed,
    /// A run that was under way was waited for, and its result returned.
    Waited,
    /// The body did not run: it was found out that an earlier run had happened, and its result was recorded and returned.
    Reconciled,
    /// The body ran without protection, since the store was out of reach and the handle was built to run then.
    Unprotected,
    /// The call was refused with an [`Error`](crate::Error).
    Refused,
}

impl Disposition {
    const ALL: [Self; 8] = [
        Self::NotCalled,
        Self::Executed,
        Self::TookOver,
        Self::Replayed,
        Self::Waited,
        Self::Reconciled,
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
            Self::Reconciled => "reconciled",
            Self::Unprotected => "unprotected",
            Self::Refused => "refused",
        }
    }

    /// True if this call ran the body.
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

/// The last disposition of the calls made directly inside [`with_disposition`](crate::with_disposition).
#[derive(Clone, Default)]
pub(crate) struct DispositionCell(Arc<AtomicU8>);

impl DispositionCell {
    pub(super) fn set(&self, disposition: Disposition) {
        self.0.store(disposition as u8, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Disposition {
        let disposition = Disposition::ALL.get(usize::from(self.0.load(Ordering::Relaxed)));
        disposition.copied().unwrap_or(Disposition::NotCalled)
    }
}
