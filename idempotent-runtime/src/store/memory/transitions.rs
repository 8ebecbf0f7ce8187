//! The transitions of a record. Each runs under the lock of its key's shard.

use std::{
    array,
    hash::{BuildHasher as _, Hasher as _},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use foldhash::fast::RandomState;

use super::{
    entry::{EntryState, Kept, MemoryEntry},
    inline_bytes::Beside,
    life::RestKind,
    shard::Shard,
    usage::{NoRoom, Size, Usage},
};
use crate::{
    lock::lock,
    store::{
        Appended, ClaimOutcome, ClaimRequest, Cursor, Finished, Outcome, Page, Past, Record, RecordKey, Resolution,
        ResolveRequest, Resolved, Step, StoreError, StoreErrorKind, StoreResult, Subscribers, Suspension, TakeOver,
        Token, Transition, Why,
        immediate::Immediate,
        memory::{
            clock,
            clock::{Clock, Moment},
        },
    },
};

/// With so many shards two threads seldom meet at one, and a shard grows within a fraction of a millisecond.
const SHARDS: usize = 512;

/// A claim that adds one record removes up to two of its shard, so expired records become fewer while claims arrive.
const EXPIRED_PER_CLAIM: usize = 2;

/// A page of a listing ends after it has looked at this many records, whether or not they belong to it.
const LISTED_PER_PAGE: usize = 10_000;

const FULL: &str = "the memory store is full of live records";
const FULL_OF_HELD: &str = "the memory store is full, and most of its records are held: nobody has ended their runs; look at them \
     with `list`, and have them reconciled, or forget those whose outcome is known";
const TOO_MANY_HELD: &str = "the memory store has as many held records as it may: runs of `abandoned = refuse` or `reconcile` that \
     nobody has ended; look at them with `list`, have them reconciled, or forget those whose outcome is known, or raise \
     `max_held_records`";

/// The records and counts that the handles of a store share.
pub(super) struct MemoryShared {
    shards: Box<[Padded]>,
    hasher: RandomState,
    clock: Clock,
    /// The last fence that was given out. It is one count for all keys, so that it rises for each key even after the
    /// key's record is gone.
    fence: AtomicU64,
    pub(super) usage: Usage,
    /// The shard at which the next search for expired records starts.
    sweep: AtomicUsize,
    pub(super) subscribers: Subscribers,
}

/// A shard on cache lines of its own: locks that share a line slow each other down.
#[derive(Default)]
#[repr(align(128))]
struct Padded(Mutex<Shard>);

/// A record that has not expired, under its shard's lock.
struct Live<'a> {
    shard: MutexGuard<'a, Shard>,
    slot: u32,
    now: Moment,
}

impl Live<'_> {
    fn entry(&self) -> Option<&MemoryEntry> {
        self.shard.get(self.slot)
    }

    fn change(&mut self, change: impl FnOnce(&mut MemoryEntry, Moment)) {
        let now = self.now;
        self.shard.change(self.slot, |entry| change(entry, now));
    }
}

impl MemoryShared {
    pub(super) fn new(usage: Usage, clock: Clock) -> Self {
        Self {
            shards: array::from_fn::<_, SHARDS, _>(|_| Padded::default()).into(),
            hasher: RandomState::default(),
            clock,
            fence: AtomicU64::new(clock::unix_micros()),
            usage,
            sweep: AtomicUsize::new(0),
            subscribers: Subscribers::new(),
        }
    }

