//! *Record*: how a run ended, written into the store.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

#[cfg(feature = "consumer")]
use super::bury::bury;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use super::commit::{RunTransaction, commit};
use super::{
    background::finish_later,
    claim::Claim,
    context::CallContext,
    disposition::Disposition,
    events,
    journal::Journal,
    reply::Answer,
    rest::{Rest, last_try, release_until, suspend_until},
    retry::Pauses,
    runs::RunGuard,
    single_flight::{FlightEnd, Leadership},
};
#[cfg(feature = "consumer")]
use crate::store::DeadLetter;
use crate::{
    error::Error,
    store::{NotKept, Outcome, Record, State, StoreError, StoreErrorKind, Suspension, Token, Transition, Why},
};

/// The end of a run, for its record.
pub(crate) enum RunEnd {
    /// Done, with this outcome.
    Keep(Outcome),
    /// An error that is not kept: the key is free again, or its record waits for the next run.
    Release,
    /// The run ended without an outcome.
    #[cfg_attr(
        not(feature = "tower"),
        expect(dead_code, reason = "other bodies say so by a panic or by being dropped")
    )]
    Abandon,
    /// The body did not start: it could not be found out what became of the run before.
    GiveBack,
    /// The body could not start.
    #[cfg(any(feature = "consumer", feature = "postgres", feature = "sqlite"))]
    Unstarted,
    /// Done, with this outcome, as soon as the run's own transaction is committed.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    Commit(Outcome, Box<dyn RunTransaction>),
    /// Its message is a dead letter. It is refused for this time, where its store keeps no letter.
    #[cfg(feature = "consumer")]
    Dead(Box<DeadLetter>, Duration),
    /// The run's own transaction is rolled back, and then this is its end.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    RollBack(Box<dyn RunTransaction>, Box<RunEnd>),
}

impl RunEnd {
    /// Keeps only the fact of an outcome that is too large, and tells the operator of each that is not kept.
    pub(super) fn within_limits(self, claim: &Claim) -> Self {
        match self {
            Self::Keep(outcome) => Self::Keep(kept(outcome, claim)),
            #[cfg(any(feature = "postgres", feature = "sqlite"))]
            Self::Commit(outcome, transaction) => Self::Commit(kept(outcome, claim), transaction),
            end => end,
        }
    }

    /// Makes this the end of a run in a transaction of its own: committed with it, or after that was rolled back.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn in_transaction(self, is_ok: bool, transaction: Option<Box<dyn RunTransaction>>) -> Self {
        match (self, transaction) {
            (end, None) => end,
            (Self::Keep(outcome), Some(transaction)) if is_ok => Self::Commit(outcome, transaction),
            (end, Some(transaction)) => Self::RollBack(transaction, Box::new(end)),
        }
    }

    /// True if the body has ended with a result.
    pub(super) const fn is_ok(&self) -> bool {
        match self {
            Self::Keep(outcome) => matches!(outcome, Outcome::Ok(_)),
            #[cfg(any(feature = "postgres", feature = "sqlite"))]
            Self::Commit(outcome, _) => matches!(outcome, Outcome::Ok(_)),
            _ => false,
        }
    }
}

/// Keeps only the fact of an outcome that is too large, and tells the operator of each that is not kept.
fn kept(outcome: Outcome, claim: &Claim) -> Outcome {
    let outcome = if outcome.len() <= claim.context.shared.limits.max_result_len {
        outcome
    } else {
        Outcome::NotKept(NotKept::TooLarge)
    };
    if let Outcome::NotKept(why) = &outcome {
        events::not_kept(&claim.context.key, claim.attempt, *why);
    }
    outcome
}

