//! Keeps finished records in this process, in front of a store, and answers repeats without a round trip.
//!
//! An entry repeats what the store itself said. It is shown for nine tenths of the time that the record had left, and for
//! [`MAX_AGE`] at most; both count from before the store was asked. So the entry is gone before the record expires on the
//! store's clock, and what others do to the record (`forget`, `resolve`) is seen within `MAX_AGE`, whatever was under way meanwhile.
//!
//! A completion does not tell which request it belongs to. A repeated completion does not tell when the first one was
//! applied. So a granted claim leaves an entry, and the first completion takes it. A result that another process completed
//! is looked up by its first repeat here, since the answer to a claim does not tell how long the record will be kept.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use foldhash::fast::RandomState;
use quick_cache::{
    OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use tokio::time::Instant;

use super::{
    Appended, ClaimOutcome, ClaimRequest, Cursor, DeadLetters, Finished, Nonce, Outcome, Page, Record, RecordKey,
    ResolveRequest, Resolved, State, Step, Store, StoreResult, Subscription, Suspension, Token, Transactional,
    Transition, Why, immediate::Immediate,
};
use crate::{codec::compact, request::fingerprint::Fingerprint};

/// The longest time that an entry is shown.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(60);

/// The bytes that an entry takes besides its key and its result, as measured.
const ENTRY_LEN: usize = 300;

/// The least bytes of a shard, if there are several. A result that takes more than half of a shard is not kept.
const SHARD_LEN: usize = 4 << 20;
const MAX_SHARDS: usize = 64;

/// A store with a cache in front.
pub(crate) struct LocalCache {
    store: Arc<dyn Store>,
    entries: Cache<RecordKey, CachedRun, Weight, RandomState>,
    /// Counts what operators do through this handle, `forget` and `resolve`. An answer is not kept if the count rose while the
    /// store was asked: the answer may be older than the change, which has removed the entry already.
    changes: AtomicU64,
}

#[derive(Clone)]
enum CachedRun {
    /// Claimed here, and not completed yet.
    Running {
        nonce: Nonce,
        fingerprint: Fingerprint,
        attempt: u32,
    },
    Done {
        finished: Finished,
        until: Instant,
    },
}

/// The moment at which the store was asked: the time, and the number of changes by operators so far.
#[derive(Clone, Copy)]
struct AskedAt {
    at: Instant,
    changes: u64,
}

impl LocalCache {
    #[expect(clippy::expect_used, reason = "it fails for a capacity that was forgotten")]
    pub(crate) fn new(store: Arc<dyn Store>, max_bytes: usize) -> Self {
        let options = OptionsBuilder::new()
            .weight_capacity(max_bytes as u64)
            .estimated_items_capacity(max_bytes / ENTRY_LEN)
            .shards((max_bytes / SHARD_LEN).clamp(1, MAX_SHARDS))
            // Half of the room is for entries that were asked for again: repeats come soon after the first call, and
            // entries are short-lived.
            .hot_allocation(0.5)
            // No ghosts: they would remember evicted keys in memory that `Weight` does not count.
            .ghost_allocation(0.0)
            .build()
            .expect("both capacities are set");
        let entries = Cache::with_options(options, Weight, RandomState::default(), DefaultLifecycle::default());
        Self { store, entries, changes: AtomicU64::new(0) }
    }

    fn asked(&self) -> AskedAt {
        AskedAt { at: Instant::now(), changes: self.changes.load(SeqCst) }
    }

    /// Keeps a finished record that the store keeps for at least `left` from when it was asked.
    fn keep(&self, key: &RecordKey, finished: Finished, left: Duration, asked: AskedAt) {
        // An operator may have a message worked off again that was given up.
        if matches!(finished.outcome, Outcome::Exhausted | Outcome::Dead) {
            drop(self.entries.remove(key));
            return;
        }
        // Shows it for a tenth less, since the two clocks may run at different rates.
        let until = asked.at + MAX_AGE.min(left.saturating_sub(left / 10));
        self.entries.insert(key.clone(), CachedRun::Done { finished, until });
        if self.changes.load(SeqCst) != asked.changes {
            self.entries.remove(key);
        }
    }

    /// Drops the entry of a record that an operator may have changed, whatever the store has answered.
    fn changed(&self, key: &RecordKey) {
        self.changes.fetch_add(1, SeqCst);
        self.entries.remove(key);
    }

    /// Reads the record, and keeps it if it is finished.
    async fn look(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        let asked = self.asked();
        let record = self.store.inspect(key).await?;
        match &record {
            Some(Record { fingerprint, attempt, state: State::Done(outcome), expires_in, .. }) => {
                let finished = Finished::new(*fingerprint, *attempt, own(outcome));
                self.keep(key, finished, *expires_in, asked);
            }
            _ => drop(self.entries.remove(key)),
        }
        Ok(record)
    }
}

/// Copies an outcome into its own allocation: the original may be a slice of a larger buffer, and would keep that alive. A result gets
/// the form that is read faster.
fn own(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Ok(bytes) => Outcome::Ok(compact::of_json(bytes).unwrap_or_else(|| Bytes::copy_from_slice(bytes))),
        Outcome::Err(bytes) => Outcome::Err(Bytes::copy_from_slice(bytes)),
        Outcome::NotKept(_) | Outcome::Exhausted | Outcome::Dead => outcome.clone(),
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<RecordKey, CachedRun> for Weight {
    fn weight(&self, key: &RecordKey, entry: &CachedRun) -> u64 {
        let result = match entry {
            CachedRun::Running { .. } => 0,
            CachedRun::Done { finished, .. } => finished.outcome.len(),
        };
        (ENTRY_LEN + key.as_str().len() + result) as u64
    }
}

/// The `Debug` of the cache itself would show keys.
impl fmt::Debug for LocalCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCache")
            .field("store", &self.store)
            .field("entries", &self.entries.len())
            .field("bytes", &self.entries.weight())
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for LocalCache {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        let answer = self.store.claim(key, request).await;
        match &answer {
            Ok(ClaimOutcome::Claimed { token, attempt, .. }) => {
                let (nonce, fingerprint) = (token.nonce, request.fingerprint);
                self.entries.insert(key.clone(), CachedRun::Running { nonce, fingerprint, attempt: *attempt });
            }
            // The claim has its answer already. If the look fails, nothing is cached.
            Ok(ClaimOutcome::Done(_)) => drop(self.look(key).await),
            _ => {}
        }
        answer
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        self.store.renew(key, token, lease, ttl).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        let run = self.entries.remove(key).map(|(_, entry)| entry);
        let asked = self.asked();
        let answer = self.store.complete(key, token, outcome, ttl).await;
        if let (Some(CachedRun::Running { nonce, fingerprint, attempt }), Ok(Transition::Applied)) = (run, &answer)
            && nonce == token.nonce
        {
            self.keep(key, Finished::new(fingerprint, attempt, own(outcome)), ttl, asked);
        }
        answer
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        self.store.release(key, token, keep).await
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        self.store.suspend(key, token, why, not_before, keep).await
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        self.store.append(key, token, step, lease, ttl).await
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        self.store.steps(key, token).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        self.store.fence(key, token).await
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        let answer = self.store.forget(key).await;
        self.changed(key);
        answer
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        let answer = self.store.resolve(key, request).await;
        self.changed(key);
        answer
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.look(key).await
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.store.list(operation, after, limit).await
    }

    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        self.store.purge_expired(limit).await
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        self.store.subscribe(key).await
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        self.store.dead_letters()
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        self.store.transactional()
    }

    /// `None`, since a step that goes past the cache would leave no entry.
    fn immediate(&self) -> Option<&dyn Immediate> {
        None
    }

    fn peek(&self, key: &RecordKey) -> Option<Finished> {
        let finished = self.at_hand(key)?;
        Some(Finished { outcome: compact::shown(finished.outcome), ..finished })
    }

    fn at_hand(&self, key: &RecordKey) -> Option<Finished> {
        match self.entries.get(key) {
            Some(CachedRun::Done { finished, until }) if Instant::now() < until => Some(finished),
            _ => self.store.at_hand(key),
        }
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests;