    pub(super) fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        loop {
            let full = match self.try_claim(key, request) {
                Ok(outcome) => return Ok(outcome),
                // Time makes no room here.
                Err(NoRoom::Held) => TOO_MANY_HELD,
                // Expired records of other shards count against the limit until they are removed. Another claim may take
                // the room that this purge makes before this one tries again: then it purges again, until nothing is expired.
                Err(NoRoom::Full) if self.purge(1) > 0 => continue,
                Err(NoRoom::Full) if self.usage.held() > self.usage.records() / 2 => FULL_OF_HELD,
                Err(NoRoom::Full) => FULL,
            };
            return Err(StoreError::new(StoreErrorKind::Full, full));
        }
    }

    /// Tries to claim.
    fn try_claim(&self, key: &RecordKey, request: &ClaimRequest) -> Result<ClaimOutcome, NoRoom> {
        let (number, hash) = self.hash(key);
        let mut shard = self.lock(number);
        let now = self.clock.now();
        if let Some(slot) = shard.find(hash, key.as_str()) {
            if shard.get(slot).is_some_and(|entry| entry.expires() > now) {
                return self.claim_live(Live { shard, slot, now }, request).ok_or(NoRoom::Full);
            }
            self.remove(&mut shard, slot);
        }
        self.remove_due(&mut shard, now, EXPIRED_PER_CLAIM);

        let beside = Beside::of(request);
        let size = Size {
            bytes: key.as_str().len() + beside.len(),
            is_held: MemoryEntry::is_endless(now.plus(request.lease).plus(request.ttl)),
        };
        self.usage.admit(size)?;
        let entry = MemoryEntry::new(key, request, beside, now, self.next_fence());
        let token = entry.as_ref().map(MemoryEntry::token);
        if !entry.is_some_and(|entry| shard.insert(hash, entry)) {
            self.usage.dismiss(size);
            return Err(NoRoom::Full);
        }
        token.map(|token| ClaimOutcome::claimed(token, 1, Past::none(token.nonce))).ok_or(NoRoom::Full)
    }

    /// The answer to a claim of a record that has not expired.
    fn claim_live(&self, mut live: Live<'_>, request: &ClaimRequest) -> Option<ClaimOutcome> {
        let entry = live.entry()?;
        if *entry.fingerprint() != request.fingerprint {
            return Some(ClaimOutcome::Mismatch);
        }
        let attempt = entry.attempt();
        match entry.phase() {
            EntryState::Done(_) => return entry.finished().map(ClaimOutcome::Done),
            // This claim was granted before. Its lease is not moved: the claimer counts it from when it first asked.
            EntryState::Running { .. } if entry.token().nonce == request.nonce => {
                return Some(ClaimOutcome::claimed(entry.token(), attempt, entry.past(live.now)));
            }
            EntryState::Running { lease_end } if live.now < lease_end => {
                return Some(ClaimOutcome::InFlight { retry_after: live.now.until(lease_end) });
            }
            EntryState::Running { .. } | EntryState::Suspended(RestKind::Abandoned)
                if match request.take_over {
                    TakeOver::Never => true,
                    TakeOver::UnlessHeld => live.now.until(entry.expires()) > ClaimRequest::HELD,
                    TakeOver::Always => false,
                } =>
            {
                return Some(ClaimOutcome::Abandoned { attempt });
            }
            EntryState::Running { .. } | EntryState::Suspended(_) => {}
        }
        if let Some(retry_after) = entry.suspended_for(live.now) {
            return Some(ClaimOutcome::Suspended { retry_after, attempt });
        }
        // This claim was granted before, and its run has ended: a try that was delayed. Nobody would have the new run.
        if entry.token().nonce == request.nonce && matches!(entry.phase(), EntryState::Suspended(_)) {
            return Some(ClaimOutcome::ended(attempt));
        }
        let fence = self.next_fence();
        self.change(&mut live, |entry, now| entry.take_over(request, now, fence));
        let entry = live.entry()?;
        Some(ClaimOutcome::claimed(entry.token(), entry.attempt(), entry.past(live.now)))
    }

    pub(super) fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> Transition {
        let Some((mut live, EntryState::Running { .. })) = self.owned(key, token) else { return Transition::Lost };
        self.change(&mut live, |entry, now| entry.run_for(lease, ttl, now));
        Transition::Applied
    }

    pub(super) fn complete(&self, key: &RecordKey, token: &Token, outcome: &Outcome, ttl: Duration) -> Transition {
        // A large result is copied before the lock is taken, so that other keys of the shard do not wait for the copy.
        let kept = Kept::new(key, outcome);
        match self.owned(key, token) {
            Some((mut live, EntryState::Running { .. })) => {
                self.change(&mut live, |entry, now| entry.finish(kept, now.plus(ttl)));
                self.ended(live, key);
                Transition::Applied
            }
            Some((_, EntryState::Done(_))) => Transition::Applied,
            _ => Transition::Lost,
        }
    }

    pub(super) fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> Suspension {
        let Some(mut live) = self.live(key) else { return Suspension::Vacant };
        let Some(entry) = live.entry() else { return Suspension::Vacant };
        let by_us = entry.is_owned_by(token);
        match entry.phase() {
            EntryState::Done(_) => match entry.finished() {
                Some(finished) => Suspension::ended(finished.outcome, by_us),
                None => Suspension::Vacant,
            },
            _ if !by_us => Suspension::Taken,
            EntryState::Suspended(_) => Suspension::Applied,
            EntryState::Running { .. } => {
                let mut is_left = true;
                self.change(&mut live, |entry, now| is_left = entry.suspend(why, now, now.plus(not_before), keep));
                if !is_left {
                    self.remove(&mut live.shard, live.slot);
                }
                self.ended(live, key);
                Suspension::Applied
            }
        }
    }

    pub(super) fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> Appended {
        let Some((mut live, EntryState::Running { .. })) = self.owned(key, token) else { return Appended::Lost };
        let mut recorded = None;
        self.change(&mut live, |entry, now| {
            recorded = entry.append(step);
            entry.run_for(lease, ttl, now);
        });
        recorded.map_or(Appended::Applied, Appended::Recorded)
    }

    pub(super) fn steps(&self, key: &RecordKey, token: &Token) -> Option<Vec<Step>> {
        let (live, EntryState::Running { .. }) = self.owned(key, token)? else { return None };
        live.entry().map(MemoryEntry::steps)
    }

    pub(super) fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> Transition {
        let Some(mut live) = self.live(key) else { return Transition::Applied };
        let Some(entry) = live.entry().filter(|entry| entry.is_owned_by(token)) else { return Transition::Lost };
        match entry.phase() {
            EntryState::Running { .. } if entry.has_steps() => {
                self.change(&mut live, |entry, now| _ = entry.suspend(Why::Failed, now, now, keep));
            }
            EntryState::Running { .. } => self.remove(&mut live.shard, live.slot),
            EntryState::Suspended(RestKind::Failed) => return Transition::Applied,
            EntryState::Suspended(RestKind::Abandoned) | EntryState::Done(_) => return Transition::Lost,
        }
        self.ended(live, key);
        Transition::Applied
    }

    pub(super) fn fence(&self, key: &RecordKey, token: &Token) -> Option<u64> {
        let (live, EntryState::Running { .. }) = self.owned(key, token)? else { return None };
        live.entry()?.token().fence
    }

    pub(super) fn forget(&self, key: &RecordKey) -> bool {
        let Some(mut live) = self.live(key) else { return false };
        self.remove(&mut live.shard, live.slot);
        self.ended(live, key);
        true
    }

    pub(super) fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> Resolved {
        let kept = match &request.resolution {
            Resolution::Done(outcome) => Some(Kept::new(key, outcome)),
            Resolution::Failed | Resolution::Vacant => None,
        };
        let Some(mut live) = self.live(key) else { return request.of_vacant() };
        let Some(record) = live.entry().and_then(|entry| entry.record(live.now)) else { return request.of_vacant() };
        if let Some(answer) = request.answer(&record) {
            return answer;
        }
        match request.resolution {
            Resolution::Vacant => self.remove(&mut live.shard, live.slot),
            Resolution::Done(_) | Resolution::Failed => {
                self.change(&mut live, |entry, now| entry.resolve(request, kept, now));
            }
        }
        self.ended(live, key);
        Resolved::Applied
    }

    pub(super) fn inspect(&self, key: &RecordKey) -> Option<Record> {
        let live = self.live(key)?;
        live.entry()?.record(live.now)
    }

    pub(super) fn finished(&self, key: &RecordKey) -> Option<Finished> {
        self.live(key)?.entry()?.finished()
    }

    /// Removes up to `limit` expired records, wherever they are.
    pub(super) fn purge(&self, limit: usize) -> usize {
        let mut removed = 0;
        for _ in 0..SHARDS {
            if removed >= limit {
                break;
            }
            let mut shard = self.lock(self.sweep.fetch_add(1, Relaxed));
            removed += self.remove_due(&mut shard, self.clock.now(), limit - removed);
        }
        removed
    }

    pub(super) fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        let (first, mut slot) = match after {
            Some(cursor) => position(cursor)
                .ok_or_else(|| StoreError::new(StoreErrorKind::Refused, "the cursor was not made by this store"))?,
            None => (0, 0),
        };
        let mut page = Page::default();
        let mut seen = 0;
        for number in first..SHARDS {
            let shard = self.lock(number);
            let now = self.clock.now();
            for (next, entry) in shard.entries_from(slot) {
                seen += 1;
                let record = Some(entry).filter(|entry| entry.expires() > now).and_then(|entry| entry.record(now));
                page.records.extend(record.filter(|found| operation.is_none_or(|name| name == found.key.operation())));
                if page.records.len() >= limit.max(1) || seen >= LISTED_PER_PAGE {
                    page.next = Some(cursor(number, next));
                    return Ok(page);
                }
            }
            slot = 0;
        }
        Ok(page)
    }

    /// Hashes a key: the first half chooses the shard, the shard uses the second.
    fn hash(&self, key: &RecordKey) -> (usize, u32) {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_str().as_bytes());
        let hash = hasher.finish();
        #[expect(clippy::cast_possible_truncation, reason = "each half is wanted")]
        let halves = ((hash >> 32) as usize, hash as u32);
        halves
    }

    /// Locks the shard with this number; after the last number the count starts again at the first shard.
    fn lock(&self, number: usize) -> MutexGuard<'_, Shard> {
        #[expect(clippy::indexing_slicing, reason = "there are so many")]
        let Padded(shard) = &self.shards[number % SHARDS];
        lock(shard)
    }

    /// The key's record, unless it has expired.
    ///
    /// The time is read under the lock, after the record is found. Read before, a step could wait for the lock while
    /// another one renews the lease, and then judge the renewed record by a time that is older than the renewal.
    fn live(&self, key: &RecordKey) -> Option<Live<'_>> {
        let (number, hash) = self.hash(key);
        let shard = self.lock(number);
        let slot = shard.find(hash, key.as_str())?;
        let now = self.clock.now();
        let live = shard.get(slot)?.expires() > now;
        live.then_some(Live { shard, slot, now })
    }

    /// The key's record and its phase, if it is the token's.
    fn owned(&self, key: &RecordKey, token: &Token) -> Option<(Live<'_>, EntryState)> {
        let live = self.live(key)?;
        let phase = live.entry().filter(|entry| entry.is_owned_by(token))?.phase();
        Some((live, phase))
    }

    /// Changes a record, and counts what that changes.
    fn change(&self, live: &mut Live<'_>, change: impl FnOnce(&mut MemoryEntry, Moment)) {
        let before = live.entry().map(MemoryEntry::size);
        live.change(change);
        if let Some((before, after)) = before.zip(live.entry().map(MemoryEntry::size)) {
            self.usage.change(before, after);
        }
    }

    /// Unlocks, and then wakes the key's waiters. Woken under the lock, they would at once wait for it.
    fn ended(&self, live: Live<'_>, key: &RecordKey) {
        drop(live);
        self.subscribers.notify(key.as_str());
    }

    fn next_fence(&self) -> u64 {
        self.fence.fetch_add(1, Relaxed) + 1
    }

    fn remove(&self, shard: &mut Shard, slot: u32) {
        if let Some(entry) = shard.remove(slot) {
            self.usage.dismiss(entry.size());
        }
    }

    fn remove_due(&self, shard: &mut Shard, now: Moment, limit: usize) -> usize {
        let due = (0..limit).map_while(|_| shard.remove_due(now));
        due.map(|entry| self.usage.dismiss(entry.size())).count()
    }
}

impl Immediate for MemoryShared {
    fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        self.claim(key, request)
    }

    fn complete(&self, key: &RecordKey, token: &Token, outcome: &Outcome, ttl: Duration) -> StoreResult<Transition> {
        Ok(self.complete(key, token, outcome, ttl))
    }
}

fn cursor(shard: usize, slot: usize) -> Cursor {
    Cursor::new(format!("{shard}.{slot}"))
}

fn position(cursor: &Cursor) -> Option<(usize, usize)> {
    let (shard, slot) = cursor.as_str().split_once('.')?;
    Some((shard.parse().ok()?, slot.parse().ok()?))
}
