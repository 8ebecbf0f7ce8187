//! *Admit*: asks the store, and gets an outcome of another run, or the right to run the body.

use std::{
    future::ready,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    ask::{ClaimReply, claim},
    background::{FinishInBackground, finish_later},
    claim::{Claim, trusted},
    context::{CallContext, OwnTransaction},
    disposition::Disposition,
    events,
    prepare::LONGEST,
    record::complete,
    rest::{Rest, suspend_until},
    retry::Pauses,
    run::Run,
    runs::RunGuard,
    shared::OnStoreFailure,
    single_flight::{FlightEnd, Join, Leadership, Progress},
};
use crate::{
    error::Error,
    request::arguments::differing,
    store::{
        Before, ClaimOutcome, Finished, Nonce, Outcome, Record, StoreError, StoreErrorKind, StoreResult, Subscription,
        Transition,
    },
};

/// The number of claims that may be answered too late before the call fails.
const LATE_CLAIMS: u32 = 3;
const TOO_LATE: &str = "the store answered claims later than their lease allows";

/// The least time that a duplicate waits for a leader that asks the store, whatever its own `wait`.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// The result of admission.
pub(super) enum Admission {
    /// The call is answered with the outcome of another run.
    Replay(Outcome, Disposition),
    /// The body is this call's to run.
    Run(Run),
}

impl Admission {
    fn replay(outcome: Outcome, has_waited: bool) -> Self {
        Self::Replay(outcome, if has_waited { Disposition::Waited } else { Disposition::Replayed })
    }
}

/// Admits a call without a future, if the store answers at once and no call in this process leads the key's duplicates.
/// `None` leaves the call to [`admit`].
///
/// The call leads nobody yet: a duplicate that comes in the meantime asks the store itself, gets `InFlight`, and waits to
/// be notified.
pub(super) fn admit_at_once(context: &Arc<CallContext>) -> Option<Admission> {
    let store = context.store().immediate()?;
    // A claim that exceeds the attempts has to be ended, which may wait.
    if context.attempts.max.is_some() || context.shared.single_flight.has_leader(context) {
        return None;
    }
    let sent = Instant::now();
    match store.claim(&context.key, &context.request) {
        Ok(ClaimOutcome::Claimed { token, attempt, past }) => {
            let claim = Claim::new(Arc::clone(context), token, attempt, past, sent);
            Some(Admission::Run(Run::start(claim, Leadership::of_nobody())))
        }
        Ok(ClaimOutcome::Done(finished)) => Some(Admission::replay(finished.outcome, false)),
        // Nothing was changed, and nothing is under way: the question can be asked again.
        Ok(
            ClaimOutcome::InFlight { .. }
            | ClaimOutcome::Abandoned { .. }
            | ClaimOutcome::Suspended { .. }
            | ClaimOutcome::Mismatch,
        )
        | Err(_) => None,
    }
}

/// Admits a call. Waits for a running duplicate as long as the call is willing to.
///
/// # Cancel safety
///
/// Dropped at any point, a claim that was granted, or may have been, is given back in the background.
pub(super) async fn admit(context: &Arc<CallContext>) -> Result<Admission, Error> {
    let mut now = Instant::now();
    let mut patience = Patience::new(context, now);
    loop {
        match context.shared.single_flight.join(context) {
            Join::Leader(leadership) => return lead(context, leadership, &mut patience, now).await,
            Join::Alone => return lead(context, Leadership::of_nobody(), &mut patience, now).await,
            Join::Follower(leader) => {
                // Boxed here and below: a call that has to wait can allocate, and the future of the others stays small.
                let followed = Box::pin(follow(&leader, &mut patience)).await?;
                now = Instant::now();
                match followed {
                    Followed::Answered(admission) => return Ok(admission),
                    Followed::LeaderLeft => {}
                    Followed::LeaderStuck => {
                        return lead(context, Leadership::of_nobody(), &mut patience, now).await;
                    }
                }
            }
        }
    }
}

/// The result of following a leader in this process.
enum Followed {
    /// The leader has the answer.
    Answered(Admission),
    /// The leader left without an answer: the next call may lead.
    LeaderLeft,
    /// The leader made no progress in time (the store hangs, or its task is not polled): stop following and ask the
    /// store directly.
    LeaderStuck,
}

