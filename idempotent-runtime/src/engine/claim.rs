//! A claim: asking the store for it, holding it, and giving it back.
//!
//! A claim whose reply was lost is asked for again with the same nonce, so that the store recognises it. A claim that no
//! body will use is given back: the key is as it was before.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    background::FinishInBackground,
    context::{CallContext, OwnTransaction},
    disposition::Disposition,
    events,
    journal::Journal,
    prepare::LONGEST,
    record::RunEnd,
    reply::Answer,
    rest::{Rest, last_try, suspend_until},
    retry::Pauses,
    runs::RunGuard,
};
use crate::{
    error::Error,
    lock::lock,
    store::{
        Before, BoxFuture, ClaimOutcome, ClaimRequest, Nonce, Outcome, Past, Record, State, StoreError, StoreErrorKind,
        Token, Transition, transactional::Turn,
    },
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

/// The least number of tries before the store's failure is the caller's: one lost reply must not be.
const LEAST_TRIES: u32 = 2;
/// The most tries, and the time after which no further try begins: long enough for a connection to be made anew.
const MOST_TRIES: u32 = 5;
const TRY_FOR: Duration = Duration::from_secs(1);

/// The time after which to ask again for a turn that did not come in time. It is a guess: the run that has it may end at any time.
const TURN_AGAIN: Duration = Duration::from_secs(1);

/// The store's reply to a claim.
pub(super) struct ClaimReply {
    pub(super) context: Arc<CallContext>,
    nonce: Nonce,
    /// When the claim was first sent, or before: its lease cannot have begun earlier.
    pub(super) sent: Instant,
    pub(super) outcome: Result<ClaimOutcome, StoreError>,
    pub(super) run: RunGuard,
    pub(super) turn: Turn,
}

/// Claims with this nonce, again while the store is unavailable. `sent` is not later than the present.
///
/// Dropped before it is answered, the claim is followed up in the background and given back: its body never started.
pub(super) fn claim(context: &Arc<CallContext>, nonce: Nonce, sent: Instant) -> FinishInBackground<ClaimReply> {
    let context = Arc::clone(context);
    FinishInBackground::new(ask(context, nonce, sent), ClaimReply::give_back)
}

async fn ask(context: Arc<CallContext>, nonce: Nonce, mut sent: Instant) -> ClaimReply {
    let run = RunGuard::new(&context.shared);
    let mut turn = Turn::none();
    if context.is_exclusive() {
        // A message that went back to the broker would come again at once.
        let patience = if context.is_of_message { LONGEST } else { context.wait.min(LONGEST) };
        let Ok(ours) = tokio::time::timeout(patience, Box::pin(context.turn())).await else {
            let outcome = Ok(ClaimOutcome::in_flight(context.request.lease.min(TURN_AGAIN)));
            return ClaimReply { context, nonce, sent, outcome, run, turn };
        };
        // The lease counts from here.
        (turn, sent) = (ours, Instant::now());
    }
    let request = ClaimRequest { nonce, ..context.request.clone() };
    let mut backoff = Pauses::new(Duration::from_millis(20), Duration::from_millis(200));
    let mut tries = 1;
    loop {
        let outcome = context.store().claim(&context.key, &request).await;
        match outcome {
            Err(error)
                if error.kind() == StoreErrorKind::Unavailable
                    && (tries < LEAST_TRIES || tries < MOST_TRIES && sent.elapsed() < TRY_FOR) =>
            {
                tries += 1;
                // Boxed: it is rare, and would make every claim's future large.
                Box::pin(tokio::time::sleep(backoff.pause())).await;
            }
            outcome => return ClaimReply { context, nonce, sent, outcome, run, turn },
        }
    }
}

impl ClaimReply {
    /// Gives back the claim that was granted, or may have been: its body never started.
    pub(super) fn give_back(self) -> BoxFuture<'static, ()> {
        let Self { context, nonce, sent, outcome, run, turn } = self;
        let deadline = sent + context.request.lease;
        let (token, before) = match outcome {
            Ok(ClaimOutcome::Claimed { token, past, .. }) => (token, Some(past.before)),
            // No answer is not a no: the claim may have been granted.
            Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                (Token::new(nonce), context.before_unanswered())
            }
            _ => return Box::pin(std::future::ready(())),
        };
        Box::pin(async move {
            let before = match before {
                Some(before) => Some(before),
                None => find_before(&context, nonce, deadline).await,
            };
            if let Some(before) = before {
                suspend_until(&context, &token, Rest::unstarted(&context, before), deadline).await;
            }
            drop(turn);
            drop(run);
        })
    }
}

