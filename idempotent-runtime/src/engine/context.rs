//! The context of one call, shared by everything that happens on its behalf.

use std::{sync::Arc, time::Duration};

use super::{shared::Shared, single_flight::Flight};
use crate::store::{ClaimRequest, RecordKey, Store};

/// The question that a call asks the store, and where its duplicates meet.
pub(crate) struct CallContext {
    pub(super) shared: Arc<Shared>,
    pub(super) key: RecordKey,
    /// The time that a finished result is kept.
    pub(super) ttl: Duration,
    /// The call's first claim. A later claim that must not be mistaken for it has a nonce of its own.
    pub(super) request: ClaimRequest,
    pub(super) wait: Duration,
    /// The duplicates in this process meet here, if this call leads them.
    pub(super) flight: Flight,
}

impl CallContext {
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.shared.store
    }

    pub(crate) fn key(&self) -> &RecordKey {
        &self.key
    }

    /// Tells two calls with one answer: the same key, the same request, and the same policy for an abandoned run.
    pub(super) fn is_duplicate_of(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.request, &other.request);
        // Where one may take the run over and the other may not, the store answers each of them.
        self.key == other.key && ours.fingerprint == theirs.fingerprint && ours.take_over == theirs.take_over
    }
}