async fn follow(leader: &CallContext, patience: &mut Patience<'_>) -> Result<Followed, Error> {
    patience.begin()?;
    let asked = leader.flight.progress_when(|progress| !matches!(progress, Progress::Claiming));
    let answered_by = patience.deadline.max(Instant::now() + ANSWERED_WITHIN);
    let Ok(asked) = tokio::time::timeout_at(answered_by, asked).await else { return Ok(Followed::LeaderStuck) };
    let progress = if let Progress::Running { .. } = asked {
        patience.has_waited = true;
        let over = leader.flight.progress_when(|progress| matches!(progress, Progress::Over(_)));
        match tokio::time::timeout_at(patience.deadline, over).await {
            Ok(progress) => progress,
            Err(_) => leader.flight.progress_when(|_| true).await,
        }
    } else {
        asked
    };
    match progress {
        Progress::Over(FlightEnd::Done { outcome, has_waited }) => {
            Ok(Followed::Answered(Admission::replay(outcome, has_waited)))
        }
        Progress::Over(FlightEnd::Failed(error)) => Err(error),
        // A call that was ready to wait asks the store before it gives up: the run may be over, and its leader not
        // polled to say so.
        Progress::Running { .. } if patience.context.wait >= ANSWERED_WITHIN => Ok(Followed::LeaderStuck),
        Progress::Running { until } => Err(in_flight(until)),
        Progress::Over(FlightEnd::Busy { until }) if patience.is_over() => Err(in_flight(until)),
        Progress::Over(FlightEnd::Busy { .. } | FlightEnd::Vacant) | Progress::Claiming => Ok(Followed::LeaderLeft),
    }
}

/// Asks the store for this call and its followers, and tells them what it said.
async fn lead(
    context: &Arc<CallContext>,
    leadership: Leadership,
    patience: &mut Patience<'_>,
    now: Instant,
) -> Result<Admission, Error> {
    match ask_store(context, &leadership, patience, now).await {
        Ok(Asked::Claimed(claim)) => Ok(Admission::Run(Run::start(claim, leadership))),
        Ok(Asked::Done(Finished { outcome, .. })) => {
            let has_waited = patience.has_waited;
            leadership.end(FlightEnd::Done { outcome: outcome.clone(), has_waited });
            Ok(Admission::replay(outcome, has_waited))
        }
        Err(error) => {
            leadership.end(FlightEnd::of(&error));
            Err(error)
        }
    }
}

/// The store's answer, for this call and its followers.
enum Asked {
    Claimed(Claim),
    Done(Finished),
}

/// Asks the store until it answers with a claim or a result. Waits for a run elsewhere.
async fn ask_store(
    context: &Arc<CallContext>,
    leadership: &Leadership,
    patience: &mut Patience<'_>,
    mut now: Instant,
) -> Result<Asked, Error> {
    let mut nonce = context.request.nonce;
    let mut late_claims = 0;
    loop {
        let reply = claim(context, nonce, now).await;
        let sent = reply.sent;
        match reply.outcome {
            Ok(ClaimOutcome::Claimed { .. }) if sent.elapsed() >= trusted(context.request.lease) => {
                // Answered so late that the lease may have lapsed and another call may have the key: no body starts on
                // this claim.
                finish_later(reply.give_back(), None);
                late_claims += 1;
                if late_claims == LATE_CLAIMS {
                    return Err(StoreError::new(StoreErrorKind::Unavailable, TOO_LATE).into());
                }
                nonce = Nonce::random();
                now = Instant::now();
            }
            Ok(ClaimOutcome::Claimed { token, attempt, past }) => {
                let claim = Claim::new(reply.context, token, attempt, past, sent).with_turn(reply.turn);
                if claim.is_exhausted() {
                    return Box::pin(FinishInBackground::new(exhausted(claim, reply.run), |_| Box::pin(ready(()))))
                        .await;
                }
                return Ok(Asked::Claimed(claim));
            }
            Ok(ClaimOutcome::Done(finished)) => return Ok(Asked::Done(finished)),
            Ok(ClaimOutcome::InFlight { retry_after }) => {
                if patience.is_over() {
                    return Err(Error::InFlight { retry_after });
                }
                patience.begin()?;
                // The next run of this process may have its turn while this call waits for one elsewhere.
                drop(reply.turn);
                let until = Instant::now() + retry_after;
                leadership.running(until);
                Box::pin(patience.wait(until)).await;
                now = Instant::now();
                // A try of this claim that timed out may still reach the store, and be granted once the other run has
                // ended. Asked again with the same nonce, the store would recognise it as ours: its lease would count
                // from this question, although it began before. So the next question has a nonce of its own.
                nonce = Nonce::random();
            }
            Ok(ClaimOutcome::Mismatch) => {
                return Err(Box::pin(mismatch(context, context.store().inspect(&context.key))).await);
            }
            Ok(ClaimOutcome::Abandoned { attempt }) => return Err(Error::abandoned(attempt)),
            Ok(ClaimOutcome::Suspended { retry_after, attempt }) => {
                return Err(Error::Suspended { retry_after, attempt });
            }
            Err(ref error) => {
                let error = error.clone();
                return unavailable(context, reply, error).map(Asked::Claimed);
            }
        }
    }
}

