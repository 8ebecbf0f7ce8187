//! The runs of a handle, counted so that a shutdown can wait for them.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The number of claims that are held or being given back.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    count: AtomicUsize,
    /// Notified when the count drops to zero.
    none: Notify,
}

impl Runs {
    pub(super) fn begin(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none.notify_waiters();
        }
    }

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
        for (method, key) in [(Method::Complete, "done"), (Method::Abandon, "abandoned")] {
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
}
