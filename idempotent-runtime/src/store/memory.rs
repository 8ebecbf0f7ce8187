//! The embedded store: one process, nothing to install, lost on exit.
//!
//! Records lie in 512 shards, each behind its own lock, so that calls with different keys seldom meet. A shard finds
//! its records by key in a hash table and by deadline in a heap: no call looks at all of them, and there is no
//! background task. Each claim removes up to two records that have expired; to the callers they are gone from the
//! moment that they expire, removed or not. [`purge_expired`](Store::purge_expired) removes them when no claims come.
//!
//! # Memory
//!
//! A record takes about 390 bytes, in which a key and a result of up to 254 bytes together are included; longer ones
//! take their length more, and recorded arguments theirs. The benchmark `memory_store` measures it. A store starts at 128 KiB.
//!
//! # Limits
//!
//! At the limit of [records](MemoryStoreBuilder::max_records) or [bytes](MemoryStoreBuilder::max_bytes) claims of new keys fail with
//! [`StoreErrorKind::Full`](super::StoreErrorKind::Full), after expired records have been removed. Nothing is ever evicted: that would license a
//! second run. A claimed run can always complete, since its effect has happened, so the bytes can exceed their limit
//! by the results of the runs that were under way, and by arguments that only a takeover recorded.

pub(crate) mod clock;
mod deadlines;
mod entry;
mod inline_bytes;
mod shard;
mod slots;
#[cfg(test)]
mod tests;
mod transitions;
mod usage;

use std::{fmt, sync::Arc, time::Duration};

use self::{transitions::Shared, usage::Usage};
use super::{
    BoxFuture, ClaimOutcome, ClaimRequest, Cursor, Finished, Outcome, Page, Record, RecordKey, Store, StoreResult,
    Subscription, Token, Transition, immediate::Immediate,
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
    shared: Arc<Shared>,
}

/// The settings of a [`MemoryStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MemoryStoreBuilder {
    max_records: usize,
    max_bytes: usize,
    clock: Option<Clock>,
}

impl MemoryStoreBuilder {
    /// How many records there can be: 10 million unless said otherwise.
    pub const fn max_records(mut self, records: usize) -> Self {
        self.max_records = records;
        self
    }

    /// How many bytes keys, results and recorded arguments can have together: 1 GiB unless said otherwise.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The clock that decides, instead of the system's.
    #[cfg(any(test, feature = "testing"))]
    pub fn clock(mut self, clock: &crate::testing::ManualClock) -> Self {
        self.clock = Some(Clock::Manual(clock.clone()));
        self
    }

    /// An empty store with these settings.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        let usage = Usage::new(self.max_records, self.max_bytes);
        let shared = Shared::new(usage, self.clock.unwrap_or_else(Clock::system));
        MemoryStore { shared: Arc::new(shared) }
    }
}

impl MemoryStore {
    /// An empty store with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// To choose limits.
    pub const fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder { max_records: 10_000_000, max_bytes: 1 << 30, clock: None }
    }

    /// How many records it holds, those included that have expired and are not removed yet.
    #[must_use]
    pub fn records(&self) -> usize {
        self.shared.usage.records()
    }

    /// How many bytes their keys, results and arguments have.
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
        f.debug_struct("MemoryStore").field("records", &self.records()).field("bytes", &self.bytes()).finish()
    }
}

/// All futures are ready when they are first polled, and do nothing before that.
impl Store for MemoryStore {
    fn claim<'a>(&'a self, key: &'a RecordKey, request: &'a ClaimRequest) -> BoxFuture<'a, StoreResult<ClaimOutcome>> {
        Box::pin(async move { self.shared.claim(key, request) })
    }

    fn renew<'a>(
        &'a self,
        key: &'a RecordKey,
        token: &'a Token,
        lease: Duration,
        ttl: Duration,
    ) -> BoxFuture<'a, StoreResult<Transition>> {
        Box::pin(async move { Ok(self.shared.renew(key, token, lease, ttl)) })
    }

    fn complete<'a>(
        &'a self,
        key: &'a RecordKey,
        token: &'a Token,
        outcome: &'a Outcome,
        ttl: Duration,
    ) -> BoxFuture<'a, StoreResult<Transition>> {
        Box::pin(async move { Ok(self.shared.complete(key, token, outcome, ttl)) })
    }

    fn release<'a>(&'a self, key: &'a RecordKey, token: &'a Token) -> BoxFuture<'a, StoreResult<Transition>> {
        Box::pin(async move { Ok(self.shared.release(key, token)) })
    }

    fn abandon<'a>(
        &'a self,
        key: &'a RecordKey,
        token: &'a Token,
        ttl: Duration,
    ) -> BoxFuture<'a, StoreResult<Transition>> {
        Box::pin(async move { Ok(self.shared.abandon(key, token, ttl)) })
    }

    fn fence<'a>(&'a self, key: &'a RecordKey, token: &'a Token) -> BoxFuture<'a, StoreResult<Option<u64>>> {
        Box::pin(async move { Ok(self.shared.fence(key, token)) })
    }

    fn forget<'a>(&'a self, key: &'a RecordKey) -> BoxFuture<'a, StoreResult<bool>> {
        Box::pin(async move { Ok(self.shared.forget(key)) })
    }

    fn inspect<'a>(&'a self, key: &'a RecordKey) -> BoxFuture<'a, StoreResult<Option<Record>>> {
        Box::pin(async move { Ok(self.shared.inspect(key)) })
    }

    fn list<'a>(
        &'a self,
        operation: Option<&'a str>,
        after: Option<&'a Cursor>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<Page>> {
        Box::pin(async move { self.shared.list(operation, after, limit) })
    }

    fn purge_expired(&self, limit: usize) -> BoxFuture<'_, StoreResult<usize>> {
        Box::pin(async move { Ok(self.shared.purge(limit)) })
    }

    fn subscribe<'a>(&'a self, key: &'a RecordKey) -> BoxFuture<'a, StoreResult<Subscription>> {
        Box::pin(async move { Ok(self.shared.hub.subscribe(key).0) })
    }

    fn immediate(&self) -> Option<&dyn Immediate> {
        Some(&*self.shared)
    }

    fn peek(&self, key: &RecordKey) -> Option<Finished> {
        self.shared.finished(key)
    }
}
