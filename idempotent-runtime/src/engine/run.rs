//! *Run*: the body under its claim, from its start to its end.
//!
//! | ending | what the record becomes |
//! |---|---|
//! | `Ok`, or an `Err` that is kept | done, with the result or, where that cannot be kept, without |
//! | another `Err` | vacant; failed, if the key has steps, or runs are counted or paused |
//! | another `Err`, and a step is in doubt | abandoned |
//! | panic, dropped future | abandoned |
//! | the body did not start | as before the claim |
//! | crash, or the store out of reach for all of the above | running until its lease lapses |
//!
//! The body's end and its record are one step from here on: once the body has returned, dropping the caller's future
//! does not stop the recording.

use std::{ops::ControlFlow, sync::Arc};

use tokio::time::Instant;

use super::{
    background::{FinishInBackground, finish_later},
    claim::Claim,
    disposition::Disposition,
    first_poll::Watched,
    heartbeat::Heartbeat,
    record::{RunEnd, record, record_at_once},
    reply::Answer,
    runs::RunGuard,
    single_flight::{Join, Leadership},
};
use crate::{
    error::Error,
    store::{StoreError, StoreErrorKind},
};

/// A claim whose body may run. Dropped before [`finish`](Self::finish), it is abandoned.
pub(super) struct Run {
    claim: Arc<Claim>,
    /// `None` once it is finished.
    leadership: Option<Leadership>,
    heartbeat: Option<Heartbeat>,
    /// `None` once what is left of it has gone to the background.
    guard: Option<RunGuard>,
    /// True once the body had to wait for something.
    has_waited: bool,
}

impl Run {
    pub(super) fn start(claim: Claim, leadership: Leadership) -> Self {
        leadership.running(claim.lease_end());
        let guard = Some(RunGuard::new(&claim.context.shared));
        Self { claim: Arc::new(claim), leadership: Some(leadership), heartbeat: None, guard, has_waited: false }
    }

    pub(super) const fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    pub(super) fn attempt(&self) -> u32 {
        self.claim.attempt
    }

    /// The disposition of a call that is answered by this run.
    fn disposition(&self) -> Disposition {
        match self.claim.attempt {
            _ if self.claim.token.is_none() => Disposition::Unprotected,
            1 => Disposition::Executed,
            _ => Disposition::TookOver,
        }
    }

    /// Tells that it is too late to start the body.
    pub(super) fn is_late(&self) -> bool {
        self.claim.token.is_some() && Instant::now() >= self.claim.until()
    }

    /// Begins a poll of the body. `None` if its claim is renewed already, or cannot be.
    pub(super) fn watch(&self) -> Option<Watched> {
        if self.heartbeat.is_some() { None } else { Watched::begin(&self.claim) }
    }

    /// Renews the claim from now on, and lets duplicates follow: the body has to wait for something.
    pub(super) fn keep_alive(&mut self, watched: Option<Watched>) {
        drop(watched);
        // A runtime that has ended takes its tasks along. The body may go on in another one.
        if self.heartbeat.as_ref().is_none_or(Heartbeat::has_ended) && !self.claim.is_lost() {
            self.heartbeat = Heartbeat::start(&self.claim);
        }
        if !self.has_waited {
            self.has_waited = true;
            self.lead();
        }
    }

    /// Leads the duplicates in this process, unless it does or another call does.
    fn lead(&mut self) {
        if let Some(leadership) = self.leadership.as_mut().filter(|leadership| leadership.is_of_nobody())
            && let Join::Leader(joined) = self.claim.context.shared.single_flight.join(&self.claim.context)
        {
            joined.running(self.claim.lease_end());
            *leadership = joined;
        }
    }

    /// Records how the body ended. `Break` if that is done: the body's own output is the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the recording goes on in the background.
    pub(super) fn finish(&mut self, end: RunEnd) -> ControlFlow<Answer, FinishInBackground<Result<Answer, Error>>> {
        let own = Answer::Own(self.disposition());
        let Some(leadership) = self.leadership.take() else { return ControlFlow::Break(own) };
        self.heartbeat = None;
        let (end, own) = self.claim.judge(end.within_limits(&self.claim), own);
        let Some((leadership, end)) = record_at_once(&self.claim, leadership, end) else {
            return ControlFlow::Break(own);
        };
        let (claim, guard) = (Arc::clone(&self.claim), self.guard.take());
        let record = async move {
            let answer = record(&claim, leadership, end, own).await;
            drop(guard);
            answer
        };
        ControlFlow::Continue(FinishInBackground::new(record, |_| Box::pin(std::future::ready(()))))
    }

    /// Gives the claim back: the body did not start.
    pub(super) fn give_back(&mut self) -> Error {
        if let Some(leadership) = self.leadership.take() {
            let (claim, guard) = (Arc::clone(&self.claim), self.guard.take());
            let give_back = async move {
                claim.give_back().await;
                // Only now may a follower lead: it would find the key in flight before.
                drop(leadership);
                drop(guard);
            };
            finish_later(give_back, None);
        }
        StoreError::new(StoreErrorKind::Unavailable, "the claim was granted too long ago to start on it").into()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some(leadership) = self.leadership.take() else { return };
        let runtime = self.heartbeat.take().map(|heartbeat| heartbeat.runtime.clone());
        let (claim, guard) = (Arc::clone(&self.claim), self.guard.take());
        let abandon = async move {
            claim.end_dropped().await;
            // Only now may a follower lead: it would find the key in flight before.
            drop(leadership);
            drop(guard);
        };
        finish_later(abandon, runtime);
    }
}

