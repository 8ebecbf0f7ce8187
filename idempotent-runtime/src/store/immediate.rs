//! Steps that are taken at once. Whoever asks a store across a network has to see to what becomes of the question if its
//! caller goes away; a store in this process's memory has answered by then.

use std::time::Duration;

use super::{ClaimOutcome, ClaimRequest, Outcome, RecordKey, StoreResult, Token, Transition};

/// The steps of a usual run, as a store takes them that never waits. Each is that of the same name of
/// [`Store`](super::Store), without a future.
pub trait Immediate: Send + Sync {
    /// As [`Store::claim`](super::Store::claim).
    ///
    /// # Errors
    ///
    /// As there.
    fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome>;

    /// As [`Store::complete`](super::Store::complete).
    ///
    /// # Errors
    ///
    /// As there.
    fn complete(&self, key: &RecordKey, token: &Token, outcome: &Outcome, ttl: Duration) -> StoreResult<Transition>;
}