/// Finds out what was before a claim that got no answer; `None` if the claim was not granted.
///
/// The same claim, asked for once more, is told. But only while a run is alive: of any other record it would be granted only
/// now, and could take over from an owner that is late.
async fn find_before(context: &CallContext, nonce: Nonce, lease_end: Instant) -> Option<Before> {
    let deadline = last_try(context, lease_end);
    let request = ClaimRequest { nonce, ..context.request.clone() };
    let mut pauses = Pauses::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        let answer = match context.store().inspect(&context.key).await {
            Ok(Some(Record { state: State::Running { .. }, .. })) => {
                context.store().claim(&context.key, &request).await
            }
            // If it is ours, nobody says any more what was before it: the worst is assumed.
            Ok(Some(Record { state: State::Lapsed, .. })) => return Some(Before::abandoned(Duration::ZERO)),
            Ok(_) => return None,
            Err(error) => Err(error),
        };
        match answer {
            Ok(ClaimOutcome::Claimed { past, .. }) => return Some(past.before),
            Ok(_) => return None,
            Err(_) if pauses.sleep_before(deadline).await => {}
            Err(_) => return Some(Before::abandoned(Duration::ZERO)),
        }
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::{
        future::{pending, ready},
        task::{self, Waker},
    };

    use super::*;
    use crate::{
        Error, Execution, Idempotency, Operation, Reconciled,
        store::memory::MemoryStore,
        testing::{Fault, FaultyStore, Gate, Method},
    };

    /// The caller leaves between the takeover and its reply.
    #[tokio::test]
    async fn a_takeover_that_is_given_back_does_not_hide_the_run_that_vanished() {
        let store = FaultyStore::new(MemoryStore::new());
        let idempotency = Idempotency::new(store.clone());
        let attempt = || {
            let idempotency = idempotency.clone();
            async move {
                let body = async { Ok::<_, Error>(Execution::current().unwrap().attempt()) };
                idempotency.call("charge").key("key").run(body).await
            }
        };
        tokio::select! {
            biased;
            _ = idempotency.call("charge").key("key").run(pending::<Result<u32, Error>>()) => unreachable!(),
            () = ready(()) => {}
        }

        let gate = Gate::new();
        store.next(Method::Claim, [Fault::HoldAfter(gate.clone())]);
        let caller = tokio::spawn(attempt());
        gate.reached(1).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        gate.open();

        assert_eq!(attempt().await.unwrap(), 2, "1 vanished; what did not start does not count");
    }

    /// Its task is spawned on a runtime that stops before it comes to run.
    #[test]
    fn a_body_that_was_never_polled_leaves_the_key_as_it_was() {
        let idempotency = Idempotency::memory();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let operation = Operation::new("charge").abandoned(crate::OnAbandoned::Refuse);
        let mut call = Box::pin(idempotency.call(operation).key("key").detached().run(ready(Ok::<_, Error>(1))));
        assert!(call.as_mut().poll(&mut task::Context::from_waker(Waker::noop())).is_pending());
        drop(entered);
        drop(runtime);
        let mut record = Box::pin(idempotency.inspect("charge", "key"));
        let task::Poll::Ready(record) = record.as_mut().poll(&mut task::Context::from_waker(Waker::noop())) else {
            panic!("the embedded store waits");
        };
        assert_eq!(record.unwrap(), None);
    }

    /// The store hears each try, and the caller no answer. Found by chaos for takeovers: they were released.
    #[tokio::test(start_paused = true)]
    async fn a_claim_without_an_answer_is_given_back_as_what_it_was() {
        for (vanished, expected) in [(false, 1), (true, 2)] {
            let store = FaultyStore::new(MemoryStore::new());
            let idempotency = Idempotency::new(store.clone());
            let attempt = || {
                let body = async { Ok::<_, Error>(Execution::current().unwrap().attempt()) };
                idempotency.call("charge").key("key").run(body)
            };
            if vanished {
                tokio::select! {
                    biased;
                    _ = idempotency.call("charge").key("key").run(pending::<Result<u32, Error>>()) => unreachable!(),
                    () = ready(()) => {}
                }
            }
            store.next(Method::Claim, std::iter::repeat_n(Fault::LOST_REPLY, 5));
            assert!(matches!(attempt().await, Err(Error::Store(_))));
            assert_eq!(attempt().await.unwrap(), expected);
        }
    }

    /// Only a run that vanished has no end. Without an answer, the claim does not know which run was before it.
    #[tokio::test(start_paused = true)]
    async fn a_question_without_an_answer_leaves_each_record_its_end() {
        let ttl = Duration::from_secs(3600);
        for before in ["vacant", "failed", "vanished"] {
            let memory = MemoryStore::new();
            let (store, observer) = (FaultyStore::new(memory.clone()), Idempotency::new(memory));
            let idempotency = Idempotency::new(store.clone());
            let operation = || Operation::new("charge").ttl(ttl).max_attempts(9);
            let ask = |_| ready(Ok::<_, Error>(Reconciled::<u32>::Unknown));
            let call = || idempotency.call(operation()).key("key").reconcile(ask);
            match before {
                "failed" => {
                    call().run(ready(Err::<u32, _>(Error::TooManyWaiters))).await.unwrap_err();
                }
                "vanished" => tokio::select! {
                    biased;
                    _ = call().run(pending::<Result<u32, Error>>()) => unreachable!(),
                    () = ready(()) => {}
                },
                _ => {}
            }
            store.next(Method::Claim, std::iter::repeat_n(Fault::LOST_REPLY, 5));
            assert!(matches!(call().run(ready(Ok::<_, Error>(1))).await, Err(Error::Store(_))));
            // The store fails once more while the claim is given back.
            store.next(Method::Claim, [Fault::LOST_REQUEST]);
            store.next(Method::Inspect, [Fault::LOST_REQUEST]);
            store.next(Method::Suspend, [Fault::LOST_REQUEST]);
            tokio::time::sleep(Duration::from_secs(10)).await;

            let left = observer.inspect("charge", "key").await.unwrap();
            let left = left.map(|record| (record.state, record.attempt, record.expires_in > ClaimRequest::HELD));
            let expected = match before {
                "failed" => Some((State::Failed, 1, false)),
                "vanished" => Some((State::Abandoned, 1, true)),
                _ => None,
            };
            assert_eq!(left, expected, "{before}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_without_an_answer_that_was_not_heard_leaves_the_other_s_run() {
        let store = FaultyStore::new(MemoryStore::new());
        let idempotency = Idempotency::new(store.clone());
        let ask = |_| ready(Ok::<_, Error>(Reconciled::<u32>::Unknown));
        let call = || idempotency.call("charge").key("key").reconcile(ask);
        store.next(Method::Claim, std::iter::repeat_n(Fault::LOST_REQUEST, 5));
        assert!(matches!(call().run(ready(Ok::<_, Error>(1))).await, Err(Error::Store(_))));
        let gate = Gate::new();
        let other = async {
            gate.pass().await;
            Ok::<_, Error>(Execution::current().unwrap().attempt())
        };
        let opened = async {
            gate.reached(1).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            gate.open();
        };
        let (answer, ()) = tokio::join!(call().run(other), opened);
        assert_eq!(answer.unwrap(), 1);
    }

    /// Long enough for a connection to be made anew, and no longer; once more where the first answer took that long.
    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_asked_five_times_or_twice() {
        for (each, tries) in [(Duration::ZERO, MOST_TRIES), (TRY_FOR, LEAST_TRIES)] {
            let failing = FaultyStore::new(MemoryStore::new());
            failing.always(Method::Claim, Fault::LOST_REQUEST);
            let store = FaultyStore::new(failing.clone());
            store.always(Method::Claim, Fault::Delay(each));
            let idempotency = Idempotency::new(store);
            let answer = idempotency.call("charge").key("key").run(ready(Ok::<_, Error>(())));
            assert!(matches!(answer.await, Err(Error::Store(_))));
            assert_eq!(failing.calls(Method::Claim), tries as usize, "{each:?}");
        }
    }

    /// The claim is granted, and its body's task does not come to run for a lease.
    #[tokio::test(start_paused = true)]
    async fn a_claim_that_is_too_old_starts_no_body_and_is_given_back_as_what_it_was() {
        for (vanished, expected) in [(false, 1), (true, 2)] {
            let idempotency = Idempotency::memory();
            let attempt = || async { Ok::<_, Error>(Execution::current().unwrap().attempt()) };
            if vanished {
                tokio::select! {
                    biased;
                    _ = idempotency.call("charge").key("key").run(pending::<Result<u32, Error>>()) => unreachable!(),
                    () = ready(()) => {}
                }
            }
            let mut late = Box::pin(idempotency.call("charge").key("key").detached().run(async {
                unreachable!("the body started");
                #[expect(unreachable_code, reason = "the type of the body's result")]
                Ok::<u32, Error>(0)
            }));
            assert!(late.as_mut().poll(&mut task::Context::from_waker(Waker::noop())).is_pending());
            tokio::time::advance(Operation::DEFAULT_LEASE).await;
            assert!(matches!(late.await, Err(Error::Store(_))));
            assert_eq!(idempotency.call("charge").key("key").run(attempt()).await.unwrap(), expected);
        }
    }
}
