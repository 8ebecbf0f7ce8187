//! Steps without futures. A remote call may outlive its caller and must be followed up; an in-memory store answers
//! immediately.

use std::time::Duration;

use super::{ClaimOutcome, ClaimRequest, Outcome, RecordKey, StoreResult, Token, Transition};

/// The two steps of a usual run, for a store that never waits. Each does what the method of the same name of
/// [`Store`](super::Store) does.
///
/// Its records are read in this process alone. So their results may have a form that is no JSON: `inspect` and `list` show them as
/// JSON.
pub trait Immediate: Send + Sync {
    /// Claims a key, as [`Store::claim`](super::Store::claim) does.
    ///
    /// # Errors
    ///
    /// As there.
    fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome>;

    /// Completes a run, as [`Store::complete`](super::Store::complete) does.
    ///
    /// # Errors
    ///
    /// As there.
    fn complete(&self, key: &RecordKey, token: &Token, outcome: &Outcome, ttl: Duration) -> StoreResult<Transition>;
}
