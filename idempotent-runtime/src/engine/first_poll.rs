//! Renews the claims of bodies that keep their thread before they have waited for anything.
//!
//! A body that waits gets a task that renews its claim, when it has to wait first ([`Heartbeat`]). Most bodies that never wait have ended by
//! then, and should not pay for one. But a body may also compute, or block its thread, for longer than its lease. So each thread says which
//! bodies it polls for the first time, and one thread of the process looks for those that take a third of their lease, and renews their claims
//! on the runtime that they run on. It needs no timers there.

use std::{
    cell::OnceCell,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle, time::Instant};

use super::{
    claim::Claim,
    heartbeat::{Heartbeat, renew_once},
};
use crate::lock::lock;

/// The first polls that a thread is in, each within the one before.
#[derive(Default)]
struct Polls {
    under_way: Vec<FirstPoll>,
    /// True if there was one since the watcher's last look.
    were_any: bool,
}

struct FirstPoll {
    claim: Arc<Claim>,
    runtime: Handle,
    /// A renewal that was sent, and the time before which there is no further one.
    sent: Option<(AbortHandle, Instant)>,
}

impl FirstPoll {
    /// Sends a renewal if one is due, and gives the time until the next one.
    fn look(&mut self, now: Instant) -> Option<Duration> {
        if self.claim.is_lost() {
            return None;
        }
        let due = Heartbeat::first(&self.claim);
        let next = self.sent.as_ref().map_or(due, |(_, next)| due.max(*next));
        let left = next.saturating_duration_since(now);
        if !left.is_zero() {
            return Some(left);
        }
        // Its answer moves the time at which the next one is due. Without an answer it is asked again.
        let pause = (self.claim.context.request.lease / 30).max(Duration::from_millis(1));
        if self.sent.as_ref().is_none_or(|(renewal, _)| renewal.is_finished()) {
            let renewal = self.runtime.spawn(renew_once(Arc::clone(&self.claim)));
            self.sent = Some((renewal.abort_handle(), now + pause));
        } else if let Some((_, next)) = &mut self.sent {
            *next = now + pause;
        }
        Some(pause)
    }
}

impl Drop for FirstPoll {
    fn drop(&mut self) {
        if let Some((renewal, _)) = &self.sent {
            renewal.abort();
        }
    }
}

thread_local! {
    static POLLS: OnceCell<Arc<Mutex<Polls>>> = const { OnceCell::new() };
}

/// A first poll that is under way. Dropped, it has ended.
pub(super) struct Watched {
    polls: Arc<Mutex<Polls>>,
}

impl Watched {
    /// Begins the first poll of a body on this thread. `None` where there is no claim to renew, or no runtime to do it.
    pub(super) fn begin(claim: &Arc<Claim>) -> Option<Self> {
        if claim.token.is_none() || claim.context.is_exclusive() {
            return None;
        }
        let runtime = Handle::try_current().ok()?;
        let polls = POLLS.try_with(|polls| Arc::clone(polls.get_or_init(|| WATCHER.register()))).ok()?;
        {
            let mut polls = lock(&polls);
            polls.under_way.push(FirstPoll { claim: Arc::clone(claim), runtime, sent: None });
            polls.were_any = true;
        }
        WATCHER.look_every(claim.context.request.lease / 3);
        Some(Self { polls })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let ended = lock(&self.polls).under_way.pop();
        drop(ended);
    }
}

static WATCHER: Watcher =
    Watcher { period: AtomicU64::new(NEVER), thread: Mutex::new(None), of_threads: Mutex::new(Vec::new()) };

/// Looks at the first polls of all threads.
struct Watcher {
    /// The longest time between two looks, in ns. [`NEVER`] while nothing is polled.
    period: AtomicU64,
    thread: Mutex<Option<Thread>>,
    of_threads: Mutex<Vec<Weak<Mutex<Polls>>>>,
}

const NEVER: u64 = u64::MAX;

impl Watcher {
    fn register(&self) -> Arc<Mutex<Polls>> {
        let polls = Arc::default();
        lock(&self.of_threads).push(Arc::downgrade(&polls));
        polls
    }

