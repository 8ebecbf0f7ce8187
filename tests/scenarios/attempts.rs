//! How often a key is run, and when: the count and the pause are in the record, whoever asks next.

use std::time::Duration;

use idempotent_runtime::{
    Backoff, Disposition, Error, Execution, OnAbandoned, Operation, OperationError, State, idempotent,
    testing::{Fault, Gate, Method},
    with_disposition,
};

use crate::{
    support::{Backend, Caller, Effects, Failure, LEASE, TTL, record_key},
    test_bodies::{record, refusal, settled, vanish},
};
use idempotent_tests::on_every_store;

on_every_store! {
    a_key_is_run_as_often_as_its_operation_allows,
    runs_that_vanish_count,
    a_last_run_that_vanished_is_in_doubt_for_good,
    an_end_of_the_attempts_that_is_killed_is_in_doubt,
    claims_that_start_no_body_do_not_count,
    the_limit_is_that_of_the_call,
    an_error_that_is_kept_ends_the_count,
    a_pause_is_kept_whoever_asks,
    pauses_grow,
    the_end_of_the_attempts_survives_lost_replies,
    impossible_policies_claim_nothing,
}

fn charge() -> Operation {
    Operation::new("attempts.charge").ttl(TTL).lease(LEASE).wait(Duration::ZERO)
}

async fn fails(caller: &Caller, operation: Operation, key: &str, effects: &Effects) -> Result<u64, Failure> {
    let body = async {
        effects.happen();
        Err(Failure::Unreachable)
    };
    caller.idempotency.call(operation).key(key).run(body).await
}

async fn vanishes(backend: &Backend, operation: Operation, key: &str) {
    vanish(backend, async |caller, started| {
        let body = async {
            started.pass().await;
            Ok::<u64, Failure>(0)
        };
        caller.idempotency.call(operation).key(key).run(body).await
    })
    .await;
}

async fn a_key_is_run_as_often_as_its_operation_allows(backend: Backend) {
    let (caller, other, observer) = (backend.caller().await, backend.caller().await, backend.store().await);
    let effects = Effects::new();
    for attempt in 1..=3 {
        let (answer, disposition) = with_disposition(fails(&caller, charge().max_attempts(3), "k", &effects)).await;
        assert!(matches!(answer, Err(Failure::Unreachable)), "{answer:?}");
        assert_eq!(disposition, if attempt == 1 { Disposition::Executed } else { Disposition::TookOver });
        let failed = record(&*observer, &record_key("attempts.charge", "k")).await.expect("a record");
        assert_eq!((failed.state, failed.attempt, failed.failed), (State::Failed, attempt, attempt));
    }
    for caller in [&caller, &other, &caller] {
        let refused = refusal(fails(caller, charge().max_attempts(3), "k", &effects).await);
        assert!(matches!(refused, Error::Exhausted) && !refused.is_retryable(), "{refused:?}");
    }
    assert_eq!(effects.count(), 3);
    let mismatch = caller.idempotency.call(charge().max_attempts(3)).key("k").arguments(&1);
    let mismatch = refusal(mismatch.run(async { Ok::<u64, Failure>(1) }).await);
    assert!(matches!(mismatch, Error::Mismatch { .. }), "{mismatch:?}");

    backend.advance(TTL).await;
    let answer = fails(&caller, charge().max_attempts(3), "k", &effects).await;
    assert!(matches!(answer, Err(Failure::Unreachable)), "a new life: {answer:?}");
}

#[idempotent(name = "attempts.attribute", key = key, skip(caller, effects), store = caller.idempotency, max_attempts = 2, retry_after = "10s")]
async fn attribute(caller: &Caller, key: u8, effects: &Effects) -> Result<u64, Failure> {
    if effects.happen() == 2 {
        panic!("in the body")
    }
    Err(Failure::Unreachable)
}

async fn runs_that_vanish_count(backend: Backend) {
    let effects = Effects::new();
    let caller = backend.caller().await;
    let operation = || charge().max_attempts(3);
    vanishes(&backend, operation(), "k").await;
    fails(&caller, operation(), "k", &effects).await.expect_err("it fails");
    vanishes(&backend, operation(), "k").await;
    let record = record(&*backend.store().await, &record_key("attempts.charge", "k")).await.expect("a record");
    assert_eq!((record.state, record.attempt, record.failed), (State::Lapsed, 3, 1));

    let effects = Effects::new();
    attribute(&caller, 1, &effects).await.expect_err("it fails");
    let suspended = refusal(attribute(&caller, 1, &effects).await);
    assert!(matches!(suspended, Error::Suspended { attempt: 1, .. }) && suspended.is_retryable(), "{suspended:?}");
    backend.advance(Duration::from_secs(10)).await;
    let panics = tokio::spawn({
        let (caller, effects) = (caller.clone(), effects.clone());
        async move { attribute(&caller, 1, &effects).await }
    });
    panics.await.expect_err("a panic");
    settled(&*backend.store().await, &record_key("attempts.attribute", "~1")).await;
    backend.advance(Duration::from_secs(10)).await;
    let refused = refusal(attribute(&caller, 1, &effects).await);
    assert!(
        matches!(refused, Error::Abandoned { attempt: 2, may_retry: false, .. }),
        "the last one may have happened: {refused:?}"
    );
    assert_eq!(effects.count(), 2);
}

