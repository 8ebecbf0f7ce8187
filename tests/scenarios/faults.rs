//! A store that fails at one step: what the caller gets, what the record says, how often the body ran.

use std::time::Duration;

use idempotent_runtime::{
    Disposition, Error, Idempotency, OnStoreFailure, Operation, State, StoreErrorKind, idempotent,
    testing::{Fault, Gate, Method},
    with_disposition,
};
use idempotent_tests::{on_every_store, redis_server::RedisProgram, wait::wait_for};

use crate::{
    captured_log,
    support::{Backend, Caller, Effects, Failure, record_key},
    test_bodies::{Stop, record, refusal, settled, soon, state},
};

on_every_store!(
    s31_completion_that_fails_for_a_while_is_retried,
    s31_completion_that_fails_for_good_is_told,
    s31_completion_that_is_refused_is_not_retried,
    s32_claim_whose_reply_is_lost_recognises_its_owner,
    s32_claim_without_any_reply_is_given_back,
    s32_completion_whose_reply_is_lost_succeeds,
    abandon_that_fails_is_retried,
    abandon_that_fails_for_good_is_left_to_the_lease,
    release_that_fails_is_retried_behind_the_callers_back,
    renewal_that_fails_and_heals_keeps_the_claim,
    renewal_that_fails_for_a_lease_is_told_once,
    claim_lost_while_the_body_runs_and_nobody_has_it,
    claim_lost_and_the_store_is_silent,
    store_out_of_reach_fails_closed,
    store_out_of_reach_runs_unprotected_where_wanted,
);

const LOST: Fault = Fault::LOST_REQUEST;

#[idempotent(name = "faults", key = key, skip(caller, effects), store = caller.idempotency)]
async fn work(caller: &Caller, key: &str, effects: &Effects) -> Result<u64, Failure> {
    Ok(effects.happen())
}

async fn s31_completion_that_fails_for_a_while_is_retried(backend: Backend) {
    let (caller, effects) = (backend.caller().await, Effects::new());
    caller.store.next(Method::Complete, [LOST, LOST]);
    let (answer, disposition) = with_disposition(work(&caller, "k", &effects)).await;
    assert_eq!((answer.expect("a result"), disposition), (1, Disposition::Executed));
    assert_eq!(caller.store.calls(Method::Complete), 3);
    let other = backend.caller().await;
    let (answer, disposition) = with_disposition(work(&other, "k", &effects)).await;
    assert_eq!((answer.expect("a result"), disposition), (1, Disposition::Replayed));
}

async fn s31_completion_that_fails_for_good_is_told(backend: Backend) {
    captured_log::listen();
    let (caller, observer, effects) = (backend.caller().await, backend.store().await, Effects::new());
    // The last tenth of it is what the duplicate has to hear of the value.
    let lease = Duration::from_secs(3);
    let run = async |caller: &Caller| {
        let operation = Operation::new("faults.for_good").lease(lease);
        with_disposition(caller.idempotency.call(operation).key("k").run(async { Ok::<_, Failure>(effects.happen()) }))
            .await
    };
    caller.store.always(Method::Complete, LOST);
    // A duplicate in this process shares the value, although it is not on record.
    let (first, second) = soon("the end of the retries", async { tokio::join!(run(&caller), run(&caller)) }).await;
    assert_eq!((first.0.expect("the body's own value"), first.1), (1, Disposition::Executed));
    assert_eq!((second.0.expect("the body's own value"), second.1), (1, Disposition::Waited));
    assert!(caller.store.calls(Method::Complete) > 1);
    let told = captured_log::events("faults.for_good", "could not be recorded");
    assert!(!told.is_empty() && told.iter().all(|line| line.contains("ERROR")), "{told:?}");

    backend.advance(lease + backend.tick()).await;
    let record = record(&*observer, &record_key("faults.for_good", "k")).await.expect("a record");
    assert_eq!(record.state, State::Lapsed);
    let (answer, disposition) = run(&backend.caller().await).await;
    assert_eq!((answer.expect("a result"), disposition), (2, Disposition::TookOver));
}

async fn s31_completion_that_is_refused_is_not_retried(backend: Backend) {
    for kind in [StoreErrorKind::Refused, StoreErrorKind::Corrupt] {
        let (caller, effects) = (backend.caller().await, Effects::new());
        caller.store.always(Method::Complete, Fault::FailBefore(kind));
        let key = format!("{kind:?}");
        assert_eq!(work(&caller, &key, &effects).await.expect("the body's own value"), 1);
        assert_eq!(caller.store.calls(Method::Complete), 1);
    }
}