    fn look_every(&'static self, period: Duration) {
        let period = u64::try_from(period.as_nanos()).unwrap_or(NEVER - 1);
        if period < self.period.load(Ordering::SeqCst) {
            self.hurry(period);
        }
    }

    #[cold]
    fn hurry(&'static self, period: u64) {
        self.period.fetch_min(period, Ordering::SeqCst);
        let mut thread = lock(&self.thread);
        if let Some(thread) = &*thread {
            return thread.unpark();
        }
        let started = thread::Builder::new().name("idempotent-watch".to_owned()).spawn(|| self.watch());
        match started {
            Ok(started) => *thread = Some(started.thread().clone()),
            // Without a thread to spare, the next poll tries again.
            Err(_) => self.period.store(NEVER, Ordering::SeqCst),
        }
    }

    fn watch(&self) {
        loop {
            match self.look() {
                Some(pause) => thread::park_timeout(pause),
                None => thread::park(),
            }
        }
    }

    /// Looks at all, and gives the time until the next look; `None` if that may wait for a first poll.
    fn look(&self) -> Option<Duration> {
        let period = self.period.load(Ordering::SeqCst);
        if let Some(next) = self.look_at_each(period) {
            return Some(next);
        }
        // A first poll that begins from here on finds this, and unparks the thread. One that has begun before is seen now.
        self.period.store(NEVER, Ordering::SeqCst);
        let next = self.look_at_each(period)?;
        self.period.fetch_min(period, Ordering::SeqCst);
        Some(next)
    }

    /// `None` if there was no first poll since the last look.
    fn look_at_each(&self, period: u64) -> Option<Duration> {
        let (mut were_any, mut next, now) = (false, Duration::from_nanos(period), Instant::now());
        lock(&self.of_threads).retain(|polls| {
            let Some(polls) = polls.upgrade() else { return false };
            let mut polls = lock(&polls);
            were_any |= std::mem::take(&mut polls.were_any) || !polls.under_way.is_empty();
            let lefts = polls.under_way.iter_mut().filter_map(|poll| poll.look(now));
            next = lefts.fold(next, Duration::min);
            true
        });
        were_any.then_some(next)
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::{
        future::{Future, pending},
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use tokio::runtime::Builder;

    use super::*;
    use crate::{
        Error, Idempotency, Operation,
        store::memory::MemoryStore,
        testing::{FaultyStore, Method},
    };

    const LEASE: Duration = Duration::from_millis(600);

    fn operation() -> Operation {
        Operation::new("charge").lease(LEASE).wait(Duration::ZERO)
    }

    fn poll_once<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// Where nothing can wait, a body that never does is renewed all the same, and nothing panics.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a body that keeps its thread")]
    fn a_runtime_needs_no_timers() {
        let store = MemoryStore::new();
        let (ours, theirs) = (Idempotency::new(store.clone()), Idempotency::new(store));
        let body = async {
            thread::sleep(LEASE * 3);
            let other = theirs.call(operation()).key("key").run(async { Ok::<_, Error>(2) });
            assert!(matches!(poll_once(other), Some(Err(Error::InFlight { .. }))));
            Ok::<_, Error>(1)
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        assert_eq!(runtime.block_on(ours.call(operation()).key("key").run(body)).unwrap(), 1);
    }

    /// The task that renews goes with the runtime that it was started on.
    #[test]
    fn a_call_that_goes_on_in_another_runtime_is_renewed_there() {
        let store = FaultyStore::new(MemoryStore::new());
        let idempotency = Idempotency::new(store.clone());
        let mut call = pin!(idempotency.call(operation()).key("key").run(pending::<Result<u32, Error>>()));
        let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
        let first = runtime();
        {
            let _context = first.enter();
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        drop(first);
        runtime().block_on(async {
            tokio::select! {
                _ = call => unreachable!("it waits"),
                () = store.called(Method::Renew, 3) => {}
            }
        });
    }
}
