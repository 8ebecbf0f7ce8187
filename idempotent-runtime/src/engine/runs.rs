//! The runs of a handle, counted so that a shutdown can wait for them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use super::shared::Shared;

/// Counts a run, or a claim that is being asked for or given back, until it is dropped.
pub(super) struct RunGuard(Arc<Shared>);

impl RunGuard {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.runs.count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        let runs = &self.0.runs;
        if runs.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            runs.none.notify_waiters();
        }
    }
}

/// The number of runs that have not ended, and of claims that are being asked for or given back.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    count: AtomicUsize,
    /// Notified when the count drops to zero.
    none: Notify,
}

impl Runs {
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until there is none.
    pub(crate) async fn none(&self) {
        loop {
            // Before the look at the count: in the other order, the last run could end between the two.
            let none = self.none.notified();
            if self.count() == 0 {
                return;
            }
            none.await;
        }
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::{sync::oneshot, time::timeout};

    use crate::{
        Error, Idempotency,
        store::memory::MemoryStore,
        testing::{Fault, FaultyStore, Gate, Method},
    };

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_detached_runs_whose_callers_are_gone() {
        let idempotency = Idempotency::memory();
        assert_eq!(idempotency.drain(Duration::ZERO).await, 0);
        let (finish, finished) = oneshot::channel();
        let run = idempotency.call("mail").key("m-1").detached();
        let run = run.run(async move { Ok::<_, Error>(finished.await.unwrap()) });
        assert!(timeout(Duration::from_secs(1), run).await.is_err(), "its caller goes away");
        assert_eq!(idempotency.drain(Duration::from_secs(1)).await, 1, "it is said what is left");

        let other_handle = idempotency.clone();
        let drained = tokio::spawn(async move { other_handle.drain(LONG).await });
        tokio::task::yield_now().await;
        assert!(!drained.is_finished());
        finish.send(7).unwrap();
        assert_eq!(drained.await.unwrap(), 0);
        assert_eq!(idempotency.call("mail").key("m-1").run(async { Ok::<_, Error>(8) }).await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_what_is_recorded_in_the_background() {
        let store = FaultyStore::new(MemoryStore::new());
        let idempotency = Idempotency::new(store.clone());
        for (method, key) in [(Method::Complete, "done"), (Method::Suspend, "abandoned")] {
            let gate = Gate::new();
            store.next(method, [Fault::HoldBefore(gate.clone())]);
            let body = async move { if key == "done" { Ok::<_, Error>(1) } else { pending().await } };
            let run = idempotency.call("mail").key(key).run(body);
            assert!(timeout(Duration::from_secs(1), run).await.is_err(), "its caller goes away");
            assert_eq!(idempotency.drain(Duration::from_secs(1)).await, 1, "{key}");
            gate.open();
            assert_eq!(idempotency.drain(LONG).await, 0, "{key}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_claims_that_are_given_back() {
        let store = FaultyStore::new(MemoryStore::new());
        let idempotency = Idempotency::new(store.clone());
        let gate = Gate::new();
        store.next(Method::Claim, [Fault::HoldAfter(gate.clone())]);
        let run = idempotency.call("mail").key("k").run(async { Ok::<_, Error>(1) });
        assert!(timeout(Duration::from_secs(1), run).await.is_err(), "its caller goes away");
        assert_eq!(idempotency.drain(Duration::from_secs(1)).await, 1);
        gate.open();
        assert_eq!(idempotency.drain(LONG).await, 0);
        assert!(idempotency.inspect("mail", "k").await.unwrap().is_none(), "given back");
    }

    #[tokio::test(start_paused = true)]
    async fn draining_does_not_wait_for_an_execution_that_is_kept() {
        let idempotency = Idempotency::memory();
        let execution = idempotency.call("mail").key("k");
        let kept = std::sync::Mutex::new(None);
        let body = async {
            *kept.lock().unwrap() = crate::Execution::current();
            Ok::<_, Error>(1)
        };
        execution.run(body).await.unwrap();
        assert!(kept.lock().unwrap().is_some());
        assert_eq!(idempotency.drain(Duration::ZERO).await, 0);
    }

    /// Nobody else can take a held key, and nobody else will end it.
    #[tokio::test(start_paused = true)]
    async fn a_held_key_is_completed_when_the_store_is_back() {
        let store = FaultyStore::new(MemoryStore::new());
        let idempotency = Idempotency::new(store.clone());
        let operation = crate::Operation::new("mail").abandoned(crate::OnAbandoned::Refuse);
        store.always(Method::Complete, Fault::LOST_REQUEST);
        let call = idempotency.call(&operation).key("k").run(async { Ok::<_, Error>(7) });
        assert_eq!(call.await.unwrap(), 7, "the store is away for longer than the lease");
        store.always(Method::Complete, Fault::Delay(Duration::ZERO));
        assert_eq!(idempotency.drain(LONG).await, 0);
        let repeat = idempotency.call(&operation).key("k").run(async { Ok::<_, Error>(8) });
        assert_eq!(repeat.await.unwrap(), 7);
    }
}