async fn s32_claim_whose_reply_is_lost_recognises_its_owner(backend: Backend) {
    let (caller, observer, effects) = (backend.caller().await, backend.store().await, Effects::new());
    caller.store.next(Method::Claim, [Fault::LOST_REPLY, Fault::LOST_REPLY]);
    let (answer, disposition) = with_disposition(work(&caller, "k", &effects)).await;
    assert_eq!((answer.expect("a result"), disposition), (1, Disposition::Executed));
    assert_eq!(caller.store.calls(Method::Claim), 3);
    let record = record(&*observer, &record_key("faults", "k")).await.expect("a record");
    assert_eq!(record.attempt, 1);
    assert!(matches!(record.state, State::Done(_)));
}

async fn s32_claim_without_any_reply_is_given_back(backend: Backend) {
    let (caller, observer, effects) = (backend.caller().await, backend.store().await, Effects::new());
    // As often as it is asked.
    caller.store.next(Method::Claim, [const { Fault::LOST_REPLY }; 5]);
    // Giving it back fails at first, too.
    caller.store.next(Method::Release, [LOST, LOST]);
    let error = refusal(work(&caller, "k", &effects).await);
    assert!(matches!(&error, Error::Store(fault) if fault.kind() == StoreErrorKind::Unavailable), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(settled(&*observer, &record_key("faults", "k")).await, None);
    let (answer, disposition) = with_disposition(work(&caller, "k", &effects)).await;
    assert_eq!((answer.expect("a result"), disposition), (1, Disposition::Executed));
    assert_eq!(effects.count(), 1);
}

async fn s32_completion_whose_reply_is_lost_succeeds(backend: Backend) {
    let (caller, effects) = (backend.caller().await, Effects::new());
    caller.store.next(Method::Complete, [Fault::LOST_REPLY]);
    let (answer, disposition) = with_disposition(work(&caller, "k", &effects)).await;
    assert_eq!((answer.expect("a result"), disposition), (1, Disposition::Executed));
    assert_eq!(caller.store.calls(Method::Complete), 2);
    assert_eq!(caller.store.calls(Method::Inspect), 0);
    assert_eq!(work(&backend.caller().await, "k", &effects).await.expect("a result"), 1);
    assert_eq!(effects.count(), 1);
}

/// A call that is dropped when its body has begun.
async fn drop_in_the_body(caller: &Caller, operation: Operation) {
    let stop = Stop::new();
    tokio::select! {
        biased;
        () = stop.reached() => {}
        _ = caller.idempotency.call(operation).key("k").run(stop.body::<Failure>()) => {
            panic!("not stopped")
        }
    }
}

async fn abandon_that_fails_is_retried(backend: Backend) {
    let (caller, observer, effects) = (backend.caller().await, backend.store().await, Effects::new());
    caller.store.next(Method::Suspend, [LOST, Fault::LOST_REPLY, LOST]);
    drop_in_the_body(&caller, Operation::new("faults.abandon")).await;
    let abandoned = settled(&*observer, &record_key("faults.abandon", "k")).await.expect("a record");
    assert_eq!((abandoned.state, abandoned.attempt), (State::Abandoned, 1));
    wait_for("the retries", async || caller.store.calls(Method::Suspend) == 4).await;
    let body = async { Ok::<_, Failure>(effects.happen()) };
    let (answer, disposition) = with_disposition(caller.idempotency.call("faults.abandon").key("k").run(body)).await;
    assert_eq!((answer.expect("a result"), disposition), (1, Disposition::TookOver));
}

async fn abandon_that_fails_for_good_is_left_to_the_lease(backend: Backend) {
    let (caller, effects) = (backend.caller().await, Effects::new());
    caller.store.always(Method::Suspend, LOST);
    let lease = Duration::from_millis(200);
    let operation = || Operation::new("faults.abandon").lease(lease).wait(Duration::from_secs(20));
    drop_in_the_body(&caller, operation()).await;
    // In the same process the next call waits until the retries end, and then for the store's clock.
    let retry = caller.idempotency.call(operation()).key("k").run(async { Ok::<_, Failure>(effects.happen()) });
    let time = async {
        caller.store.called(Method::Suspend, 2).await;
        backend.advance(lease + backend.tick()).await;
    };
    let ((answer, disposition), ()) = soon("the retry", async { tokio::join!(with_disposition(retry), time) }).await;
    assert_eq!((answer.expect("a result"), disposition), (1, Disposition::TookOver));
}

async fn release_that_fails_is_retried_behind_the_callers_back(backend: Backend) {
    let (caller, observer, effects) = (backend.caller().await, backend.store().await, Effects::new());
    let gate = Gate::new();
    caller.store.next(Method::Release, [LOST, Fault::HoldBefore(gate.clone())]);
    let run = async |fails| {
        let body = async {
            let run = effects.happen();
            if fails { Err(Failure::Unreachable) } else { Ok(run) }
        };
        with_disposition(caller.idempotency.call("faults.release").key("k").run(body)).await
    };
    let (answer, disposition) = run(true).await;
    assert!(matches!(answer, Err(Failure::Unreachable)), "{answer:?}");
    assert_eq!(disposition, Disposition::Executed);
    gate.reached(1).await;
    let key = record_key("faults.release", "k");
    assert!(matches!(state(&*observer, &key).await, Some(State::Running { .. })));
    let open = async { gate.open() };
    let ((answer, disposition), ()) = soon("the retry", async { tokio::join!(run(false), open) }).await;
    assert_eq!((answer.expect("a result"), disposition), (2, Disposition::Executed));
    assert_eq!(record(&*observer, &key).await.expect("a record").attempt, 1);
}

async fn renewal_that_fails_and_heals_keeps_the_claim(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let lease = Duration::from_secs(3);
    let stop = Stop::new();
    let run = async |caller: &Caller| {
        let operation = Operation::new("faults.renewal").lease(lease).wait(Duration::ZERO);
        let body = stop.body::<Failure>();
        with_disposition(caller.idempotency.call(operation).key("k").run(body)).await
    };
    ours.store.next(Method::Renew, [LOST, Fault::LOST_REPLY]);
    let others = async {
        stop.reached().await;
        ours.store.called(Method::Renew, 1).await;
        backend.advance(lease / 2).await;
        // The fourth comes a third of a lease after the third, which went well.
        ours.store.called(Method::Renew, 4).await;
        backend.advance(lease / 2).await;
        let (answer, _) = run(&theirs).await;
        assert!(matches!(refusal(answer), Error::InFlight { .. }));
        stop.go();
    };
    let ((answer, disposition), ()) = soon("the run", async { tokio::join!(run(&ours), others) }).await;
    answer.expect("a result");
    assert_eq!(disposition, Disposition::Executed);
}

async fn renewal_that_fails_for_a_lease_is_told_once(backend: Backend) {
    captured_log::listen();
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let operation = match &backend {
        Backend::Memory { .. } => "faults.lapse.memory",
        Backend::Postgres { .. } => "faults.lapse.postgres",
        Backend::Redis { server } if server.program() == RedisProgram::Valkey => "faults.lapse.valkey",
        Backend::Cluster { .. } => "faults.lapse.cluster",
        Backend::Redis { .. } => "faults.lapse.redis",
        Backend::Sqlite { .. } => "faults.lapse.sqlite",
    };
    let (effects, stop) = (Effects::new(), Stop::new());
    let lease = Duration::from_millis(300);
    let run = async |caller: &Caller, lease| {
        let body = async {
            let run = effects.happen();
            if run == 1 {
                stop.here().await;
            }
            Ok::<_, Failure>(run)
        };
        with_disposition(caller.idempotency.call(Operation::new(operation).lease(lease)).key("k").run(body)).await
    };
    ours.store.always(Method::Renew, LOST);
    let others = async {
        stop.reached().await;
        wait_for("the lease to lapse", async || !captured_log::events(operation, "could not be renewed").is_empty())
            .await;
        let told = ours.store.calls(Method::Renew);
        ours.store.called(Method::Renew, told + 3).await;
        assert_eq!(captured_log::events(operation, "could not be renewed").len(), 1);

        backend.advance(lease + backend.tick()).await;
        let (answer, disposition) = run(&theirs, Duration::from_secs(30)).await;
        assert_eq!((answer.expect("a result"), disposition), (2, Disposition::TookOver));
        // The renewal that gets through learns that the claim is lost, and is the last.
        ours.store.heal();
        wait_for("the loss", async || !captured_log::events(operation, "was lost to another run").is_empty()).await;
        stop.go();
    };
    let ((answer, disposition), ()) = soon("the runs", async { tokio::join!(run(&ours, lease), others) }).await;
    assert_eq!((answer.expect("the newer result"), disposition), (2, Disposition::Waited));
    assert_eq!(captured_log::events(operation, "was lost to another run").len(), 1);
}

async fn claim_lost_while_the_body_runs_and_nobody_has_it(backend: Backend) {
    captured_log::listen();
    let (caller, effects) = (backend.caller().await, Effects::new());
    let operation = "faults.vanished";
    let body = async {
        let run = effects.happen();
        // An operator removes the record under the body.
        assert!(caller.idempotency.forget(operation, "k").await.expect("an answer"));
        Ok::<_, Failure>(run)
    };
    assert_eq!(caller.idempotency.call(operation).key("k").run(body).await.expect("the body's own value"), 1);
    assert!(!captured_log::events(operation, "could not be recorded").is_empty());
    let again = caller.idempotency.call(operation).key("k").run(async { Ok::<_, Failure>(effects.happen()) });
    assert_eq!(again.await.expect("a result"), 2);
}

async fn claim_lost_and_the_store_is_silent(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    ours.store.always(Method::Inspect, LOST);
    let operation = || Operation::new("faults.silent");
    let body = async {
        backend.advance(Operation::DEFAULT_LEASE + backend.tick()).await;
        let taken = theirs.idempotency.call(operation()).key("k").run(async { Ok::<_, Failure>(2) });
        assert_eq!(taken.await.expect("a result"), 2);
        Ok::<_, Failure>(1)
    };
    let (answer, disposition) = with_disposition(ours.idempotency.call(operation()).key("k").run(body)).await;
    let error = refusal(answer);
    assert!(matches!(error, Error::ClaimLost) && error.is_retryable(), "{error:?}");
    assert_eq!(disposition, Disposition::Refused);
    let again = ours.idempotency.call(operation()).key("k").run(async { Ok::<_, Failure>(3) });
    assert_eq!(again.await.expect("a result"), 2);
}

async fn store_out_of_reach_fails_closed(backend: Backend) {
    let kinds = [StoreErrorKind::Unavailable, StoreErrorKind::Full, StoreErrorKind::Refused, StoreErrorKind::Corrupt];
    for kind in kinds {
        let (caller, effects) = (backend.caller().await, Effects::new());
        caller.store.always(Method::Claim, Fault::FailBefore(kind));
        let (answer, disposition) = with_disposition(work(&caller, "k", &effects)).await;
        match refusal(answer) {
            Error::Store(fault) if kind != StoreErrorKind::Corrupt => assert_eq!(fault.kind(), kind),
            Error::Undecodable(_) if kind == StoreErrorKind::Corrupt => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(disposition, Disposition::Refused);
        // Only what may pass is asked again.
        let tries = if kind == StoreErrorKind::Unavailable { 5 } else { 1 };
        assert_eq!(caller.store.calls(Method::Claim), tries, "{kind:?}");
        assert_eq!(effects.count(), 0);
    }
}

async fn store_out_of_reach_runs_unprotected_where_wanted(backend: Backend) {
    captured_log::listen();
    let builder = || Idempotency::builder().on_store_failure(OnStoreFailure::RunUnprotected);
    let (caller, observer) = (backend.caller_with(builder()).await, backend.store().await);
    let (effects, stop) = (Effects::new(), Stop::new());
    let operation = "faults.unprotected";
    let run = async || {
        let body = async {
            let run = effects.happen();
            stop.here().await;
            assert!(idempotent_runtime::Execution::current().expect("an execution").fence().await.is_err());
            Ok::<_, Failure>(run)
        };
        with_disposition(caller.idempotency.call(operation).key("k").run(body)).await
    };
    caller.store.always(Method::Claim, LOST);
    // Duplicates in one process still share the run.
    let end = async {
        stop.reached().await;
        stop.go();
    };
    let (first, second, third, ()) = soon("the runs", async { tokio::join!(run(), run(), run(), end) }).await;
    let mut dispositions = Vec::new();
    for (answer, disposition) in [first, second, third] {
        assert_eq!(answer.expect("a result"), 1);
        dispositions.push(disposition);
    }
    assert_eq!(dispositions, [Disposition::Unprotected, Disposition::Waited, Disposition::Waited]);
    assert_eq!(effects.count(), 1);
    for method in [Method::Complete, Method::Renew, Method::Release] {
        assert_eq!(caller.store.calls(method), 0, "{method:?}");
    }
    assert!(!captured_log::events(operation, "runs without protection").is_empty());
    assert_eq!(record(&*observer, &record_key(operation, "k")).await, None);

    // What is not an outage is an answer: the body does not run.
    for kind in [StoreErrorKind::Full, StoreErrorKind::Refused, StoreErrorKind::Corrupt] {
        caller.store.always(Method::Claim, Fault::FailBefore(kind));
        refusal(run().await.0);
    }
    assert_eq!(effects.count(), 1);
}