/// It may have happened: no further run, no end, and every handle is bound.
async fn a_last_run_that_vanished_is_in_doubt_for_good(backend: Backend) {
    let effects = Effects::new();
    let caller = backend.caller().await;
    vanishes(&backend, charge().max_attempts(1), "k").await;
    for later in [Duration::ZERO, TTL * 1000] {
        backend.advance(later).await;
        for operation in [charge().max_attempts(1), charge(), charge().max_attempts(9)] {
            let refused = refusal(fails(&caller, operation, "k", &effects).await);
            assert!(matches!(refused, Error::Abandoned { attempt: 1, .. }) && !refused.is_retryable(), "{refused:?}");
        }
    }
    let record = record(&*backend.store().await, &record_key("attempts.charge", "k")).await.expect("a record");
    assert_eq!((record.state, record.attempt), (State::Abandoned, 1));
    assert_eq!(effects.count(), 0);
    assert!(caller.idempotency.forget("attempts.charge", "k").await.expect("forget"));
    fails(&caller, charge().max_attempts(1), "k", &effects).await.expect_err("it fails");
}

/// Killed between the claim of one run too many and its end: it looks like a run, and so errs on the side of doubt.
async fn an_end_of_the_attempts_that_is_killed_is_in_doubt(backend: Backend) {
    let (caller, effects) = (backend.caller().await, Effects::new());
    fails(&caller, charge().max_attempts(1), "k", &effects).await.expect_err("it fails");
    let killed = backend.caller().await;
    let gate = Gate::new();
    killed.store.always(Method::Complete, Fault::HoldBefore(gate.clone()));
    tokio::select! {
        answer = fails(&killed, charge().max_attempts(1), "k", &effects) => panic!("{answer:?}"),
        () = gate.reached(1) => {}
    }
    backend.advance(LEASE).await;
    for later in [Duration::ZERO, TTL * 1000] {
        backend.advance(later).await;
        let refused = refusal(fails(&caller, charge().max_attempts(1), "k", &effects).await);
        assert!(matches!(refused, Error::Abandoned { attempt: 2, .. }) && !refused.is_retryable(), "{refused:?}");
    }
    assert_eq!(effects.count(), 1, "no body ran");
}

/// Callers that go away between their claim and their body.
async fn claims_that_start_no_body_do_not_count(backend: Backend) {
    let (effects, observer) = (Effects::new(), backend.store().await);
    let key = record_key("attempts.charge", "k");
    for before in [None, Some(1), Some(2)] {
        let expected = record(&*observer, &key).await.map(|record| (record.state, record.attempt, record.failed));
        assert_eq!(expected.as_ref().map(|(_, attempt, _)| *attempt), before);
        for _ in 0..3 {
            let impatient = backend.caller().await;
            let gate = Gate::new();
            impatient.store.next(Method::Claim, [Fault::HoldAfter(gate.clone())]);
            {
                let call = fails(&impatient, charge().max_attempts(3), "k", &effects);
                tokio::select! {
                    answer = call => panic!("{answer:?}"),
                    () = gate.reached(1) => {}
                }
            }
            gate.open();
            impatient.store.called(Method::Suspend, 1).await;
            settled(&*observer, &key).await;
            let left = record(&*observer, &key).await.map(|record| (record.state, record.attempt, record.failed));
            assert_eq!(left, expected, "it is as it was");
        }
        let caller = backend.caller().await;
        fails(&caller, charge().max_attempts(3), "k", &effects).await.expect_err("it fails");
    }
    assert_eq!(effects.count(), 3);
    let refused = refusal(fails(&backend.caller().await, charge().max_attempts(3), "k", &effects).await);
    assert!(matches!(refused, Error::Exhausted), "{refused:?}");
}

async fn the_limit_is_that_of_the_call(backend: Backend) {
    let (caller, effects) = (backend.caller().await, Effects::new());
    for _ in 0..3 {
        fails(&caller, charge().max_attempts(5), "k", &effects).await.expect_err("it fails");
    }
    // Of an older release, which counts nothing: the count goes on.
    fails(&caller, charge(), "k", &effects).await.expect_err("it fails");
    let refused = refusal(fails(&caller, charge().max_attempts(4), "k", &effects).await);
    assert!(matches!(refused, Error::Exhausted), "{refused:?}");

    for _ in 0..3 {
        fails(&caller, charge().max_attempts(5), "last", &effects).await.expect_err("it fails");
    }
    let last = caller.idempotency.call(charge().max_attempts(4)).key("last");
    let attempt = last.run(async { Ok::<_, Failure>(Execution::current().expect("a run").attempt()) }).await;
    assert_eq!(attempt.expect("a result"), 4);
}

