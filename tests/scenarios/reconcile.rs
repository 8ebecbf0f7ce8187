//! What became of a run that vanished is found out before the body runs again.

use std::{
    future::pending,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use idempotent_runtime::{
    Disposition, Error, Execution, OnAbandoned, Operation, Reconciled, State, idempotent,
    testing::{Fault, Gate, Method},
    with_disposition,
};

use crate::{
    support::{Backend, Caller, Effects, Failure, LEASE, TTL, record_key},
    test_bodies::{record, refusal, settled, vanish},
};
use idempotent_tests::{on_every_store, wait::wait_for};

on_every_store! {
    s39_done_is_recorded_and_returned,
    s39_not_done_runs_the_body_once_it_has_settled,
    s39_what_cannot_be_said_leaves_the_record_as_it_was,
    s39_nobody_asks_without_a_run_that_vanished,
    s39_one_asks_at_a_time,
    s39_a_question_that_is_dropped_counts_for_nothing,
    s39_a_question_that_outlasts_its_lease_starts_nothing,
    s39_a_key_is_held_for_those_who_do_not_ask,
    s39_the_attempts_end_after_the_question,
    s39_of_the_attribute,
}

fn charge() -> Operation {
    Operation::new("reconcile.charge").ttl(TTL).lease(LEASE).wait(Duration::ZERO)
}

type Found = Result<Reconciled<u64>, Failure>;

/// The answers of those who are asked, in turn, and how often they were.
struct Bank<'a> {
    asked: Effects,
    answer: Mutex<Box<dyn FnMut() -> Found + Send + 'a>>,
}

impl<'a> Bank<'a> {
    fn new(answer: impl FnMut() -> Found + Send + 'a) -> Self {
        Self { asked: Effects::new(), answer: Mutex::new(Box::new(answer)) }
    }

    async fn ask(&self) -> Found {
        self.asked.happen();
        tokio::task::yield_now().await;
        (self.answer.lock().expect("a lock"))()
    }

    async fn call(&self, caller: &Caller, operation: Operation, key: &str, effects: &Effects) -> Result<u64, Failure> {
        let body = async {
            effects.happen();
            Ok(u64::from(Execution::current().expect("a run").attempt()))
        };
        caller.idempotency.call(operation).key(key).reconcile(async |_| self.ask().await).run(body).await
    }
}

/// A run vanishes; its lease has been over for as long again.
async fn vanishes(backend: &Backend, key: &str) {
    vanish(backend, async |caller, started| {
        let ask = async |_| pending::<Found>().await;
        let body = async {
            started.pass().await;
            Ok(0)
        };
        caller.idempotency.call(charge()).key(key).reconcile(ask).run(body).await
    })
    .await;
    backend.advance(LEASE).await;
}

async fn s39_done_is_recorded_and_returned(backend: Backend) {
    vanishes(&backend, "k").await;
    let (caller, effects) = (backend.caller().await, Effects::new());
    let bank = Bank::new(|| Ok(Reconciled::Done(7)));
    let (answer, disposition) = with_disposition(bank.call(&caller, charge(), "k", &effects)).await;
    assert_eq!((answer.expect("a result"), disposition), (7, Disposition::Reconciled));
    for caller in [&caller, &backend.caller().await] {
        let (answer, disposition) = with_disposition(bank.call(caller, charge(), "k", &effects)).await;
        assert_eq!((answer.expect("a result"), disposition), (7, Disposition::Replayed));
    }
    assert_eq!((bank.asked.count(), effects.count()), (1, 0));
}

/// The old body may be alive, and about to act.
async fn s39_not_done_runs_the_body_once_it_has_settled(backend: Backend) {
    let (caller, effects) = (backend.caller().await, Effects::new());
    let bank = Bank::new(|| Ok(Reconciled::NotDone));
    vanishes(&backend, "k").await;
    let patient = || charge().settle_after(LEASE * 10);
    for _ in 0..2 {
        let refused = refusal(bank.call(&caller, patient(), "k", &effects).await);
        assert!(matches!(refused, Error::Abandoned { attempt: 1, may_retry: true, .. }) && refused.is_retryable());
    }
    assert_eq!((bank.asked.count(), effects.count()), (2, 0));
    // It counts from when the run vanished, however often it was asked for since.
    backend.advance(LEASE * 9).await;
    let (answer, disposition) = with_disposition(bank.call(&caller, patient(), "k", &effects)).await;
    assert_eq!((answer.expect("a result"), disposition), (2, Disposition::TookOver));
    assert_eq!((bank.asked.count(), effects.count()), (3, 1));
}

