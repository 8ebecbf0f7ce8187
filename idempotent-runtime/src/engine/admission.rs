//! From the call to its entry: a result to replay, or the right to run the body.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    LONGEST,
    background::{Backoff, finish_later},
    claim::{Reply, claim, give_back},
    context::Context,
    heartbeat::{Claim, trusted},
    run::Run,
    shared::OnStoreFailure,
    single_flight::{End, Joined, Lead, Phase},
};
use crate::{
    disposition::Disposition,
    error::Error,
    request::arguments::differing,
    store::{ClaimOutcome, Finished, Nonce, Record, StoreError, StoreErrorKind, StoreResult, Subscription},
};

/// How often a claim that was answered too late is made anew.
const LATE_CLAIMS: u32 = 3;

/// How long a duplicate waits at least for a leader that asks the store, whatever its own `wait`.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// What a call is to do.
pub(crate) enum Entry {
    /// Answer with what an earlier run came to.
    Replay(Finished, Disposition),
    /// Run the body.
    Run(Run),
}

/// What a call is to do, if the store says so at once and nobody is there to follow; `None` where it is to be found out by
/// [`enter`].
///
/// The call leads nobody yet: whoever asks the store in the meantime is told that it runs.
pub(super) fn enter_at_once(context: &Arc<Context>) -> Option<Entry> {
    let store = context.store().immediate()?;
    if context.shared.flights.has_leader(context) {
        return None;
    }
    let sent = Instant::now();
    match store.claim(&context.key, &context.request) {
        Ok(ClaimOutcome::Claimed { token, attempt }) => {
            let claim = Claim::new(Arc::clone(context), Some(token), attempt, sent);
            Some(Entry::Run(Run::start(claim, Lead::apart())))
        }
        Ok(ClaimOutcome::Done(finished)) => Some(Entry::Replay(finished, Disposition::Replayed)),
        // Nothing was changed, and nothing is under way: the question can be asked again.
        Ok(ClaimOutcome::InFlight { .. } | ClaimOutcome::Abandoned { .. } | ClaimOutcome::Mismatch) | Err(_) => None,
    }
}

/// Finds out what a call is to do. Waits for a running duplicate as long as the call is willing to.
///
/// # Cancel safety
///
/// Dropped at any point, a claim that was granted, or may have been, is given back in the background.
pub(super) async fn enter(context: &Arc<Context>) -> Result<Entry, Error> {
    let mut now = Instant::now();
    let mut waiting = Waiting::new(context, now);
    loop {
        match context.shared.flights.join(context) {
            Joined::Lead(leadership) => return lead(context, leadership, &mut waiting, now).await,
            Joined::Apart => return lead(context, Lead::apart(), &mut waiting, now).await,
            Joined::Follow(leader) => {
                // Boxed here and below: whoever has to wait can allocate, and the future of the others stays small.
                let followed = Box::pin(follow(&leader, &mut waiting)).await?;
                now = Instant::now();
                match followed {
                    Followed::To(answer) => return Ok(answer),
                    Followed::Nowhere => {}
                    Followed::Asleep => return lead(context, Lead::apart(), &mut waiting, now).await,
                }
            }
        }
    }
}

/// What became of following a leader in this process.
enum Followed {
    /// It has the answer.
    To(Entry),
    /// It left without one: the next may lead.
    Nowhere,
    /// It does not get the store's answer, or does not say it, since the store hangs or nobody polls it: each for itself.
    Asleep,
}

async fn follow(leader: &Context, waiting: &mut Waiting<'_>) -> Result<Followed, Error> {
    waiting.begin()?;
    let asked = leader.flight.phase_when(|phase| !matches!(phase, Phase::Claiming));
    let patience = waiting.deadline.max(Instant::now() + ANSWERED_WITHIN);
    let Ok(asked) = tokio::time::timeout_at(patience, asked).await else { return Ok(Followed::Asleep) };
    let phase = if let Phase::Running { .. } = asked {
        waiting.has_waited = true;
        let over = leader.flight.phase_when(|phase| matches!(phase, Phase::Over(_)));
        match tokio::time::timeout_at(waiting.deadline, over).await {
            Ok(phase) => phase,
            Err(_) => leader.flight.phase_when(|_| true).await,
        }
    } else {
        asked
    };
    match phase {
        Phase::Over(End::Done { finished, waited }) => {
            let disposition = if waited { Disposition::Waited } else { Disposition::Replayed };
            Ok(Followed::To(Entry::Replay(finished, disposition)))
        }
        Phase::Over(End::Failed(error)) => Err(error),
        // Who was ready to wait asks before giving up: the run may be over, and its leader not polled to say so.
        Phase::Running { .. } if waiting.context.wait >= ANSWERED_WITHIN => Ok(Followed::Asleep),
        Phase::Running { until } => Err(in_flight(until)),
        Phase::Over(End::Busy { until }) if waiting.is_over() => Err(in_flight(until)),
        Phase::Over(End::Busy { .. } | End::Vacant) | Phase::Claiming => Ok(Followed::Nowhere),
    }
}

