//! The context of one call, shared by everything that happens on its behalf.

use std::{sync::Arc, time::Duration};

use super::{shared::Shared, single_flight::Flight};
use crate::{
    operation::Backoff,
    store::{Before, ClaimRequest, RecordKey, Store, TakeOver, transactional::Turn},
};

/// The policies for the runs of a key.
#[derive(Clone, Copy)]
pub(super) struct Attempts {
    /// The most runs.
    pub(super) max: Option<u32>,
    /// The pauses between two.
    pub(super) pauses: Option<Backoff>,
    /// The time for which a run must have been abandoned before "it was not done" is believed; `None` where nobody asks.
    pub(super) settle_after: Option<Duration>,
}

impl Attempts {
    /// True if a run that fails leaves a record, which counts it or delays the next.
    pub(super) const fn are_kept(&self) -> bool {
        self.max.is_some() || self.pauses.is_some()
    }
}

/// The transaction that a run begins for itself.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    expect(dead_code, reason = "no other store has transactions")
)]
pub(super) enum OwnTransaction {
    /// None.
    No,
    /// One beside which the store works on.
    Shared,
    /// One that keeps the store from changing any record: the run is not renewed, and takes its turn.
    Exclusive,
}

/// The question that a call asks the store, and where its duplicates meet.
pub(crate) struct CallContext {
    pub(super) shared: Arc<Shared>,
    pub(super) key: RecordKey,
    /// The time that a finished result is kept.
    pub(super) ttl: Duration,
    /// The call's first claim. A later claim that must not be mistaken for it has a nonce of its own.
    pub(super) request: ClaimRequest,
    pub(super) wait: Duration,
    pub(super) attempts: Attempts,
    pub(super) own_transaction: OwnTransaction,
    /// True for a message of a broker.
    pub(super) is_of_message: bool,
    /// The duplicates in this process meet here, if this call leads them.
    pub(super) flight: Flight,
}

impl CallContext {
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.shared.store
    }

    /// True if the run keeps the store from changing any record.
    pub(super) fn is_exclusive(&self) -> bool {
        self.own_transaction == OwnTransaction::Exclusive
    }

    /// Waits for the turn of a run, where runs take turns.
    pub(super) async fn turn(&self) -> Turn {
        match self.store().transactional().filter(|_| self.is_exclusive()) {
            Some(store) => store.turn().await,
            None => Turn::none(),
        }
    }

    pub(crate) fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The pause before the run after this one.
    pub(super) fn pause_after(&self, attempt: u32) -> Duration {
        self.attempts.pauses.map_or(Duration::ZERO, |pauses| pauses.after(attempt))
    }

    /// The time after which "it was not done" is believed; `None` where nobody asks.
    pub(crate) const fn settle_after(&self) -> Option<Duration> {
        self.attempts.settle_after
    }

    /// The worst that may have been before a claim whose answer was lost. `None` where that would leave a record without an
    /// end, although a run that failed may have been before it.
    pub(super) const fn before_unanswered(&self) -> Option<Before> {
        match self.request.take_over {
            TakeOver::Never => Some(Before::Fresh),
            TakeOver::UnlessHeld => Some(Before::abandoned(Duration::ZERO)),
            TakeOver::Always => None,
        }
    }

    /// Tells two calls with one answer: the same key, the same request, and the same policy for an abandoned run.
    pub(super) fn is_duplicate_of(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.request, &other.request);
        // Where one may take the run over and the other may not, the store answers each of them.
        self.key == other.key && ours.fingerprint == theirs.fingerprint && ours.take_over == theirs.take_over
    }
}
