//! *Record*: how a run ended, written into the store.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    background::finish_later,
    claim::{Claim, abandon_until, last_try, release_until},
    context::CallContext,
    disposition::Disposition,
    events,
    reply::Answer,
    retry::Backoff,
    runs::RunGuard,
    single_flight::{FlightEnd, Leadership},
};
use crate::{
    error::Error,
    store::{NotKept, Outcome, Record, State, StoreError, StoreErrorKind, Token, Transition},
};

/// The end of a run, for its record.
pub(crate) enum RunEnd {
    /// Done, with this outcome.
    Keep(Outcome),
    /// The key is free again.
    Release,
    /// The run ended without an outcome.
    #[cfg_attr(
        not(feature = "tower"),
        expect(dead_code, reason = "other bodies say so by a panic or by being dropped")
    )]
    Abandon,
}

impl RunEnd {
    /// Keeps only the fact of an outcome that is too large, and tells the operator of each that is not kept.
    pub(super) fn within_limits(self, claim: &Claim) -> Self {
        let Self::Keep(outcome) = self else { return self };
        let outcome = if outcome.len() <= claim.context.shared.limits.max_result_len {
            outcome
        } else {
            Outcome::NotKept(NotKept::TooLarge)
        };
        if let Outcome::NotKept(why) = &outcome {
            events::not_kept(claim.context.key.operation(), claim.attempt, *why);
        }
        Self::Keep(outcome)
    }
}

/// Records an outcome that is kept, if the store does so at once. Otherwise gives back what is left to be recorded.
pub(super) fn record_at_once(claim: &Claim, leadership: Leadership, end: RunEnd) -> Option<(Leadership, RunEnd)> {
    let context = &claim.context;
    let outcome = match (end, claim.token, context.store().immediate()) {
        (RunEnd::Keep(outcome), Some(token), Some(store)) if !claim.is_lost() => {
            match store.complete(&context.key, &token, &outcome, context.ttl) {
                Ok(Transition::Applied) => outcome,
                // Asked again, it says the same.
                Ok(Transition::Lost) | Err(_) => return Some((leadership, RunEnd::Keep(outcome))),
            }
        }
        (end, ..) => return Some((leadership, end)),
    };
    share(leadership, outcome);
    None
}

/// Records how the run ended. The answer is `own`, unless the record is another run's.
pub(super) async fn record(
    claim: &Arc<Claim>,
    leadership: Leadership,
    end: RunEnd,
    own: Answer,
) -> Result<Answer, Error> {
    match (end, claim.token) {
        (RunEnd::Keep(outcome), Some(token)) => {
            if claim.is_lost() {
                return Box::pin(superseded(claim, leadership, own)).await;
            }
            match complete(claim, &token, &outcome).await {
                Ok(Transition::Applied) => {}
                // Boxed here and elsewhere: rare paths would make the future of every run large.
                Ok(Transition::Lost) => return Box::pin(superseded(claim, leadership, own)).await,
                Err(error) => {
                    events::not_recorded(claim.context.key.operation(), claim.attempt, &error);
                    complete_held_later(claim, token, &outcome);
                    // The lease may have lapsed, and another run may be on record: the followers ask the store.
                    if Instant::now() >= claim.until() {
                        return Ok(own);
                    }
                }
            }
            share(leadership, outcome);
        }
        (RunEnd::Keep(outcome), None) => share(leadership, outcome),
        (RunEnd::Release, Some(token)) => return Ok(release(claim, token, leadership, own).await),
        (RunEnd::Release, None) => {}
        (RunEnd::Abandon, token) => {
            events::abandoned(claim.context.key.operation(), claim.attempt);
            if let Some(token) = token {
                abandon_now(claim, token, leadership).await;
            }
            return Ok(Answer::Abandoned);
        }
    }
    Ok(own)
}

/// Gives the followers the run's outcome.
fn share(leadership: Leadership, outcome: Outcome) {
    leadership.end(FlightEnd::Done { outcome, has_waited: true });
}