async fn an_error_that_is_kept_ends_the_count(backend: Backend) {
    let caller = backend.caller().await;
    let operation =
        || charge().max_attempts(2).keep_errors_if(|error: &Failure| matches!(error, Failure::Declined { .. }));
    for (error, repeats) in [(Failure::Unreachable, false), (Failure::Declined { code: 1 }, true)] {
        let body = async { Err::<u64, _>(error.clone()) };
        caller.idempotency.call(operation()).key("k").run(body).await.expect_err("it fails");
        let observer = backend.store().await;
        let state = record(&*observer, &record_key("attempts.charge", "k")).await.expect("a record").state;
        assert_eq!(matches!(state, State::Done(_)), repeats, "{state:?}");
    }
    let repeat = caller.idempotency.call(operation()).key("k").run(async { Ok::<u64, _>(1) }).await;
    assert!(matches!(repeat, Err(Failure::Declined { code: 1 })), "{repeat:?}");
}

async fn a_pause_is_kept_whoever_asks(backend: Backend) {
    let (caller, effects) = (backend.caller().await, Effects::new());
    let operation = || charge().retry_after(Duration::from_secs(60)).wait(Duration::from_secs(10));
    fails(&caller, operation(), "k", &effects).await.expect_err("it fails");
    backend.advance(Duration::from_secs(20)).await;
    let other = backend.caller().await;
    for (caller, operation) in [(&other, operation()), (&caller, operation()), (&other, charge())] {
        let refused = refusal(fails(caller, operation, "k", &effects).await);
        let Error::Suspended { retry_after, attempt, .. } = refused else { panic!("{refused:?}") };
        assert!(retry_after <= Duration::from_secs(40) && retry_after > Duration::from_secs(20), "{retry_after:?}");
        assert_eq!(attempt, 1);
    }
    backend.advance(Duration::from_secs(40)).await;
    fails(&other, operation(), "k", &effects).await.expect_err("it fails");
    assert_eq!(effects.count(), 2);
}

async fn pauses_grow(backend: Backend) {
    let (caller, effects) = (backend.caller().await, Effects::new());
    let pauses = Backoff::exponential(Duration::from_secs(60), Duration::from_secs(200));
    for expected in [60, 120, 200, 200].map(Duration::from_secs) {
        fails(&caller, charge().retry_after(pauses), "k", &effects).await.expect_err("it fails");
        let record = record(&*backend.store().await, &record_key("attempts.charge", "k")).await.expect("a record");
        let left = record.not_before.expect("a pause");
        assert!(left <= expected && left > expected - Duration::from_secs(20), "{left:?} of {expected:?}");
        backend.advance(expected).await;
    }
    assert_eq!(effects.count(), 4);
}

async fn the_end_of_the_attempts_survives_lost_replies(backend: Backend) {
    for (name, method) in [("claim", Method::Claim), ("suspend", Method::Suspend), ("complete", Method::Complete)] {
        for (when, fault) in [("request", Fault::LOST_REQUEST), ("reply", Fault::LOST_REPLY)] {
            let key = format!("{name}-{when}");
            let (caller, effects) = (backend.caller().await.without_peeking(), Effects::new());
            for _ in 0..2 {
                caller.store.next(method, [fault.clone()]);
                let answer = fails(&caller, charge().max_attempts(2), &key, &effects).await;
                assert!(matches!(answer, Err(Failure::Unreachable)), "{key}: {answer:?}");
                settled(&*backend.store().await, &record_key("attempts.charge", &key)).await;
            }
            caller.store.heal();
            for _ in 0..2 {
                caller.store.next(method, [fault.clone()]);
                let refused = refusal(fails(&caller, charge().max_attempts(2), &key, &effects).await);
                assert!(matches!(refused, Error::Exhausted), "{key}: {refused:?}");
            }
            assert_eq!(effects.count(), 2, "{key}");
        }
    }
}

async fn impossible_policies_claim_nothing(backend: Backend) {
    let caller = backend.caller().await;
    for (operation, expected) in [
        (charge().max_attempts(0), OperationError::NoAttempts),
        (charge().retry_after(TTL * 2), OperationError::RetryAfterAboveTtl),
    ] {
        let refused = refusal(fails(&caller, operation, "k", &Effects::new()).await);
        assert!(matches!(&refused, Error::Operation(error) if *error == expected), "{refused:?}");
    }
    let refuse = charge().abandoned(OnAbandoned::Refuse).max_attempts(1);
    fails(&caller, refuse, "refuse", &Effects::new()).await.expect_err("it fails");
    assert_eq!(caller.store.calls(Method::Claim), 1);
}
