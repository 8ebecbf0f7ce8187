//! What one call is about: shared by everything that happens on its behalf.

use std::{sync::Arc, time::Duration};

use super::{shared::Shared, single_flight::Flight};
use crate::store::{ClaimRequest, RecordKey, Store};

/// A call on its way through the engine.
pub(crate) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) key: RecordKey,
    /// What the call claims with first; a later claim that must not be mistaken for it has a nonce of its own.
    pub(super) request: ClaimRequest,
    pub(super) wait: Duration,
    /// Where duplicates in this process meet, if this call leads them.
    pub(super) flight: Flight,
}

impl Context {
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.shared.store
    }

    pub(crate) fn key(&self) -> &RecordKey {
        &self.key
    }

    /// Whether it asks for the same, so that one answer is both's.
    pub(super) fn is_duplicate_of(&self, other: &Self) -> bool {
        self.key == other.key && self.request.fingerprint == other.request.fingerprint
    }
}
