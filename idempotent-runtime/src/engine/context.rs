//! What one call is about: shared by everything that happens on its behalf.

use std::time::Duration;

use super::single_flight::Flight;
use crate::{
    idempotency::Idempotency,
    store::{ClaimRequest, RecordKey, Store},
};

/// A call on its way through the engine.
pub(crate) struct Context {
    pub(super) handle: Idempotency,
    pub(super) key: RecordKey,
    /// What the call claims with first; a later claim that must not be mistaken for it has a nonce of its own.
    pub(super) request: ClaimRequest,
    pub(super) wait: Duration,
    /// Where duplicates in this process meet, if this call leads them.
    pub(super) flight: Flight,
}

impl Context {
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.handle.inner.store
    }

    pub(crate) fn key(&self) -> &RecordKey {
        &self.key
    }

    /// Whether it asks for the same, so that one answer is both's.
    pub(super) fn is_duplicate_of(&self, other: &Self) -> bool {
        self.key == other.key && self.request.fingerprint == other.request.fingerprint
    }
}
