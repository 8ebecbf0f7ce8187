//! Asks the store for a claim, and gives back what no body will use.
//!
//! A claim whose reply was lost is asked for again with the same nonce, so that the store recognises it. A claim that no
//! body will use is given back: the key is as it was before.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    background::FinishInBackground,
    context::CallContext,
    prepare::LONGEST,
    rest::{Rest, last_try, suspend_until},
    retry::Pauses,
    runs::RunGuard,
};
use crate::store::{
    Before, BoxFuture, ClaimOutcome, ClaimRequest, Nonce, Record, State, StoreError, StoreErrorKind, Token,
    transactional::Turn,
};

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
