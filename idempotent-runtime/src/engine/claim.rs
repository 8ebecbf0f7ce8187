//! A claim in the hands of its owner, and the run that it is for.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    context::{CallContext, OwnTransaction},
    disposition::Disposition,
    events,
    journal::Journal,
    record::RunEnd,
    reply::Answer,
    rest::{Rest, suspend_until},
};
use crate::{
    error::Error,
    lock::lock,
    store::{Before, Outcome, Past, StoreError, Token, Transition, transactional::Turn},
};

/// The time that a lease is trusted, counted from when it was asked for: a tenth less than the lease, since clocks run
/// at different rates and schedulers are late.
pub(super) fn trusted(lease: Duration) -> Duration {
    lease.saturating_sub(lease / 10)
}

/// A claim in the hands of its owner.
pub(crate) struct Claim {
    pub(super) context: Arc<CallContext>,
    /// `None` for a run that the store does not know of.
    pub(super) token: Option<Token>,
    pub(super) attempt: u32,
    /// The life of the key before this claim.
    pub(super) past: Past,
    /// In a transaction of the caller's, where nobody else can take it before that ends.
    in_transaction: bool,
    held: Mutex<Held>,
    /// When its past was told; where it tells no time, the clock is not asked again.
    granted: Instant,
    stage: AtomicU8,
    /// The turn of the run, where runs take turns.
    turn: Mutex<Turn>,
    /// Made by the first step.
    journal: OnceLock<Box<Journal>>,
    /// Made by the first message that the run publishes.
    #[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
    publications: OnceLock<Box<crate::outbox::Publications>>,
}

/// The part of a run that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RunStage {
    /// Nothing yet.
    Claimed = 0,
    /// The body.
    Body,
    /// Before it: it is being found out what became of the run before.
    Asking,
    /// That could not be found out: the body does not run.
    Unresolved,
    /// It had not happened, and no further run is allowed: the body does not run.
    Exhausted,
    /// It had happened: its result is this run's.
    Reconciled,
}

impl RunStage {
    const ALL: [Self; 6] =
        [Self::Claimed, Self::Body, Self::Asking, Self::Unresolved, Self::Exhausted, Self::Reconciled];
}

#[derive(Clone, Copy)]
struct Held {
    until: Instant,
    lost: bool,
}

impl Claim {
    /// A claim that was asked for at `sent`, or after.
    pub(super) fn new(context: Arc<CallContext>, token: Token, attempt: u32, past: Past, sent: Instant) -> Self {
        let until = sent + trusted(context.request.lease);
        let held = Mutex::new(Held { until, lost: false });
        let granted = if let Before::Abandoned { .. } = past.before { Instant::now() } else { sent };
        let (stage, journal) = (AtomicU8::new(RunStage::Claimed as u8), OnceLock::new());
        let (token, turn) = (Some(token), Mutex::new(Turn::none()));
        Self {
            context,
            token,
            attempt,
            past,
            in_transaction: false,
            held,
            granted,
            stage,
            turn,
            journal,
            #[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
            publications: OnceLock::new(),
        }
    }

    /// A run that the store does not know of.
    pub(super) fn unprotected(context: Arc<CallContext>, sent: Instant) -> Self {
        let nonce = context.request.nonce;
        Self { token: None, ..Self::new(context, Token::new(nonce), 1, Past::none(nonce), sent) }
    }

    pub(super) fn in_transaction(context: Arc<CallContext>, token: Token, attempt: u32, past: Past) -> Self {
        Self { in_transaction: true, ..Self::new(context, token, attempt, past, Instant::now()) }
    }

    /// Keeps the turn that the claim was granted in.
    pub(super) fn with_turn(self, turn: Turn) -> Self {
        Self { turn: Mutex::new(turn), ..self }
    }

    /// Lets the next run have its turn: this one has ended, although its [`Execution`](crate::Execution) may live on.
    pub(super) fn end_turn(&self) {
        drop(std::mem::replace(&mut *lock(&self.turn), Turn::none()));
    }

    /// The fence, where it is known and cannot have been overtaken.
    pub(crate) fn certain_fence(&self) -> Option<u64> {
        self.token.filter(|_| self.in_transaction)?.fence
    }

    /// Tells that the store has renewed the claim when it was asked to at `sent`, or after.
    pub(super) fn renewed_at(&self, sent: Instant) {
        let lease = self.context.request.lease;
        let mut held = self.held();
        // The answers to a renewal and to an append may come in any order.
        held.until = held.until.max(sent + trusted(lease));
        drop(held);
        self.context.flight.extend(sent + lease);
    }

    /// Tells the operator that the store said the claim is not ours any more, once.
    pub(super) fn tell_lost(&self) {
        let was_lost = std::mem::replace(&mut self.held().lost, true);
        if !was_lost {
            events::claim_lost(&self.context.key, self.attempt);
        }
    }

    /// Tells that the body has ended, and that its outcome is not on record.
    pub(super) fn tell_unrecorded(&self, error: &StoreError) {
        events::not_recorded(&self.context.key, self.attempt, error);
    }

    /// True while the claim is surely ours.
    pub(crate) fn is_trusted(&self) -> bool {
        let Held { until, lost } = *self.held();
        !lost && Instant::now() < until
    }

    /// Makes sure that the claim is ours for now: renews it if its lease may have ended.
    pub(super) async fn trust(&self, token: &Token) -> Result<(), Error> {
        while !self.is_trusted() {
            if self.is_lost() {
                return Err(Error::ClaimLost);
            }
            let (sent, request) = (Instant::now(), &self.context.request);
            match self.context.store().renew(&self.context.key, token, request.lease, request.ttl).await? {
                Transition::Applied => self.renewed_at(sent),
                Transition::Lost => {
                    self.tell_lost();
                    return Err(Error::ClaimLost);
                }
            }
        }
        Ok(())
    }

