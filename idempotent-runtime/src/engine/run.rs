//! The run of a body under a claim, and every way it can end.
//!
//! | ending | what the record becomes |
//! |---|---|
//! | `Ok`, or an `Err` that is kept | done, with the result or, where that cannot be kept, without |
//! | another `Err` | vacant |
//! | panic, dropped future | abandoned |
//! | crash, or the store out of reach for all of the above | running until its lease lapses |
//!
//! The body's end and its record are one step from here on: once the body has returned, dropping the caller's future
//! does not stop the recording.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    background::{Backoff, Settled, finish_later},
    claim::{abandon_until, end_unstarted, release_until},
    heartbeat::{Claim, Heart},
    single_flight::{End, Joined, Lead},
};
use crate::{
    disposition::Disposition,
    engine::events,
    error::Error,
    store::{Finished, Outcome, State, StoreError, StoreErrorKind, Token, Transition},
};

/// A claim whose body may run. Dropped before [`finish`](Self::finish), it is abandoned.
pub(crate) struct Run {
    claim: Arc<Claim>,
    /// `None` once it is finished.
    lead: Option<Lead>,
    heart: Option<Heart>,
    /// Whether the body had to wait.
    has_waited: bool,
}

/// What becomes of the record at the body's end.
pub(crate) enum Ending {
    Keep(Outcome),
    Release,
    Abandon,
}

/// What the caller gets.
pub(crate) enum Ended {
    /// The body's own value.
    Own,
    /// The same, of a run without an outcome.
    Abandoned,
    /// Another run took the key over and finished first: its result is the key's.
    Superseded(Finished),
    /// Another run took the key over and has no result yet.
    Lost,
}

impl Run {
    pub(super) fn start(claim: Claim, lead: Lead) -> Self {
        lead.running(claim.lease_end());
        Self { claim: Arc::new(claim), lead: Some(lead), heart: None, has_waited: false }
    }

    pub(crate) const fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.claim.attempt
    }

    /// How the call came to its answer, if the body's output is the answer.
    pub(crate) fn disposition(&self) -> Disposition {
        match self.claim.attempt {
            _ if self.claim.token.is_none() => Disposition::Unprotected,
            1 => Disposition::Executed,
            _ => Disposition::TookOver,
        }
    }

    /// Whether it is too late to start the body.
    pub(crate) fn is_late(&self) -> bool {
        self.claim.token.is_some() && Instant::now() >= self.claim.until()
    }

    /// Renews the claim from now on, and lets duplicates follow: the body has to wait for something.
    pub(crate) fn keep_alive(&mut self) {
        if self.heart.is_none() {
            self.heart = Heart::start(&self.claim);
        }
        if !self.has_waited {
            self.has_waited = true;
            self.lead();
        }
    }

    /// Leads the duplicates in this process, unless it does or another call does.
    fn lead(&mut self) {
        if let Some(lead) = self.lead.as_mut().filter(|lead| lead.is_apart())
            && let Joined::Lead(joined) = self.claim.context.shared.flights.join(&self.claim.context)
        {
            joined.running(self.claim.lease_end());
            *lead = joined;
        }
    }

    /// Records how the body ended: `None` if that is done, and the body's own value is the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub(crate) fn finish(&mut self, ending: Ending) -> Option<Settled<Ended>> {
        let lead = self.lead.take()?;
        self.heart = None;
        let (lead, ending) = record_at_once(&self.claim, lead, ending)?;
        let claim = Arc::clone(&self.claim);
        let record = async move { record(&claim, lead, ending).await };
        Some(Settled::new(record, |_| Box::pin(std::future::ready(()))))
    }

    /// Gives the claim back: the body did not start.
    pub(crate) fn give_back(&mut self) -> Error {
        if let Some(lead) = self.lead.take() {
            let claim = Arc::clone(&self.claim);
            let give_back = async move {
                if let Some(token) = claim.token {
                    end_unstarted(&claim.context, &token, claim.attempt > 1, claim.lease_end()).await;
                }
                drop(lead);
            };
            finish_later(give_back, None);
        }
        StoreError::new(StoreErrorKind::Unavailable, "the claim was granted too long ago to start on it").into()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some(lead) = self.lead.take() else { return };
        let runtime = self.heart.take().map(|heart| heart.runtime.clone());
        events::abandoned(self.claim.context.key.operation(), self.claim.attempt);
        finish_later(abandon(Arc::clone(&self.claim), lead), runtime);
    }
}

async fn abandon(claim: Arc<Claim>, _lead: Lead) {
    if let Some(token) = claim.token {
        abandon_until(&claim.context, &token, claim.until()).await;
    }
}

