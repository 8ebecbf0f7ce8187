//! Duplicates in one process: the first leads, the others follow and share what it learns.
//!
//! ```text
//!  Claiming ──▶ Running ──▶ Over(Done | Vacant)
//!      │                      ▲
//!      ├──▶ Waiting ──────────┤   (another process runs; the leader waits for all)
//!      └──▶ Over(Failed | Busy | Done)
//! ```

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::context::Context;
use crate::{error::Error, store::Finished};

/// Where the leader stands, for its followers.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// The store was asked and has not answered yet.
    Claiming,
    /// The body runs, here or elsewhere; the claim lives until then unless it is renewed.
    Running { until: Instant },
    /// The leader has left.
    Over(End),
}

/// What the leader learned.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// A result; `waited` if a run was waited for.
    Done { finished: Finished, waited: bool },
    /// Nothing: the next may lead.
    Vacant,
    /// Another process is running, and the leader did not want to wait for it any longer.
    Busy { until: Instant },
    /// Why the key cannot be claimed, which holds for all who ask now.
    Failed(Error),
}

/// The meeting point itself. Lives in the leader's [`Context`].
pub(crate) struct Flight {
    phase: Mutex<Phase>,
    changed: Notify,
}

impl Flight {
    pub(crate) fn new() -> Self {
        Self { phase: Mutex::new(Phase::Claiming), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the phase is not what `settled` refuses, and answers it.
    pub(crate) async fn phase_when(&self, settled: impl Fn(&Phase) -> bool) -> Phase {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            {
                let phase = self.lock();
                if settled(&phase) {
                    return phase.clone();
                }
            }
            changed.await;
        }
    }

    /// The claim's new end, after a renewal. Wakes nobody.
    pub(crate) fn extend(&self, to: Instant) {
        if let Phase::Running { until } = &mut *self.lock() {
            *until = to;
        }
    }
}

/// The leaders of the calls under way in this process, by the hash of their record key.
pub(crate) struct Flights {
    shards: [Mutex<Leaders>; Self::SHARDS],
    /// How many there are, for those who need not look if there is none.
    count: AtomicUsize,
    hasher: RandomState,
}

type Leaders = HashMap<u64, Arc<Context>, BuildHasherDefault<Hashed>>;

/// How a call takes part.
pub(crate) enum Joined {
    /// It is the first: it asks the store, for all.
    Lead(Lead),
    /// Another with the same fingerprint leads.
    Follow(Arc<Context>),
    /// Another with another fingerprint leads, or one whose key has the same hash: this one asks the store for itself.
    Apart,
}

impl Flights {
    const SHARDS: usize = 16;

    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            count: AtomicUsize::new(0),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Leaders> {
        // From the middle: a map looks at both ends of its hashes.
        let index = (hash >> 32) as usize % Self::SHARDS;
        #[expect(clippy::indexing_slicing, reason = "the index was reduced to the number of shards")]
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hash(&self, call: &Context) -> u64 {
        self.hasher.hash_one(call.key.as_str())
    }

    /// Whether another call of the key leads. One that begins to at this moment may be missed.
    pub(crate) fn has_leader(&self, call: &Context) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let hash = self.hash(call);
        self.shard(hash).contains_key(&hash)
    }

    /// Joins the call to the others of its key.
    pub(crate) fn join(&self, call: &Arc<Context>) -> Joined {
        let hash = self.hash(call);
        match self.shard(hash).entry(hash) {
            Entry::Vacant(vacant) => {
                vacant.insert(Arc::clone(call));
                self.count.fetch_add(1, Ordering::Relaxed);
                Joined::Lead(Lead { of: Some((Arc::clone(call), hash)) })
            }
            Entry::Occupied(leader) if leader.get().is_duplicate_of(call) => Joined::Follow(Arc::clone(leader.get())),
            Entry::Occupied(_) => Joined::Apart,
        }
    }
}

/// The hash of what is hashed already.
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

/// Leadership of a key's calls in this process. Ends with what [`end`](Self::end) says, or [`End::Vacant`] when dropped.
pub(crate) struct Lead {
    /// The leading call and its key's hash; `None` for a call that stands apart, and after the end.
    of: Option<(Arc<Context>, u64)>,
}

impl Lead {
    /// Leads nobody.
    pub(crate) const fn apart() -> Self {
        Self { of: None }
    }

    /// Whether it leads nobody.
    pub(crate) const fn is_apart(&self) -> bool {
        self.of.is_none()
    }

    /// Tells the followers that a body runs, here or elsewhere.
    pub(crate) fn running(&self, until: Instant) {
        if let Some((context, _)) = &self.of {
            *context.flight.lock() = Phase::Running { until };
            context.flight.changed.notify_waiters();
        }
    }

    /// Tells the followers how it ended, and makes way for the next call.
    pub(crate) fn end(mut self, end: End) {
        self.leave(end);
    }

    fn leave(&mut self, end: End) {
        let Some((context, hash)) = self.of.take() else { return };
        // First out of the map, so that a follower that is woken does not join the same flight again.
        let flights = &context.shared.flights;
        flights.shard(hash).remove(&hash);
        flights.count.fetch_sub(1, Ordering::Relaxed);
        *context.flight.lock() = Phase::Over(end);
        context.flight.changed.notify_waiters();
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.leave(End::Vacant);
    }
}