    /// The steps of this run.
    pub(super) fn journal(&self) -> &Journal {
        self.journal.get_or_init(|| Box::new(Journal::new()))
    }

    /// The steps of this run, if it has asked for any.
    pub(super) fn journal_if_any(&self) -> Option<&Journal> {
        self.journal.get().map(|journal| &**journal)
    }

    /// The value of a recorded step cannot be read.
    pub(crate) fn lose_step(&self) {
        self.journal().lose();
    }

    pub(crate) fn stage(&self) -> RunStage {
        RunStage::ALL.get(usize::from(self.stage.load(Ordering::Acquire))).copied().unwrap_or(RunStage::Body)
    }

    pub(crate) fn set_stage(&self, stage: RunStage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        // A step would be recorded although the transaction is rolled back, with what the step did in it.
        self.in_transaction || self.context.own_transaction != OwnTransaction::No
    }

    /// The time for which the run before was abandoned, or a little less; `None` if it was not.
    pub(crate) fn abandoned_for(&self) -> Option<Duration> {
        match self.past.before {
            Before::Abandoned { since } => Some(since.saturating_add(self.granted.elapsed())),
            Before::Fresh | Before::Failed => None,
        }
    }

    /// The refusal of a call that could not find out what became of the run before.
    pub(crate) fn unresolved(&self) -> Error {
        Error::unresolved(self.attempt.saturating_sub(1))
    }

    /// True if the operation allows no run of this number.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.context.attempts.max.is_some_and(|max| self.attempt > max)
    }

    /// Decides what the record becomes, and who answers, after the body has ended like this.
    pub(super) fn judge(&self, end: RunEnd, own: Answer) -> (RunEnd, Answer) {
        match (self.stage(), end) {
            #[cfg(any(feature = "consumer", feature = "postgres", feature = "sqlite"))]
            (_, RunEnd::Unstarted) => (RunEnd::Unstarted, Answer::Told),
            (RunStage::Unresolved, _) => (RunEnd::GiveBack, Answer::Refused(self.unresolved())),
            (RunStage::Exhausted, _) => (RunEnd::Keep(Outcome::Exhausted), Answer::Refused(Error::Exhausted)),
            (RunStage::Reconciled, end) => (end, Answer::Own(Disposition::Reconciled)),
            (_, RunEnd::Abandon) => (RunEnd::Abandon, Answer::Told),
            (_, end) => {
                if self.past.has_steps && end.is_ok() {
                    self.tell_steps_not_asked_for();
                }
                (end, own)
            }
        }
    }

    fn tell_steps_not_asked_for(&self) {
        let not_asked_for = self.journal_if_any().and_then(Journal::not_asked_for);
        if not_asked_for != Some(0) {
            events::steps_not_asked_for(&self.context.key, self.attempt);
        }
    }

    /// Ends a run whose future was dropped.
    pub(super) async fn end_dropped(&self) {
        let rest = match self.stage() {
            RunStage::Claimed | RunStage::Asking | RunStage::Unresolved => {
                Rest::unstarted(&self.context, self.past.before)
            }
            RunStage::Body | RunStage::Exhausted | RunStage::Reconciled => {
                events::abandoned(&self.context.key, self.attempt);
                Rest::abandoned(self)
            }
        };
        if let Some(journal) = self.journal_if_any() {
            journal.settled(self.until()).await;
        }
        if let Some(token) = &self.token {
            suspend_until(&self.context, token, rest, self.until()).await;
        }
        self.end_turn();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    /// The time until which the claim is surely ours.
    pub(super) fn until(&self) -> Instant {
        self.held().until
    }

    /// The time until which the claim may be ours. Duplicates are told this one.
    pub(super) fn lease_end(&self) -> Instant {
        let lease = self.context.request.lease;
        self.until() + lease.saturating_sub(trusted(lease))
    }

    /// True once the store said that it is not ours any more.
    pub(super) fn is_lost(&self) -> bool {
        self.held().lost
    }

    pub(crate) fn context(&self) -> &CallContext {
        &self.context
    }

    pub(crate) const fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// The number of runs before this one that vanished.
    #[cfg(feature = "consumer")]
    pub(crate) const fn vanished(&self) -> u32 {
        self.attempt.saturating_sub(1).saturating_sub(self.past.failed)
    }

    /// True if steps of this run are recorded or in doubt.
    #[cfg(feature = "consumer")]
    pub(crate) fn has_steps(&self) -> bool {
        self.past.has_steps || self.journal.get().is_some()
    }

    /// The life of the key that the run belongs to.
    #[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
    pub(crate) const fn generation(&self) -> &crate::store::Generation {
        &self.past.generation
    }

    /// The messages that this run publishes.
    #[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
    pub(crate) fn publications(&self) -> &crate::outbox::Publications {
        self.publications.get_or_init(Box::default)
    }

    /// True if this run has published.
    #[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
    pub(super) fn has_published(&self) -> bool {
        self.publications.get().is_some()
    }

    pub(crate) const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Gives the claim back: its body did not start.
    pub(super) async fn give_back(&self) {
        if let Some(token) = &self.token {
            suspend_until(&self.context, token, Rest::unstarted(&self.context, self.past.before), self.lease_end())
                .await;
        }
        self.end_turn();
    }
}
