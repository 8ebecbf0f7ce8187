//! Duplicates in one process: the first leads, the others follow and share what it learns.
//!
//! ```text
//!  Claiming ──▶ Running ──▶ Over(Done | Vacant | Busy | Failed)
//!      │                      ▲
//!      └──────────────────────┘
//! ```
//!
//! In `Running` the body runs: under the leader, or elsewhere while the leader waits.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::context::CallContext;
use crate::{error::Error, lock::lock, store::Outcome};

/// The leader's progress, for its followers.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// The store was asked and has not answered yet.
    Claiming,
    /// The body runs, here or elsewhere; the claim lives until then unless it is renewed.
    Running { until: Instant },
    /// The leader has left.
    Over(FlightEnd),
}

/// The end of a flight: the leader's last word to its followers.
#[derive(Clone, Debug)]
pub(crate) enum FlightEnd {
    /// An outcome. `has_waited` if a run was waited for.
    Done { outcome: Outcome, has_waited: bool },
    /// Nothing: the next may lead.
    Vacant,
    /// A run that the leader waited for goes on, and the leader's patience is over.
    Busy { until: Instant },
    /// The key cannot be claimed: each follower gets this error, too.
    Failed(Error),
}

impl FlightEnd {
    /// The end of a flight whose leader is refused with this error.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::InFlight { retry_after } => Self::Busy { until: Instant::now() + *retry_after },
            // The limit was reached by this call, and is not a follower's: the next may lead.
            Error::TooManyWaiters => Self::Vacant,
            error => Self::Failed(error.clone()),
        }
    }
}

/// The meeting point of a leader and its followers. It lives in the leader's [`CallContext`].
pub(crate) struct Flight {
    progress: Mutex<Progress>,
    changed: Notify,
}

impl Flight {
    pub(crate) fn new() -> Self {
        Self { progress: Mutex::new(Progress::Claiming), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }

    /// Waits until `settled` holds for the leader's progress, and gives that.
    pub(crate) async fn progress_when(&self, settled: impl Fn(&Progress) -> bool) -> Progress {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Enabled before the look: a change between the look and the wait still wakes us.
            changed.as_mut().enable();
            {
                let progress = self.lock();
                if settled(&progress) {
                    return progress.clone();
                }
            }
            changed.await;
        }
    }

    /// The claim's new end, after a renewal. Wakes nobody.
    pub(crate) fn extend(&self, to: Instant) {
        if let Progress::Running { until } = &mut *self.lock() {
            *until = to.max(*until);
        }
    }
}

/// The leaders of the calls under way in this process, by the hash of their record key.
pub(crate) struct SingleFlight {
    shards: [Mutex<Leaders>; Self::SHARDS],
    /// The number of leaders, so that a call need not lock a shard where there is none.
    count: AtomicUsize,
    hasher: RandomState,
}

type Leaders = HashMap<u64, Arc<CallContext>, BuildHasherDefault<Hashed>>;

/// The part that a call takes among its duplicates.
pub(crate) enum Join {
    /// The first call of the key asks the store, for all.
    Leader(Leadership),
    /// A duplicate leads: this call shares its answer.
    Follower(Arc<CallContext>),
    /// A call that is no duplicate leads, or one whose key has the same hash: this one asks the store for itself.
    Alone,
}

impl SingleFlight {
    const SHARDS: usize = 16;

    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            count: AtomicUsize::new(0),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Leaders> {
        // Bits from the middle: a `HashMap` uses those at both ends of a hash.
        let index = (hash >> 32) as usize % Self::SHARDS;
        #[expect(clippy::indexing_slicing, reason = "the index was reduced to the number of shards")]
        lock(&self.shards[index])
    }

    fn hash(&self, call: &CallContext) -> u64 {
        self.hasher.hash_one(call.key.as_str())
    }

    /// True if another call of the key leads. A call that begins to lead at this moment may be missed.
    pub(crate) fn has_leader(&self, call: &CallContext) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let hash = self.hash(call);
        self.shard(hash).contains_key(&hash)
    }

    /// Joins the call to the others of its key.
    pub(crate) fn join(&self, call: &Arc<CallContext>) -> Join {
        #[cfg(feature = "testing")]
        if call.shared.limits.runs_duplicates {
            return Join::Alone;
        }
        let hash = self.hash(call);
        match self.shard(hash).entry(hash) {
            Entry::Vacant(vacant) => {
                vacant.insert(Arc::clone(call));
                self.count.fetch_add(1, Ordering::Relaxed);
                Join::Leader(Leadership { of: Some((Arc::clone(call), hash)) })
            }
            Entry::Occupied(leader) if leader.get().is_duplicate_of(call) => Join::Follower(Arc::clone(leader.get())),
            Entry::Occupied(_) => Join::Alone,
        }
    }
}

/// A hasher for keys that are hashes already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Leadership of a key's calls in this process. Ends with what [`end`](Self::end) says, or [`FlightEnd::Vacant`] when dropped.
pub(crate) struct Leadership {
    /// The leading call and its key's hash; `None` for a call that stands apart, and after the end.
    of: Option<(Arc<CallContext>, u64)>,
}

impl Leadership {
    /// Leads nobody.
    pub(crate) const fn of_nobody() -> Self {
        Self { of: None }
    }

    /// True if it leads nobody.
    pub(crate) const fn is_of_nobody(&self) -> bool {
        self.of.is_none()
    }

    /// Tells the followers that a body runs, here or elsewhere.
    pub(crate) fn running(&self, until: Instant) {
        if let Some((context, _)) = &self.of {
            *context.flight.lock() = Progress::Running { until };
            context.flight.changed.notify_waiters();
        }
    }

    /// Tells the followers how it ended, and makes way for the next call.
    pub(crate) fn end(mut self, end: FlightEnd) {
        self.leave(end);
    }

    fn leave(&mut self, end: FlightEnd) {
        let Some((context, hash)) = self.of.take() else { return };
        // Out of the map first: a follower that is woken before would join the same flight again.
        let flights = &context.shared.single_flight;
        flights.shard(hash).remove(&hash);
        flights.count.fetch_sub(1, Ordering::Relaxed);
        *context.flight.lock() = Progress::Over(end);
        context.flight.changed.notify_waiters();
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.leave(FlightEnd::Vacant);
    }
}