/// Records an outcome that is kept, if the store does so at once; answers what is left to be done.
fn record_at_once(claim: &Claim, lead: Lead, ending: Ending) -> Option<(Lead, Ending)> {
    let context = &claim.context;
    let outcome = match (ending, claim.token, context.store().immediate()) {
        (Ending::Keep(outcome), Some(token), Some(store)) if !claim.is_lost() => {
            match store.complete(&context.key, &token, &outcome, context.request.ttl) {
                Ok(Transition::Applied) => outcome,
                // Asked again, it says the same.
                Ok(Transition::Lost) | Err(_) => return Some((lead, Ending::Keep(outcome))),
            }
        }
        (ending, ..) => return Some((lead, ending)),
    };
    share(claim, lead, outcome);
    None
}

async fn record(claim: &Arc<Claim>, lead: Lead, ending: Ending) -> Ended {
    match (ending, claim.token) {
        (Ending::Keep(outcome), Some(token)) => {
            if claim.is_lost() {
                return Box::pin(superseded(claim, lead)).await;
            }
            match complete(claim, &token, &outcome).await {
                Ok(Transition::Applied) => {}
                // Boxed here and elsewhere: what is rare would make every run's future large.
                Ok(Transition::Lost) => return Box::pin(superseded(claim, lead)).await,
                Err(error) => {
                    events::not_recorded(claim.context.key.operation(), claim.attempt, &error);
                    // By now another run may have been recorded: the followers ask the store.
                    if Instant::now() >= claim.until() {
                        return Ended::Own;
                    }
                }
            }
            share(claim, lead, outcome);
        }
        (Ending::Keep(outcome), None) => share(claim, lead, outcome),
        (Ending::Release, Some(token)) => release(claim, token, lead).await,
        (Ending::Release, None) => {}
        (Ending::Abandon, token) => {
            events::abandoned(claim.context.key.operation(), claim.attempt);
            if let Some(token) = token {
                abandon_now(claim, token, lead).await;
            }
            return Ended::Abandoned;
        }
    }
    Ended::Own
}

/// Gives the followers what the body came to.
fn share(claim: &Claim, lead: Lead, outcome: Outcome) {
    let fingerprint = claim.context.request.fingerprint;
    let finished = Finished { fingerprint, attempt: claim.attempt, outcome };
    lead.end(End::Done { finished, waited: true });
}

/// Completes, again while the store fails, until the lease is near its end.
async fn complete(claim: &Claim, token: &Token, outcome: &Outcome) -> Result<Transition, StoreError> {
    let context = &claim.context;
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        match context.store().complete(&context.key, token, outcome, context.request.ttl).await {
            Ok(transition) => return Ok(transition),
            Err(error) => {
                let hopeless = matches!(error.kind(), StoreErrorKind::Corrupt | StoreErrorKind::Refused);
                if hopeless || !Box::pin(backoff.sleep_before(claim.until())).await {
                    return Err(error);
                }
            }
        }
    }
}

/// Releases at once; if the store fails, the caller has its error now and the rest happens in the background.
async fn release(claim: &Arc<Claim>, token: Token, lead: Lead) {
    let context = &claim.context;
    match context.store().release(&context.key, &token).await {
        Ok(Transition::Applied) => {}
        Ok(Transition::Lost) => tell_lost(claim),
        Err(_) => {
            let claim = Arc::clone(claim);
            finish_later(
                async move {
                    release_until(&claim.context, &token, claim.until()).await;
                    drop(lead);
                },
                None,
            );
        }
    }
}

/// Abandons at once; if the store fails, the caller has its answer now and the rest happens in the background.
async fn abandon_now(claim: &Arc<Claim>, token: Token, lead: Lead) {
    let context = &claim.context;
    match context.store().abandon(&context.key, &token, context.request.ttl).await {
        Ok(Transition::Applied) => {}
        Ok(Transition::Lost) => tell_lost(claim),
        Err(_) => finish_later(abandon(Arc::clone(claim), lead), None),
    }
}

/// Tells that the claim is another's, unless a renewal has told so already.
fn tell_lost(claim: &Claim) {
    if !claim.is_lost() {
        events::claim_lost(claim.context.key.operation(), claim.attempt);
    }
}

/// The claim was lost: what does the key's record say now?
async fn superseded(claim: &Claim, lead: Lead) -> Ended {
    let context = &claim.context;
    let operation = context.key.operation();
    tell_lost(claim);
    let record = match context.store().inspect(&context.key).await {
        Ok(Some(record)) => record,
        Ok(None) => {
            // Nobody else answers for the key, so the body's own value is the truth; but it is not on record.
            let vanished = StoreError::new(StoreErrorKind::Corrupt, "the record vanished while the body ran");
            events::not_recorded(operation, claim.attempt, &vanished);
            return Ended::Own;
        }
        Err(_) => return Ended::Lost,
    };
    match record.state {
        State::Done(outcome) if record.fingerprint == context.request.fingerprint => {
            let finished = Finished { fingerprint: record.fingerprint, attempt: record.attempt, outcome };
            lead.end(End::Done { finished: finished.clone(), waited: true });
            Ended::Superseded(finished)
        }
        _ => Ended::Lost,
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