/// Ends a claim that exceeds the attempts. Gives it back to be run only where somebody can say what became of the last run.
async fn exhausted(claim: Claim, _run: RunGuard) -> Result<Asked, Error> {
    let context = &claim.context;
    let Some(token) = &claim.token else { return Ok(Asked::Claimed(claim)) };
    let in_doubt = matches!(claim.past.before, Before::Abandoned { .. });
    if in_doubt && context.attempts.settle_after.is_some() {
        return Ok(Asked::Claimed(claim));
    }
    if in_doubt {
        // It may have happened: the record stays as it was, and has no end.
        let rest = Rest { keep: LONGEST, ..Rest::unstarted(context, claim.past.before) };
        suspend_until(context, token, rest, claim.until()).await;
        return Err(Error::abandoned(claim.attempt.saturating_sub(1)));
    }
    match complete(&claim, token, &Outcome::Exhausted).await {
        Ok(Transition::Applied) => {
            Ok(Asked::Done(Finished::new(context.request.fingerprint, claim.attempt, Outcome::Exhausted)))
        }
        Ok(Transition::Lost) => Err(Error::ClaimLost),
        Err(error) => {
            suspend_until(context, token, Rest::unstarted(context, claim.past.before), claim.until()).await;
            Err(error.into())
        }
    }
}

/// Refuses a request other than the record's. Where arguments are recorded, the refusal names those that differ.
pub(super) async fn mismatch(
    context: &CallContext,
    inspect: impl Future<Output = StoreResult<Option<Record>>>,
) -> Error {
    let arguments = match &context.request.arguments {
        None => Arc::default(),
        // The record may have gone, or be another by now; and a store that fails here has answered the claim.
        Some(ours) => match inspect.await {
            Ok(Some(Record { fingerprint, arguments: Some(theirs), .. }))
                if fingerprint != context.request.fingerprint =>
            {
                differing(ours, &theirs)
            }
            _ => Arc::default(),
        },
    };
    Error::Mismatch { arguments }
}

/// Fails closed after a claim without an answer, or lets the body run unprotected if the handle was built to.
fn unavailable(context: &Arc<CallContext>, reply: ClaimReply, error: StoreError) -> Result<Claim, Error> {
    let sent = reply.sent;
    finish_later(reply.give_back(), None);
    // What a transaction of the run's own wrote could not be committed with a record.
    let may_run = error.kind() == StoreErrorKind::Unavailable
        && context.own_transaction == OwnTransaction::No
        && context.shared.limits.on_store_failure == OnStoreFailure::RunUnprotected;
    if !may_run {
        return Err(error.into());
    }
    events::unprotected(&context.key, &error);
    Ok(Claim::unprotected(Arc::clone(context), sent))
}

fn in_flight(until: Instant) -> Error {
    let left = until.saturating_duration_since(Instant::now());
    Error::InFlight { retry_after: left.max(Duration::from_millis(1)) }
}

/// The patience of one call: its deadline, its place among the waiters, and its wake-ups.
struct Patience<'a> {
    deadline: Instant,
    context: &'a CallContext,
    /// Counted among the waiters of the handle.
    counted: bool,
    has_waited: bool,
    subscription: Option<Subscription>,
    polls: Pauses,
}

impl<'a> Patience<'a> {
    fn new(context: &'a CallContext, now: Instant) -> Self {
        Self {
            // `Duration::MAX` is a reasonable wish, and would overflow the clock.
            deadline: now + context.wait.min(LONGEST),
            context,
            counted: false,
            has_waited: false,
            subscription: None,
            polls: Pauses::new(Duration::from_millis(100), Duration::from_secs(1)),
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Takes a place among the waiters.
    fn begin(&mut self) -> Result<(), Error> {
        if self.counted {
            return Ok(());
        }
        let shared = &self.context.shared;
        self.counted = true;
        if shared.waiters.fetch_add(1, Ordering::Relaxed) < shared.limits.max_waiters {
            Ok(())
        } else {
            Err(Error::TooManyWaiters)
        }
    }

    /// Waits until asking the store again may tell something new.
    async fn wait(&mut self, until: Instant) {
        self.has_waited = true;
        let Some(subscription) = &mut self.subscription else {
            // A run that ended before the subscription is in place notifies nobody: ask the store again at once.
            let subscribe = self.context.store().subscribe(&self.context.key);
            let subscribed = tokio::time::timeout_at(self.deadline, subscribe).await;
            self.subscription = Some(subscribed.ok().and_then(Result::ok).unwrap_or_else(Subscription::never));
            return;
        };
        let poll = Instant::now() + self.polls.pause();
        let next = poll.min(until).min(self.deadline);
        // An error says that the time is up, which is as good as a notification.
        let _ = tokio::time::timeout_at(next, subscription.notified()).await;
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.context.shared.waiters.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
