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

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    background::{Backoff, Settled, finish_later},
    claim::{abandon_until, release_until},
    flight::{End, Lead},
    lease::{Claim, Heart},
};
use crate::{
    error::Error,
    events,
    execution::{Execution, Scope},
    record::{Finished, Outcome, State},
    store::Transition,
    store_error::{StoreError, StoreErrorKind},
    token::Token,
};

/// A claim whose body may run. Dropped before [`finish`](Self::finish), it is abandoned.
pub(crate) struct Run {
    /// `None` once it is finished.
    held: Option<(Arc<Claim>, Lead)>,
    heart: Option<Heart>,
}

/// A body that is dropped with this, although it lies in its caller's frame.
struct Body<'a, F>(Pin<&'a mut Option<F>>);

impl<F: Future> Future for Body<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().as_pin_mut().map_or(Poll::Pending, |body| body.poll(cx))
    }
}

impl<F> Drop for Body<'_, F> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

/// What becomes of the record at the body's end.
pub(crate) enum Ending {
    Keep(Outcome),
    Release,
}

/// What the caller gets.
pub(crate) enum Ended {
    /// The body's own value.
    Own,
    /// Another run took the key over and finished first: its result is the key's.
    Superseded(Finished),
    /// Another run took the key over and has no result yet.
    Lost,
}

impl Run {
    pub(super) fn start(claim: Claim, lead: Lead) -> Self {
        lead.running(claim.lease_end());
        Self { held: Some((Arc::new(claim), lead)), heart: None }
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.held.as_ref().map_or(1, |(claim, _)| claim.attempt)
    }

    pub(crate) fn is_protected(&self) -> bool {
        self.held.as_ref().is_some_and(|(claim, _)| claim.token.is_some())
    }

    /// Runs the body, keeping the claim alive once the body has to wait for something.
    ///
    /// `None` if it is too late to start it: between the claim and now, another may have got the key.
    ///
    /// The body is gone, its destructors have run, when this ends or is dropped: before the key can be another's.
    pub(crate) async fn drive<F: Future>(&mut self, body: Pin<&mut Option<F>>) -> Option<F::Output> {
        let Self { held, heart } = self;
        let (claim, _) = held.as_ref()?;
        if claim.token.is_some() && Instant::now() >= claim.until() {
            return None;
        }
        let span = events::run_span(claim);
        let scope = Scope::run(Execution::new(Arc::clone(claim)));
        let mut body = std::pin::pin!(scope.around(Body(body)));
        std::future::poll_fn(|cx| {
            let _entered = span.enter();
            let poll = body.as_mut().poll(cx);
            if poll.is_pending() && heart.is_none() {
                *heart = Heart::start(claim);
            }
            poll.map(Some)
        })
        .await
    }

    /// Records how the body ended.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub(crate) fn finish(mut self, ending: Ending) -> Settled<Ended> {
        let held = self.held.take();
        self.heart = None;
        Settled::new(
            async move {
                match held {
                    Some((claim, lead)) => record(&claim, lead, ending).await,
                    None => Ended::Own,
                }
            },
            |_| Box::pin(std::future::ready(())),
        )
    }
}

impl Run {
    /// Gives the claim back: the body did not start.
    pub(crate) fn give_back(mut self) -> Error {
        if let Some((claim, lead)) = self.held.take() {
            let give_back = async move {
                if claim.attempt == 1 {
                    record(&claim, lead, Ending::Release).await;
                } else {
                    // The run before it vanished, and the next one must be told so still.
                    abandon(claim, lead).await;
                }
            };
            finish_later(give_back, None);
        }
        StoreError::new(StoreErrorKind::Unavailable, "the claim was granted too long ago to start on it").into()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some((claim, lead)) = self.held.take() else { return };
        let runtime = self.heart.take().map(|heart| heart.runtime.clone());
        events::abandoned(claim.context.key.operation(), claim.attempt);
        finish_later(abandon(claim, lead), runtime);
    }
}

async fn abandon(claim: Arc<Claim>, _lead: Lead) {
    if let Some(token) = claim.token {
        abandon_until(&claim.context, &token, claim.until()).await;
    }
}

async fn record(claim: &Arc<Claim>, lead: Lead, ending: Ending) -> Ended {
    match (ending, claim.token) {
        (Ending::Keep(outcome), Some(token)) => {
            match complete(claim, &token, &outcome).await {
                Ok(Transition::Applied) => {}
                // Boxed here and elsewhere: what is rare would make every run's future large.
                Ok(Transition::Lost) => return Box::pin(superseded(claim, lead)).await,
                Err(error) => events::not_recorded(claim.context.key.operation(), claim.attempt, &error),
            }
            share(claim, lead, outcome);
        }
        (Ending::Keep(outcome), None) => share(claim, lead, outcome),
        (Ending::Release, Some(token)) => release(claim, token, lead).await,
        (Ending::Release, None) => {}
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
    if context.store().release(&context.key, &token).await.is_err() {
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

/// The claim was lost: what does the key's record say now?
async fn superseded(claim: &Claim, lead: Lead) -> Ended {
    let context = &claim.context;
    let operation = context.key.operation();
    if !claim.is_lost() {
        events::claim_lost(operation, claim.attempt);
    }
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
