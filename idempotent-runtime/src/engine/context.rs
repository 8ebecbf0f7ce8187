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

    /// Tells two calls with one answer: the same key, and the same request.
    pub(super) fn is_duplicate_of(&self, other: &Self) -> bool {
        self.key == other.key && self.request.fingerprint == other.request.fingerprint
    }
}
