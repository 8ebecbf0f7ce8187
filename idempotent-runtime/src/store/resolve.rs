//! The resolution of a record by an operator: what is asked, and what is answered.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    record::{Outcome, Record, State},
    token::Nonce,
};

/// A request to end, by an operator's word, what a record leaves open; see [`Store::resolve`](super::Store::resolve).
#[derive(Clone)]
#[non_exhaustive]
pub struct ResolveRequest {
    /// The record has to be as it was seen.
    pub seen: Seen,
    /// 128 random bits that name this resolution. They own the record from here on.
    pub nonce: Nonce,
    /// The state that the key is left in.
    pub resolution: Resolution,
    /// The time for which the record is kept from now on.
    pub keep: Duration,
    /// The operator and the reason, which the record keeps as its context.
    pub context: Arc<str>,
    /// True if a run whose lease has not lapsed is resolved, too: its owner is told that the claim is lost.
    pub even_if_alive: bool,
}

impl ResolveRequest {
    /// A request that leaves a run alone whose lease has not lapsed.
    #[must_use]
    pub fn new(seen: Seen, resolution: Resolution, keep: Duration, context: impl Into<Arc<str>>) -> Self {
        let (nonce, context) = (Nonce::random(), context.into());
        Self { seen, nonce, resolution, keep, context, even_if_alive: false }
    }

    /// Sets whether a run whose lease has not lapsed is resolved, too.
    #[must_use]
    pub const fn even_if_alive(mut self, even_if_alive: bool) -> Self {
        self.even_if_alive = even_if_alive;
        self
    }

    /// The answer of a record that stands against this request; `None` where it is to be resolved.
    #[cfg(any(feature = "memory", feature = "postgres", feature = "sqlite"))]
    pub(crate) fn answer(&self, record: &Record) -> Option<Resolved> {
        if record.owner == self.nonce {
            return Some(Resolved::Applied);
        }
        match record.state {
            _ if record.seen() != self.seen => Some(Resolved::Changed),
            State::Running { lease_left } if !self.even_if_alive => Some(Resolved::Running { lease_left }),
            _ => None,
        }
    }

    /// The answer where there is no record.
    #[cfg(any(feature = "memory", feature = "postgres", feature = "redis", feature = "sqlite"))]
    pub(crate) const fn of_vacant(&self) -> Resolved {
        match self.resolution {
            Resolution::Vacant => Resolved::Applied,
            Resolution::Done(_) | Resolution::Failed => Resolved::Changed,
        }
    }
}

/// Results and reasons are not for logs.
impl fmt::Debug for ResolveRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolveRequest")
            .field("seen", &self.seen)
            .field("resolution", &self.resolution)
            .field("keep", &self.keep)
            .field("even_if_alive", &self.even_if_alive)
            .finish_non_exhaustive()
    }
}

/// The part of a record that a resolution compares: whoever has changed the record since has changed this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    owner: Nonce,
    state: &'static str,
}

impl Seen {
    /// The claim, or the resolution, that the record is of.
    #[must_use]
    pub const fn owner(&self) -> &Nonce {
        &self.owner
    }

    /// The word of the record's [state](State::as_str), which is `running` also where the lease has lapsed: that is no change.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        self.state
    }
}

impl Record {
    /// The part of it that a resolution compares.
    #[must_use]
    pub const fn seen(&self) -> Seen {
        let state = match &self.state {
            State::Running { .. } | State::Lapsed => "running",
            other => other.as_str(),
        };
        Seen { owner: self.owner, state }
    }
}

/// The state in which a resolution leaves a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// Done, with this outcome, as the attempt that it was: it did happen.
    Done(Outcome),
    /// Failed, before its first attempt, with its journal: it did not happen, and a call may run it.
    Failed,
    /// Vacant, as [`forget`](super::Store::forget) leaves it.
    Vacant,
}

impl Resolution {
    /// The word for the state: that of its [outcome](Outcome::as_str), `failed` or `vacant`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done(outcome) => outcome.as_str(),
            Self::Failed => "failed",
            Self::Vacant => "vacant",
        }
    }
}

/// The answer of the key's record to a resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Resolved {
    /// The record is as asked for.
    Applied,
    /// The record is not the one that was seen; nothing was changed.
    Changed,
    /// The run is alive; nothing was changed.
    #[non_exhaustive]
    Running {
        /// The rest of its lease. Never zero.
        lease_left: Duration,
    },
}

impl Resolved {
    /// [`Running`](Self::Running) with this much of the lease left, which must not be zero.
    pub const fn running(lease_left: Duration) -> Self {
        Self::Running { lease_left }
    }
}
