//! The embedded store: one process, nothing to install, lost on exit.
//!
//! Records lie in 512 shards, each behind its own lock, so that calls with different keys seldom meet. A shard finds
//! its records by key in a hash table and by deadline in a heap: no call looks at all of them, and there is no
//! background task. Each claim that adds a record removes up to two others that have expired. For callers, a record is gone
//! from the moment that it expires, removed or not. [`purge_expired`](Store::purge_expired) removes such records when no
//! claims come.
//!
//! # Memory
//!
//! A record takes about 390 bytes. This includes its key and result, if they have up to 246 bytes together. Longer ones take
//! their length in addition, and so do recorded arguments and steps. The benchmark `memory_store` measures it. An empty store takes
//! 128 KiB.
//!
//! # Limits
//!
//! At the limit of [records](MemoryStoreBuilder::max_records) or [bytes](MemoryStoreBuilder::max_bytes) claims of new
//! keys fail with [`StoreErrorKind::Full`](super::StoreErrorKind::Full), after expired records have been removed.
//! Nothing is ever evicted: that would license a second run. A claimed run can always complete, since its effect has
//! happened. So the bytes can exceed their limit: by the results and steps of the runs that were under way, and by arguments
//! that only a takeover recorded.
//!
//! *Held* records have no end: those of runs under `abandoned = refuse` or `reconcile` that are under way, or that nobody has
//! ended. Such runs are refused beyond a [limit of their own](MemoryStoreBuilder::max_held_records), so that what nobody ends
//! does not take the room of all other calls. The error says so. A key that has a record already is claimed beyond that limit.
//! [`held_records`](MemoryStore::held_records) counts them; with the feature `metrics` so does the gauge
//! `idempotent_memory_held_records`, for all embedded stores of the process.

pub(crate) mod clock;
mod deadlines;
mod entry;
mod inline_bytes;
mod life;
mod shard;
mod slots;
#[cfg(test)]
mod tests;
mod transitions;
mod usage;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use self::{transitions::MemoryShared, usage::Usage};
use super::{
    Appended, ClaimOutcome, ClaimRequest, Cursor, Finished, Outcome, Page, Record, RecordKey, ResolveRequest, Resolved,
    Step, Store, StoreResult, Subscription, Suspension, Token, Transition, Why, immediate::Immediate,
};
use crate::store::memory::clock::Clock;

/// The embedded store. Cloning is cheap and shares the records.
///
/// ```
/// use idempotent_runtime::store::memory::MemoryStore;
///
/// let store = MemoryStore::builder().max_records(100_000).max_bytes(64 << 20).build();
/// assert_eq!(store.records(), 0);
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<MemoryShared>,
}

/// The settings of a [`MemoryStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MemoryStoreBuilder {
    max_records: usize,
    max_held_records: Option<usize>,
    max_bytes: usize,
    clock: Option<Clock>,
}

impl MemoryStoreBuilder {
    /// Sets the limit of records: 10 million by default.
    pub const fn max_records(mut self, records: usize) -> Self {
        self.max_records = records;
        self
    }

    /// Sets the limit of records that are held, and so have no end: half of all records by default. See the [module](self).
    pub const fn max_held_records(mut self, records: usize) -> Self {
        self.max_held_records = Some(records);
        self
    }

    /// Sets the limit of bytes of keys, results and recorded arguments together: 1 GiB by default.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the clock that decides, instead of the system's.
    #[cfg(any(test, feature = "testing"))]
    pub fn clock(mut self, clock: &crate::testing::ManualClock) -> Self {
        self.clock = Some(Clock::Manual(clock.clone()));
        self
    }

    /// An empty store with these settings.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        let max_held = self.max_held_records.unwrap_or(self.max_records.div_ceil(2));
        let usage = Usage::new(self.max_records, max_held, self.max_bytes);
        let shared = MemoryShared::new(usage, self.clock.unwrap_or_else(Clock::system));
        MemoryStore { shared: Arc::new(shared) }
    }
}

impl MemoryStore {
    /// An empty store with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts with the default limits.
    pub const fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder { max_records: 10_000_000, max_held_records: None, max_bytes: 1 << 30, clock: None }
    }

    /// The number of records. It includes those that have expired and are not removed yet.
    #[must_use]
    pub fn records(&self) -> usize {
        self.shared.usage.records()
    }

    /// The number of those that are held. See the [module](self).
    #[must_use]
    pub fn held_records(&self) -> usize {
        self.shared.usage.held()
    }

    /// The number of bytes of their keys, results and arguments.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.usage.bytes()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.records())
            .field("held", &self.held_records())
            .field("bytes", &self.bytes())
            .finish()
    }
}

/// Each future does its step when it is first polled, and is ready then.
#[async_trait]
impl Store for MemoryStore {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        self.shared.claim(key, request)
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        Ok(self.shared.renew(key, token, lease, ttl))
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        Ok(self.shared.complete(key, token, outcome, ttl))
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        Ok(self.shared.release(key, token, keep))
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        Ok(self.shared.suspend(key, token, why, not_before, keep))
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        Ok(self.shared.append(key, token, step, lease, ttl))
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        Ok(self.shared.steps(key, token))
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        Ok(self.shared.fence(key, token))
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        Ok(self.shared.forget(key))
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        Ok(self.shared.resolve(key, request))
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        Ok(self.shared.inspect(key))
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.shared.list(operation, after, limit)
    }

    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        Ok(self.shared.purge(limit))
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        Ok(self.shared.subscribers.subscribe(key).0)
    }

    fn immediate(&self) -> Option<&dyn Immediate> {
        Some(&*self.shared)
    }

    fn peek(&self, key: &RecordKey) -> Option<Finished> {
        self.shared.finished(key)
    }
}