async fn s39_what_cannot_be_said_leaves_the_record_as_it_was(backend: Backend) {
    let (caller, effects, observer) = (backend.caller().await, Effects::new(), backend.store().await);
    let key = record_key("reconcile.charge", "k");
    vanishes(&backend, "k").await;
    let mut answers = [Ok(Reconciled::Unknown), Err(Failure::Unreachable), Ok(Reconciled::Unknown)].into_iter();
    let bank = Bank::new(move || answers.next().unwrap_or(Ok(Reconciled::Done(9))));
    for asked in 1..=3 {
        let (answer, disposition) = with_disposition(bank.call(&caller, charge(), "k", &effects)).await;
        let refused = refusal(answer);
        assert!(matches!(refused, Error::Abandoned { attempt: 1, may_retry: true, .. }), "{refused:?}");
        assert_eq!(disposition, Disposition::Refused);
        let left = record(&*observer, &key).await.expect("a record");
        assert_eq!((left.state, left.attempt, left.failed), (State::Abandoned, 1, 0), "{asked}");
    }
    backend.advance(TTL * 100).await;
    assert_eq!(bank.call(&caller, charge(), "k", &effects).await.expect("a result"), 9, "it has no end");
    assert_eq!(effects.count(), 0);
}

async fn s39_nobody_asks_without_a_run_that_vanished(backend: Backend) {
    let (caller, effects) = (backend.caller().await, Effects::new());
    let bank = Bank::new(|| Ok(Reconciled::Done(7)));
    let first = caller.idempotency.call(charge().max_attempts(5)).key("failed");
    first.run(async { Err::<u64, _>(Failure::Unreachable) }).await.expect_err("it fails");
    assert_eq!(bank.call(&caller, charge(), "failed", &effects).await.expect("a result"), 2);
    assert_eq!(bank.call(&caller, charge(), "fresh", &effects).await.expect("a result"), 1);
    assert_eq!((bank.asked.count(), effects.count()), (0, 2));
}

