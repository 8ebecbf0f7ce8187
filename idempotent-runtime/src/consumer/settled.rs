//! The end of a delivery.

use std::{fmt, time::Duration};

use super::delivery::BoxError;

/// The end of a delivery.
#[derive(Debug)]
#[non_exhaustive]
pub enum Settled {
    /// Its handler ran, and it is acknowledged.
    Done,
    /// It was worked off before, and is acknowledged.
    Duplicate,
    /// It is not its turn: another delivery of it runs, its last run was too short ago, or the store is out of reach. The broker
    /// delivers it again.
    #[non_exhaustive]
    Busy {
        /// The time that the broker was told to wait.
        after: Duration,
    },
    /// Its handler failed, and the broker delivers it again.
    #[non_exhaustive]
    Retried {
        /// The number of the run that failed.
        attempt: u32,
        /// The time that the broker was told to wait.
        after: Duration,
    },
    /// It is given up.
    Dead(Dead),
    /// It is left to the broker: this went wrong when it was settled, or nobody can say yet what became of its run. It will be
    /// delivered again, and be a duplicate if it was worked off.
    NotSettled(BoxError),
}

impl Settled {
    /// A stable, machine-readable name: `done`, `duplicate`, `busy`, `retried`, `dead` or `not-settled`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Duplicate => "duplicate",
            Self::Busy { .. } => "busy",
            Self::Retried { .. } => "retried",
            Self::Dead(_) => "dead",
            Self::NotSettled(_) => "not-settled",
        }
    }
}

/// The reason why a message is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dead {
    /// Its handler failed in a way that no other run would not.
    Permanent,
    /// It was run as often as its inbox allows.
    #[non_exhaustive]
    Exhausted {
        /// The number of runs.
        attempts: u32,
    },
    /// Another payload came under its id before. The run of that one is not touched.
    Conflict,
    /// It has no id, or one that cannot be a key.
    NoId,
    /// Its payload is larger than its inbox allows.
    TooLarge,
}

impl Dead {
    /// A stable, machine-readable name: `permanent`, `exhausted`, `conflict`, `no-id` or `too-large`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Exhausted { .. } => "exhausted",
            Self::Conflict => "conflict",
            Self::NoId => "no-id",
            Self::TooLarge => "too-large",
        }
    }
}

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permanent => f.write_str("its handler says that no other run would succeed"),
            Self::Exhausted { attempts } => write!(f, "it was run {attempts} times, and each run failed or vanished"),
            Self::Conflict => f.write_str("another payload came under its id before"),
            Self::NoId => f.write_str("it has no id that can be a key"),
            Self::TooLarge => f.write_str("its payload is larger than its inbox allows"),
        }
    }
}