#[cfg(all(test, feature = "memory"))]
#[expect(clippy::unwrap_used, reason = "a test fails so")]
mod tests {
    use std::{
        future::{Future as _, poll_fn},
        pin::pin,
        sync::mpsc,
        task::Poll,
        time::Duration,
    };

    use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle};

    use crate::{
        Disposition, Error, Idempotency, Operation,
        store::memory::MemoryStore,
        testing::{Fault, FaultyStore, ManualClock, Method},
        with_disposition,
    };

    const LEASE: Duration = Duration::from_secs(30);

    /// A run whose lease passes while another takes its key over and finishes, and a duplicate that waits for it here.
    struct Overtaken {
        store: FaultyStore<MemoryStore>,
        finish: oneshot::Sender<()>,
        owner: JoinHandle<Result<String, Error>>,
        duplicate: JoinHandle<Result<String, Error>>,
    }

    impl Overtaken {
        async fn start(renewals: Fault) -> Self {
            let clock = ManualClock::new();
            let memory = MemoryStore::builder().clock(&clock).build();
            let store = FaultyStore::new(memory.clone());
            let (here, elsewhere) = (Idempotency::new(store.clone()), Idempotency::new(memory));
            let operation = || Operation::new("charge").lease(LEASE).wait(LEASE * 10);
            let (finish, finished) = oneshot::channel();
            let handle = here.clone();
            let owner = tokio::spawn(async move {
                let body = async {
                    finished.await.unwrap();
                    Ok::<_, Error>("late".to_owned())
                };
                handle.call(operation()).key("key").run(body).await
            });
            store.called(Method::Claim, 1).await;
            let duplicate = tokio::spawn(async move {
                here.call(operation()).key("key").run(async { Ok::<_, Error>("duplicate".to_owned()) }).await
            });
            tokio::task::yield_now().await;

            store.next(Method::Renew, [renewals]);
            store.always(Method::Renew, Fault::LOST_REQUEST);
            clock.advance(LEASE);
            let body = async { Ok::<_, Error>("recorded".to_owned()) };
            assert_eq!(elsewhere.call(operation()).key("key").run(body).await.unwrap(), "recorded");
            tokio::time::sleep(LEASE).await;
            store.always(Method::Complete, Fault::LOST_REQUEST);
            Self { store, finish, owner, duplicate }
        }

        async fn end(self) -> [Result<String, Error>; 2] {
            self.finish.send(()).unwrap();
            [self.owner.await.unwrap(), self.duplicate.await.unwrap()]
        }
    }

    /// Found by chaos: the completion failed as well, and the late value was handed out as if nothing had been lost.
    #[tokio::test(start_paused = true)]
    async fn a_run_that_knows_of_its_loss_answers_with_what_was_recorded() {
        let overtaken = Overtaken::start(Fault::Delay(Duration::ZERO)).await;
        assert_eq!(overtaken.store.calls(Method::Renew), 1, "and was told that the claim is lost");
        for answer in overtaken.end().await {
            assert_eq!(answer.unwrap(), "recorded");
        }
    }

    /// Found by chaos: duplicates here got the late value, although another was on record and had been replayed.
    #[tokio::test(start_paused = true)]
    async fn a_late_value_that_was_not_recorded_is_for_its_caller_only() {
        let overtaken = Overtaken::start(Fault::LOST_REQUEST).await;
        let [owner, duplicate] = overtaken.end().await;
        assert_eq!(owner.unwrap(), "late");
        assert_eq!(duplicate.unwrap(), "recorded");
    }

    /// The body keeps its thread, so that its call leads nobody: the duplicate hears of its end from the store.
    #[tokio::test]
    async fn a_body_that_never_waits_is_waited_for() {
        let idempotency = Idempotency::memory();
        let (started, has_started) = oneshot::channel();
        let (finish, finished) = mpsc::channel();
        let (handle, runtime) = (idempotency.clone(), Handle::current());
        let owner = std::thread::spawn(move || {
            let body = async {
                started.send(()).unwrap();
                Ok::<String, Error>(finished.recv().unwrap())
            };
            runtime.block_on(handle.call("charge").key("key").run(body))
        });
        has_started.await.unwrap();

        let body = async { Ok::<_, Error>("duplicate".to_owned()) };
        let mut duplicate = pin!(with_disposition(idempotency.call("charge").key("key").run(body)));
        assert!(poll_fn(|cx| Poll::Ready(duplicate.as_mut().poll(cx).is_pending())).await);
        finish.send("owner".to_owned()).unwrap();
        let (answer, disposition) = duplicate.await;
        assert_eq!((answer.unwrap().as_str(), disposition), ("owner", Disposition::Waited));
        assert_eq!(owner.join().unwrap().unwrap(), "owner");
    }
}