/// Records an outcome that is kept, if the store does so at once. Otherwise gives back what is left to be recorded.
pub(super) fn record_at_once(claim: &Claim, leadership: Leadership, end: RunEnd) -> Option<(Leadership, RunEnd)> {
    let context = &claim.context;
    let is_settled = claim.journal_if_any().is_none_or(Journal::is_settled);
    let outcome = match (end, claim.token, context.store().immediate()) {
        (RunEnd::Keep(outcome), Some(token), Some(store)) if !claim.is_lost() && is_settled => {
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

/// Records how the run ended, and lets the next one have its turn.
pub(super) async fn record(
    claim: &Arc<Claim>,
    leadership: Leadership,
    end: RunEnd,
    own: Answer,
) -> Result<Answer, Error> {
    let answer = end_run(claim, leadership, end, own).await;
    claim.end_turn();
    answer
}

/// Records how the run ended. The answer is `own`, unless the record is another run's.
async fn end_run(claim: &Arc<Claim>, leadership: Leadership, end: RunEnd, own: Answer) -> Result<Answer, Error> {
    let Some(token) = claim.token else {
        if let RunEnd::Keep(outcome) = end {
            share(leadership, outcome);
        }
        return Ok(own);
    };
    if let Some(journal) = claim.journal_if_any() {
        // A step that was dropped may be being recorded still: told after the end, its run would look lost.
        Box::pin(journal.settled(claim.until())).await;
    }
    match end {
        RunEnd::Keep(outcome) => {
            if claim.is_lost() {
                return Box::pin(superseded(claim, leadership, own)).await;
            }
            match complete(claim, &token, &outcome).await {
                Ok(Transition::Applied) => {}
                // Boxed here and elsewhere: rare paths would make the future of every run large.
                Ok(Transition::Lost) => return Box::pin(superseded(claim, leadership, own)).await,
                Err(error) => {
                    claim.tell_unrecorded(&error);
                    if claim.context.is_of_message {
                        return Err(error.into());
                    }
                    complete_held_later(claim, token, &outcome);
                    // The lease may have lapsed, and another run may be on record: the followers ask the store.
                    if Instant::now() >= claim.until() {
                        return Ok(own);
                    }
                }
            }
            share(leadership, outcome);
            Ok(own)
        }
        RunEnd::Release => {
            if let Some(journal) = claim.journal_if_any() {
                return Ok(Box::pin(fail_with_steps(claim, token, journal, leadership, own)).await);
            }
            Ok(fail(claim, token, leadership, own).await)
        }
        RunEnd::Abandon => {
            events::abandoned(&claim.context.key, claim.attempt);
            Ok(Box::pin(suspend(claim, token, Rest::abandoned(claim), leadership, own)).await)
        }
        RunEnd::GiveBack => {
            let rest = Rest::unstarted(&claim.context, claim.past.before);
            let answer = Box::pin(suspend(claim, token, rest, Leadership::of_nobody(), own)).await;
            // One question answers all who wait for it here.
            leadership.end(FlightEnd::Failed(claim.unresolved()));
            Ok(answer)
        }
        #[cfg(any(feature = "consumer", feature = "postgres", feature = "sqlite"))]
        RunEnd::Unstarted => {
            let rest = Rest::unstarted(&claim.context, claim.past.before);
            Ok(Box::pin(suspend(claim, token, rest, leadership, own)).await)
        }
        #[cfg(any(feature = "postgres", feature = "sqlite"))]
        RunEnd::Commit(outcome, transaction) => {
            Box::pin(commit(claim, token, outcome, transaction, leadership, own)).await
        }
        #[cfg(feature = "consumer")]
        RunEnd::Dead(letter, keep) => Box::pin(bury(claim, token, *letter, keep, leadership, own)).await,
        #[cfg(any(feature = "postgres", feature = "sqlite"))]
        RunEnd::RollBack(transaction, end) => {
            Box::pin(transaction.roll_back()).await;
            Box::pin(end_run(claim, leadership, *end, own)).await
        }
    }
}

/// Ends a run whose body said `Err`, and had no steps.
pub(super) async fn fail(claim: &Arc<Claim>, token: Token, leadership: Leadership, own: Answer) -> Answer {
    // Runs that others have counted stay counted.
    if claim.context.attempts.are_kept() || claim.past.failed > 0 {
        return Box::pin(suspend(claim, token, Rest::failed(claim), leadership, own)).await;
    }
    release(claim, token, leadership, own).await
}

/// Ends a run whose body said `Err` after steps. What they did is not taken back: if one is in doubt, the run is abandoned.
async fn fail_with_steps(
    claim: &Arc<Claim>,
    token: Token,
    journal: &Journal,
    leadership: Leadership,
    own: Answer,
) -> Answer {
    if journal.is_in_doubt() {
        events::abandoned(&claim.context.key, claim.attempt);
        return suspend(claim, token, Rest::abandoned(claim), leadership, own).await;
    }
    fail(claim, token, leadership, own).await
}

/// Gives the followers the run's outcome.
pub(super) fn share(leadership: Leadership, outcome: Outcome) {
    leadership.end(FlightEnd::Done { outcome, has_waited: true });
}

/// Completes, again while the store fails, until the lease is near its end.
pub(super) async fn complete(claim: &Claim, token: &Token, outcome: &Outcome) -> Result<Transition, StoreError> {
    let context = &claim.context;
    let mut backoff = Pauses::new(Duration::from_millis(20), Duration::from_secs(1));
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
        let mut backoff = Pauses::new(Duration::from_secs(1), Duration::from_secs(30));
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
    match context.store().release(&context.key, &token, context.ttl).await {
        Ok(Transition::Applied) => own,
        Ok(Transition::Lost) => Box::pin(failed_late(claim, leadership, own)).await,
        Err(_) => {
            let ours = Arc::clone(claim);
            end_later(claim, leadership, async move {
                release_until(&ours.context, &token, ours.until()).await;
            });
            own
        }
    }
}

/// Answers a call whose body failed after its claim was lost: with the other run's outcome, if there is one.
async fn failed_late(claim: &Claim, leadership: Leadership, own: Answer) -> Answer {
    claim.tell_lost();
    match done_elsewhere(&claim.context).await {
        Some(outcome) => {
            share(leadership, outcome.clone());
            Answer::Other(outcome, Disposition::Waited)
        }
        None => own,
    }
}

/// Suspends at once, otherwise like `release`.
pub(super) async fn suspend(
    claim: &Arc<Claim>,
    token: Token,
    rest: Rest,
    leadership: Leadership,
    own: Answer,
) -> Answer {
    let context = &claim.context;
    let Rest { why, not_before, keep } = rest;
    match context.store().suspend(&context.key, &token, why, not_before, keep).await {
        Ok(Suspension::Applied) => own,
        Ok(Suspension::Ended { .. } | Suspension::Taken | Suspension::Vacant) => match why {
            Why::Failed => Box::pin(failed_late(claim, leadership, own)).await,
            Why::Abandoned => {
                claim.tell_lost();
                own
            }
            Why::Unstarted => own,
        },
        Err(_) => {
            let ours = Arc::clone(claim);
            end_later(claim, leadership, async move {
                suspend_until(&ours.context, &token, rest, ours.until()).await;
            });
            own
        }
    }
}

/// Goes on to end a claim in the background. The leadership ends with it.
fn end_later(claim: &Claim, leadership: Leadership, end: impl Future<Output = ()> + Send + 'static) {
    let run = RunGuard::new(&claim.context.shared);
    let end = async move {
        end.await;
        drop(leadership);
        drop(run);
    };
    finish_later(end, None);
}

/// Reads the outcome of the run that has the key now, if it has ended.
pub(super) async fn done_elsewhere(context: &CallContext) -> Option<Outcome> {
    match context.store().inspect(&context.key).await {
        Ok(Some(Record { state: State::Done(outcome), fingerprint, .. })) => {
            (fingerprint == context.request.fingerprint).then_some(outcome)
        }
        _ => None,
    }
}

/// Answers a call whose claim was lost with what the key's record says now.
async fn superseded(claim: &Claim, leadership: Leadership, own: Answer) -> Result<Answer, Error> {
    let context = &claim.context;
    claim.tell_lost();
    let record = match context.store().inspect(&context.key).await {
        Ok(Some(record)) => record,
        Ok(None) => {
            // No other run answers for the key, so the body's own value is the truth; but it is not on record.
            let vanished = StoreError::new(StoreErrorKind::Corrupt, "the record vanished while the body ran");
            claim.tell_unrecorded(&vanished);
            return if context.is_of_message { Err(vanished.into()) } else { Ok(own) };
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