async fn s39_one_asks_at_a_time(backend: Backend) {
    vanishes(&backend, "k").await;
    let (effects, began, ended) = (Effects::new(), Effects::new(), Effects::new());
    let most = AtomicU64::new(0);
    let callers = [backend.caller().await, backend.caller().await, backend.caller().await];
    let calls = (0..50).map(|number| {
        let (caller, effects, began, ended, most) = (&callers[number % 3], &effects, &began, &ended, &most);
        async move {
            let ask = async |_| {
                most.fetch_max(began.happen() - ended.count(), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                Ok(if ended.happen() < 5 { Reconciled::Unknown } else { Reconciled::Done(7) })
            };
            loop {
                let call = caller.idempotency.call(charge().wait(Duration::from_secs(20))).key("k");
                match call.reconcile(ask).run(async { Ok(effects.happen()) }).await {
                    Err(Failure::Idempotency(error)) if error.is_retryable() => {}
                    answer => return answer.expect("a result"),
                }
            }
        }
    });
    let answers = futures_all(calls).await;
    assert!(answers.iter().all(|&answer| answer == 7), "{answers:?}");
    assert_eq!(most.load(Ordering::SeqCst), 1, "at a time");
    assert_eq!(effects.count(), 0);
}

async fn futures_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Some(Box::pin(future)), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in &mut futures {
            if let Some(pending) = future
                && let std::task::Poll::Ready(ready) = pending.as_mut().poll(cx)
            {
                (*future, *output) = (None, Some(ready));
            }
        }
        if futures.iter().all(|(future, _)| future.is_none()) {
            std::task::Poll::Ready(futures.iter_mut().filter_map(|(_, output)| output.take()).collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

/// Else impatient callers would keep "not done" from ever being believed.
async fn s39_a_question_that_is_dropped_counts_for_nothing(backend: Backend) {
    vanishes(&backend, "k").await;
    let (observer, key) = (backend.store().await, record_key("reconcile.charge", "k"));
    for _ in 0..3 {
        let impatient = backend.caller().await;
        let asked = Gate::new();
        let ask = async |_| {
            asked.pass().await;
            Ok::<_, Failure>(Reconciled::Done(0_u64))
        };
        tokio::select! {
            answer = impatient.idempotency.call(charge()).key("k").reconcile(ask).run(pending()) => panic!("{answer:?}"),
            () = asked.reached(1) => {}
        }
        settled(&*observer, &key).await;
        let left = record(&*observer, &key).await.expect("a record");
        assert_eq!((left.state, left.attempt), (State::Abandoned, 1));
    }
    let (caller, effects) = (backend.caller().await, Effects::new());
    let bank = Bank::new(|| Ok(Reconciled::NotDone));
    assert_eq!(bank.call(&caller, charge(), "k", &effects).await.expect("a result"), 2, "it has settled long ago");
}

/// Its process was stopped while it asked; another has taken over, and runs the body.
async fn s39_a_question_that_outlasts_its_lease_starts_nothing(backend: Backend) {
    vanishes(&backend, "k").await;
    let (late, other, effects) = (backend.caller().await, backend.caller().await, Effects::new());
    late.store.always(Method::Renew, Fault::HoldBefore(Gate::new()));
    let lease = Duration::from_millis(500);
    let operation = || charge().lease(lease).settle_after(Duration::ZERO);
    let gate = Gate::new();
    let ask = async |_| {
        gate.pass().await;
        Ok(Reconciled::NotDone)
    };
    let stopped = late.idempotency.call(operation()).key("k").reconcile(ask).run(async { Ok(effects.happen() + 100) });
    let overtaken = async {
        gate.reached(1).await;
        // Longer than the lease is trusted on this machine's clock, and over on the store's.
        tokio::time::sleep(lease).await;
        backend.advance(lease).await;
        let answer = Bank::new(|| Ok(Reconciled::NotDone)).call(&other, operation(), "k", &effects).await;
        gate.open();
        answer
    };
    let (stopped, answer) = tokio::join!(stopped, overtaken);
    assert_eq!(answer.expect("a result"), 3);
    let refused = refusal(stopped);
    assert!(matches!(refused, Error::Abandoned { may_retry: true, .. }), "{refused:?}");
    assert_eq!(effects.count(), 1);
}

async fn s39_a_key_is_held_for_those_who_do_not_ask(backend: Backend) {
    vanishes(&backend, "k").await;
    let caller = backend.caller().await;
    for later in [Duration::ZERO, TTL * 10] {
        backend.advance(later).await;
        // The last one has the policy, and nobody to ask.
        for policy in [OnAbandoned::Rerun, OnAbandoned::Refuse, OnAbandoned::Reconcile] {
            let call = caller.idempotency.call(charge().abandoned(policy)).key("k");
            let refused = refusal(call.run(async { Ok::<u64, Failure>(1) }).await);
            assert!(
                matches!(refused, Error::Abandoned { attempt: 1, may_retry: false, .. }),
                "{policy:?}: {refused:?}"
            );
        }
    }
}

async fn s39_the_attempts_end_after_the_question(backend: Backend) {
    for (key, answer) in
        [("done", Reconciled::Done(7)), ("not-done", Reconciled::NotDone), ("unknown", Reconciled::Unknown)]
    {
        vanishes(&backend, key).await;
        let (caller, effects) = (backend.caller().await, Effects::new());
        let bank = Bank::new(|| Ok(answer.clone()));
        for _ in 0..2 {
            let told = bank.call(&caller, charge().max_attempts(1), key, &effects).await;
            match answer {
                Reconciled::Done(value) => assert_eq!(told.expect("a result"), value),
                Reconciled::NotDone => assert!(matches!(refusal(told), Error::Exhausted)),
                Reconciled::Unknown => assert!(matches!(refusal(told), Error::Abandoned { attempt: 1, .. })),
            }
        }
        backend.advance(TTL - LEASE * 2).await;
        let again = bank.call(&caller, charge().max_attempts(1), key, &effects).await;
        if let Reconciled::Unknown = answer {
            assert!(matches!(refusal(again), Error::Abandoned { .. }), "what is in doubt has no end");
        }
        assert_eq!(effects.count(), 0, "{key}");
    }
}

#[idempotent(
    name = "reconcile.attribute",
    key = key,
    skip(caller, effects),
    store = caller.idempotency,
    lease = "30s",
    abandoned = reconcile(find),
    settle_after = "1m"
)]
async fn attribute(caller: &Caller, key: &str, mut amount: u64, effects: &Effects) -> Result<String, Failure> {
    effects.happen();
    amount += 1;
    if effects.count() == 1 {
        return pending().await;
    }
    Ok(format!("{key} {amount}"))
}

async fn find(
    run: &Execution,
    _: &Caller,
    key: &str,
    amount: u64,
    effects: &Effects,
) -> Result<Reconciled<String>, Failure> {
    assert_eq!(run.attempt(), 2);
    assert!(run.abandoned_for().is_some());
    assert!(matches!(
        idempotent_runtime::step("s", async { Ok::<_, Error>(1) }).await,
        Err(Error::Step(idempotent_runtime::StepError::InReconcile))
    ));
    if key == "known" && effects.count() == 1 {
        return Ok(Reconciled::Done(format!("found {amount}")));
    }
    Ok(Reconciled::NotDone)
}

async fn s39_of_the_attribute(backend: Backend) {
    for (key, expected, runs) in [("known", "found 4", 1), ("new", "new 5", 2)] {
        let effects = Effects::new();
        vanish(&backend, async |caller, started| {
            tokio::select! {
                answer = attribute(&caller, key, 4, &effects) => answer,
                () = wait_for("the body", async || effects.count() == 1) => {
                    started.pass().await;
                    Ok(String::new())
                }
            }
        })
        .await;
        let caller = backend.caller().await;
        if key == "new" {
            let early = refusal(attribute(&caller, key, 4, &effects).await);
            assert!(matches!(early, Error::Abandoned { may_retry: true, .. }), "{early:?}");
        }
        backend.advance(Duration::from_secs(60)).await;
        assert_eq!(attribute(&caller, key, 4, &effects).await.expect("a result"), expected);
        assert_eq!(effects.count(), runs);
    }
}