/// Completes, again while the store fails, until the lease is near its end.
async fn complete(claim: &Claim, token: &Token, outcome: &Outcome) -> Result<Transition, StoreError> {
    let context = &claim.context;
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        match context.store().complete(&context.key, token, outcome, context.ttl).await {
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

/// Goes on to complete a held key in the background: nobody else takes it, so that this result is the one to come.
fn complete_held_later(claim: &Arc<Claim>, token: Token, outcome: &Outcome) {
    let deadline = last_try(&claim.context, claim.until());
    if deadline == claim.until() {
        return;
    }
    let (claim, outcome, run) = (Arc::clone(claim), outcome.clone(), RunGuard::new(&claim.context.shared));
    let complete = async move {
        let context = &claim.context;
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        while backoff.sleep_before(deadline).await
            && context.store().complete(&context.key, &token, &outcome, context.ttl).await.is_err()
        {}
        drop(run);
    };
    finish_later(complete, None);
}

/// Releases at once; if the store fails, the caller has its error now and the rest happens in the background. The answer
/// is `own`, the body's error, unless another run has ended with an outcome.
async fn release(claim: &Arc<Claim>, token: Token, leadership: Leadership, own: Answer) -> Answer {
    let context = &claim.context;
    match context.store().release(&context.key, &token).await {
        Ok(Transition::Applied) => own,
        Ok(Transition::Lost) => {
            tell_lost(claim);
            match Box::pin(done_elsewhere(context)).await {
                Some(outcome) => {
                    share(leadership, outcome.clone());
                    Answer::Other(outcome, Disposition::Waited)
                }
                None => own,
            }
        }
        Err(_) => {
            let (claim, run) = (Arc::clone(claim), RunGuard::new(&context.shared));
            finish_later(
                async move {
                    release_until(&claim.context, &token, claim.until()).await;
                    drop(leadership);
                    drop(run);
                },
                None,
            );
            own
        }
    }
}

/// Reads the outcome of the run that has the key now, if it has ended.
async fn done_elsewhere(context: &CallContext) -> Option<Outcome> {
    match context.store().inspect(&context.key).await {
        Ok(Some(Record { state: State::Done(outcome), fingerprint, .. })) => {
            (fingerprint == context.request.fingerprint).then_some(outcome)
        }
        _ => None,
    }
}

/// Abandons at once; if the store fails, the caller has its answer now and the rest happens in the background.
async fn abandon_now(claim: &Arc<Claim>, token: Token, leadership: Leadership) {
    let context = &claim.context;
    match context.store().abandon(&context.key, &token, context.request.ttl).await {
        Ok(Transition::Applied) => {}
        Ok(Transition::Lost) => tell_lost(claim),
        Err(_) => {
            let (claim, run) = (Arc::clone(claim), RunGuard::new(&context.shared));
            let abandon = async move {
                abandon(claim, leadership).await;
                drop(run);
            };
            finish_later(abandon, None);
        }
    }
}

/// Tells the operator that the claim is another's, unless a renewal has told so already.
fn tell_lost(claim: &Claim) {
    if !claim.is_lost() {
        events::claim_lost(claim.context.key.operation(), claim.attempt);
    }
}

/// Answers a call whose claim was lost with what the key's record says now.
async fn superseded(claim: &Claim, leadership: Leadership, own: Answer) -> Result<Answer, Error> {
    let context = &claim.context;
    let operation = context.key.operation();
    tell_lost(claim);
    let record = match context.store().inspect(&context.key).await {
        Ok(Some(record)) => record,
        Ok(None) => {
            // No other run answers for the key, so the body's own value is the truth; but it is not on record.
            let vanished = StoreError::new(StoreErrorKind::Corrupt, "the record vanished while the body ran");
            events::not_recorded(operation, claim.attempt, &vanished);
            return Ok(own);
        }
        Err(_) => return Err(Error::ClaimLost),
    };
    match record.state {
        State::Done(outcome) if record.fingerprint == context.request.fingerprint => {
            share(leadership, outcome.clone());
            Ok(Answer::Other(outcome, Disposition::Waited))
        }
        _ => Err(Error::ClaimLost),
    }
}

/// Abandons the claim in the background. The leadership ends with it.
pub(super) async fn abandon(claim: Arc<Claim>, _leadership: Leadership) {
    if let Some(token) = claim.token {
        abandon_until(&claim.context, &token, claim.until()).await;
    }
}