/// Asks the store, and waits for a run elsewhere, for this call and its followers.
async fn lead(context: &Arc<Context>, lead: Lead, waiting: &mut Waiting<'_>, mut now: Instant) -> Result<Entry, Error> {
    let mut nonce = context.request.nonce;
    let mut late_claims = 0;
    loop {
        let reply = claim(context, nonce, now).await;
        let sent = reply.sent;
        match reply.outcome {
            Ok(ClaimOutcome::Claimed { .. }) if sent.elapsed() >= trusted(context.request.lease) => {
                // Answered so late that another may have the key by now: no body starts on it.
                finish_later(give_back(reply), None);
                late_claims += 1;
                if late_claims == LATE_CLAIMS {
                    return Err(fail(lead, StoreError::new(StoreErrorKind::Unavailable, TOO_LATE).into()));
                }
                nonce = Nonce::random();
                now = Instant::now();
            }
            Ok(ClaimOutcome::Claimed { token, attempt }) => {
                let claim = Claim::new(reply.context, Some(token), attempt, sent);
                return Ok(Entry::Run(Run::start(claim, lead)));
            }
            Ok(ClaimOutcome::Done(finished)) => {
                let waited = waiting.has_waited;
                lead.end(End::Done { finished: finished.clone(), waited });
                let disposition = if waited { Disposition::Waited } else { Disposition::Replayed };
                return Ok(Entry::Replay(finished, disposition));
            }
            Ok(ClaimOutcome::InFlight { retry_after }) => {
                let until = Instant::now() + retry_after;
                if waiting.is_over() {
                    lead.end(End::Busy { until });
                    return Err(Error::InFlight { retry_after });
                }
                waiting.begin()?;
                lead.running(until);
                Box::pin(waiting.wait(until)).await;
                now = Instant::now();
                // A try of this claim that was given up may yet reach the store. Recognised as ours then, its lease would
                // count from the next question, although it began before.
                nonce = Nonce::random();
            }
            Ok(ClaimOutcome::Mismatch) => {
                return Err(fail(lead, Box::pin(mismatch(context, context.store().inspect(&context.key))).await));
            }
            Ok(ClaimOutcome::Abandoned { attempt }) => return Err(fail(lead, Error::Abandoned { attempt })),
            Err(ref error) => {
                let error = error.clone();
                return unavailable(context, lead, reply, error);
            }
        }
    }
}

/// The refusal of another request than the record's. Where arguments are recorded, it says which differ.
pub(super) async fn mismatch(context: &Context, inspect: impl Future<Output = StoreResult<Option<Record>>>) -> Error {
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

const TOO_LATE: &str = "the store answered claims later than their lease allows";

/// The store gave no answer: fail closed, or run all the same if the handle was built to.
fn unavailable(context: &Arc<Context>, lead: Lead, reply: Reply, error: StoreError) -> Result<Entry, Error> {
    let sent = reply.sent;
    finish_later(give_back(reply), None);
    let run = error.kind() == StoreErrorKind::Unavailable
        && context.shared.limits.on_store_failure == OnStoreFailure::RunUnprotected;
    if !run {
        return Err(fail(lead, error.into()));
    }
    crate::engine::events::unprotected(context.key.operation(), &error);
    Ok(Entry::Run(Run::start(Claim::new(Arc::clone(context), None, 1, sent), lead)))
}

fn fail(lead: Lead, error: Error) -> Error {
    lead.end(End::Failed(error.clone()));
    error
}

fn in_flight(until: Instant) -> Error {
    let left = until.saturating_duration_since(Instant::now());
    Error::InFlight { retry_after: left.max(Duration::from_millis(1)) }
}

/// A call's patience.
struct Waiting<'a> {
    deadline: Instant,
    context: &'a Context,
    /// Counted among the waiters of the handle.
    counted: bool,
    has_waited: bool,
    subscription: Option<Subscription>,
    polls: Backoff,
}

impl<'a> Waiting<'a> {
    fn new(context: &'a Context, now: Instant) -> Self {
        Self {
            // A wait without end is a reasonable wish, and past the end of the clock.
            deadline: now + context.wait.min(LONGEST),
            context,
            counted: false,
            has_waited: false,
            subscription: None,
            polls: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
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
        let inner = &self.context.shared;
        self.counted = true;
        if inner.waiters.fetch_add(1, Ordering::Relaxed) < inner.limits.max_waiters {
            Ok(())
        } else {
            Err(Error::TooManyWaiters)
        }
    }

    /// Waits until asking the store again may tell something new.
    async fn wait(&mut self, until: Instant) {
        self.has_waited = true;
        let Some(subscription) = &mut self.subscription else {
            // What ended before the subscription is in place is seen by asking again at once.
            let subscribe = self.context.store().subscribe(&self.context.key);
            let subscribed = tokio::time::timeout_at(self.deadline, subscribe).await;
            self.subscription = Some(subscribed.ok().and_then(Result::ok).unwrap_or_else(Subscription::never));
            return;
        };
        let poll = Instant::now() + self.polls.pause();
        let next = poll.min(until).min(self.deadline);
        // An error here is the time being up, which is as good as a notification.
        let _ = tokio::time::timeout_at(next, subscription.notified()).await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.context.shared.waiters.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
