//! Bodies that return errors, stores that fail, records that cannot be read.

use idempotent_runtime::{
    Disposition, Error, Idempotency, OnStoreFailure, Operation, State, StoreErrorKind, idempotent,
    testing::{Fault, Gate, Method},
    with_disposition,
};

use idempotent_tests::{on_every_store, wait::wait_for};

use crate::support::{Backend, Effects, Failure, poll_once, record_key, redis_key};

on_every_store! {
    s09_a_corrupt_record_is_undecodable,
    s09_a_corrupt_record_is_undecodable_for_all_duplicates,
    s10_released_error_frees_the_key,
    s10_stored_error_is_replayed,
    s10_predicate_decides_about_each_error,
    s10_waiting_duplicate_runs_after_a_released_error,
    s10_waiting_duplicate_gets_a_stored_error,
    s11_no_claim_no_run,
    s11_claim_without_an_answer_is_no_run_and_is_given_back,
    s11_unprotected_run_says_so,
    s11_unprotected_run_is_not_for_other_faults,
}

on_every_store! { only redis:
    s09_whatever_is_under_the_key_is_undecodable,
    s11_a_killed_server_is_no_run,
}

#[idempotent(key = order, name = "endings.released", store = handle, skip(handle, effects, ending))]
async fn released(
    handle: &Idempotency,
    effects: &Effects,
    order: u32,
    ending: Result<u64, Failure>,
) -> Result<u64, Failure> {
    effects.happen();
    ending
}

#[idempotent(key = order, name = "endings.stored", errors = keep, store = handle, skip(handle, effects, ending))]
async fn stored(
    handle: &Idempotency,
    effects: &Effects,
    order: u32,
    ending: Result<u64, Failure>,
) -> Result<u64, Failure> {
    effects.happen();
    ending
}

#[idempotent(
    key = order, name = "endings.decided", errors = Failure::is_final,
    store = handle, skip(handle, effects, ending)
)]
async fn decided(
    handle: &Idempotency,
    effects: &Effects,
    order: u32,
    ending: Result<u64, Failure>,
) -> Result<u64, Failure> {
    effects.happen();
    ending
}

async fn s09_a_corrupt_record_is_undecodable(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    released(&caller.idempotency, &effects, 9, Ok(1)).await.expect("a result");
    backend.corrupt(&caller, &record_key("endings.released", "~9")).await;
    for _ in 0..2 {
        let answer = released(&caller.idempotency, &effects, 9, Ok(2)).await;
        assert!(matches!(answer, Err(Failure::Idempotency(Error::Undecodable(_)))), "{answer:?}");
    }
    let inspected = caller.idempotency.inspect("endings.released", &9).await;
    assert!(matches!(inspected, Err(Error::Undecodable(_))), "{inspected:?}");
    assert_eq!(effects.count(), 1);

    // An operator can resolve it.
    assert!(caller.idempotency.forget("endings.released", &9).await.expect("an answer"));
    caller.store.heal();
    assert_eq!(released(&caller.idempotency, &effects, 9, Ok(3)).await.expect("a result"), 3);
}

async fn s09_a_corrupt_record_is_undecodable_for_all_duplicates(backend: Backend) {
    let caller = backend.caller().await;
    backend.corrupt(&caller, &record_key("endings.released", "~9")).await;
    let effects = Effects::new();
    let call = || released(&caller.idempotency, &effects, 9, Ok(1));
    let (first, second, third) = tokio::join!(call(), call(), call());
    for answer in [first, second, third] {
        assert!(matches!(answer, Err(Failure::Idempotency(Error::Undecodable(_)))), "{answer:?}");
    }
    assert_eq!(effects.count(), 0);
}

async fn s09_whatever_is_under_the_key_is_undecodable(backend: Backend) {
    let caller = backend.caller().await;
    let server = backend.server();
    let effects = Effects::new();
    released(&caller.idempotency, &effects, 9, Ok(1)).await.expect("a result");
    let key = redis_key(&record_key("endings.released", "~9"));
    let record: Vec<u8> = server.command(&["GET", &key]).await;
    let script = "redis.call('DEL', KEYS[1]) return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))";
    let half = redis::cmd("EVAL").arg(script).arg(1).arg(&key).arg("SET").arg(&record[..40]).to_owned();
    let mut future = record.clone();
    future[3] = b'9';
    let future = redis::cmd("EVAL").arg(script).arg(1).arg(&key).arg("SET").arg(future).to_owned();
    let empty = redis::cmd("EVAL").arg(script).arg(1).arg(&key).arg("SET").arg("").to_owned();
    let list = redis::cmd("EVAL").arg(script).arg(1).arg(&key).arg("RPUSH").arg("a").arg("b").to_owned();
    let hash = redis::cmd("EVAL").arg(script).arg(1).arg(&key).arg("HSET").arg("a").arg("b").to_owned();
    for (what, command) in [("half", half), ("future", future), ("empty", empty), ("list", list), ("hash", hash)] {
        command.exec_async(&mut server.client().await).await.expect("an answer");
        let answer = released(&caller.idempotency, &effects, 9, Ok(2)).await;
        assert!(matches!(answer, Err(Failure::Idempotency(Error::Undecodable(_)))), "{what}: {answer:?}");
    }
    assert_eq!(effects.count(), 1);
}

async fn s10_released_error_frees_the_key(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    let (answer, disposition) =
        with_disposition(released(&caller.idempotency, &effects, 10, Err(Failure::Declined { code: 7 }))).await;
    assert!(matches!(answer, Err(Failure::Declined { code: 7 })), "{answer:?}");
    assert_eq!(disposition, Disposition::Executed);
    assert_eq!(caller.idempotency.inspect("endings.released", &10).await.expect("an answer"), None);
    let (answer, disposition) = with_disposition(released(&caller.idempotency, &effects, 10, Ok(2))).await;
    assert_eq!(answer.expect("a result"), 2);
    assert_eq!(disposition, Disposition::Executed);
    assert_eq!(effects.count(), 2);
}

async fn s10_stored_error_is_replayed(backend: Backend) {
    let (caller, other) = (backend.caller().await, backend.caller().await);
    let effects = Effects::new();
    let first = stored(&caller.idempotency, &effects, 10, Err(Failure::Declined { code: i64::MIN })).await;
    assert!(matches!(first, Err(Failure::Declined { code: i64::MIN })), "{first:?}");
    for repeater in [&caller, &other] {
        let (answer, disposition) = with_disposition(stored(&repeater.idempotency, &effects, 10, Ok(2))).await;
        assert!(matches!(answer, Err(Failure::Declined { code: i64::MIN })), "{answer:?}");
        assert_eq!(disposition, Disposition::Replayed);
    }
    assert_eq!(effects.count(), 1);
}

async fn s10_predicate_decides_about_each_error(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    let first = decided(&caller.idempotency, &effects, 10, Err(Failure::Unreachable)).await;
    assert!(matches!(first, Err(Failure::Unreachable)), "{first:?}");
    let second = decided(&caller.idempotency, &effects, 10, Err(Failure::Declined { code: 0 })).await;
    assert!(matches!(second, Err(Failure::Declined { code: 0 })), "{second:?}");
    let third = decided(&caller.idempotency, &effects, 10, Ok(3)).await;
    assert!(matches!(third, Err(Failure::Declined { code: 0 })), "{third:?}");
    assert_eq!(effects.count(), 2);
    assert_eq!(decided(&caller.idempotency, &effects, 11, Ok(3)).await.expect("a result"), 3);
}

async fn s10_waiting_duplicate_runs_after_a_released_error(backend: Backend) {
    let (owner, elsewhere) = (backend.caller().await, backend.caller().await);
    let gate = Gate::new();
    let run = |caller: &crate::support::Caller, answer: Result<u64, Failure>| {
        let (handle, gate) = (caller.idempotency.clone(), gate.clone());
        Box::pin(async move {
            let body = async {
                gate.pass().await;
                answer
            };
            with_disposition(handle.call("endings.waited").key("order-10").run(body)).await
        })
    };
    let mut first = run(&owner, Err(Failure::Unreachable));
    let second = run(&owner, Ok(2));
    let third = run(&elsewhere, Ok(3));
    tokio::select! {
        biased;
        _ = &mut first => panic!("the body is held"),
        () = gate.reached(1) => {}
    }
    let (second, third) = (tokio::spawn(second), tokio::spawn(third));
    elsewhere.store.called(Method::Subscribe, 1).await;
    gate.open();
    let (answer, _) = first.await;
    assert!(matches!(answer, Err(Failure::Unreachable)), "{answer:?}");
    let (second, third) = (second.await.expect("no panic"), third.await.expect("no panic"));
    let answers = (second.0.expect("a result"), third.0.expect("a result"));
    assert!(answers == (2, 2) || answers == (3, 3), "{answers:?}");
    assert_eq!([second.1, third.1].iter().filter(|disposition| disposition.ran()).count(), 1);
}

async fn s10_waiting_duplicate_gets_a_stored_error(backend: Backend) {
    let (owner, elsewhere) = (backend.caller().await, backend.caller().await);
    let gate = Gate::new();
    let operation = || Operation::new("endings.waited").keep_errors();
    let body = async {
        gate.pass().await;
        Err::<u64, _>(Failure::Declined { code: 10 })
    };
    let mut first = Box::pin(owner.idempotency.call(operation()).key("order-10").run(body));
    tokio::select! {
        biased;
        _ = &mut first => panic!("the body is held"),
        () = gate.reached(1) => {}
    }
    let duplicate = async |handle: Idempotency| {
        let body = async { panic!("a second run") };
        with_disposition(handle.call(operation()).key("order-10").run::<u64, Failure, _>(body)).await
    };
    let mut here = Box::pin(duplicate(owner.idempotency.clone()));
    assert!(poll_once(here.as_mut()).is_pending());
    let there = duplicate(elsewhere.idempotency.clone());
    let opens = async {
        elsewhere.store.called(Method::Subscribe, 1).await;
        gate.open();
    };
    let (first, here, there, ()) = tokio::join!(first, here, there, opens);
    for answer in [first, here.0, there.0] {
        assert!(matches!(answer, Err(Failure::Declined { code: 10 })), "{answer:?}");
    }
    assert_eq!([here.1, there.1], [Disposition::Waited; 2]);
}

async fn s11_no_claim_no_run(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    let kinds = [StoreErrorKind::Unavailable, StoreErrorKind::Full, StoreErrorKind::Refused];
    for kind in kinds {
        caller.store.always(Method::Claim, Fault::FailBefore(kind));
        let (answer, disposition) = with_disposition(released(&caller.idempotency, &effects, 11, Ok(1))).await;
        let Err(Failure::Idempotency(Error::Store(error))) = answer else { panic!("not the store's: {answer:?}") };
        assert_eq!(error.kind(), kind);
        assert_eq!(disposition, Disposition::Refused);
    }
    assert_eq!(effects.count(), 0);
    caller.store.heal();
    assert_eq!(released(&caller.idempotency, &effects, 11, Ok(1)).await.expect("a result"), 1);
}

async fn s11_claim_without_an_answer_is_no_run_and_is_given_back(backend: Backend) {
    let (caller, other) = (backend.caller().await, backend.caller().await);
    let effects = Effects::new();
    caller.store.always(Method::Claim, Fault::LOST_REPLY);
    let answer = released(&caller.idempotency, &effects, 11, Ok(1)).await;
    assert!(matches!(answer, Err(Failure::Idempotency(Error::Store(_)))), "{answer:?}");
    assert_eq!(effects.count(), 0);
    // Not after its lease, and as its first run.
    let (answer, disposition) = with_disposition(released(&other.idempotency, &effects, 11, Ok(2))).await;
    assert_eq!(answer.expect("a result"), 2);
    assert_eq!(disposition, Disposition::Executed);
    assert_eq!(effects.count(), 1);
}

async fn s11_unprotected_run_says_so(backend: Backend) {
    let builder = || Idempotency::builder().on_store_failure(OnStoreFailure::RunUnprotected);
    for fault in [Fault::LOST_REQUEST, Fault::LOST_REPLY] {
        let caller = backend.caller_with(builder()).await;
        let effects = Effects::new();
        caller.store.always(Method::Claim, fault.clone());
        for run in 1..=2 {
            let (answer, disposition) = with_disposition(released(&caller.idempotency, &effects, 11, Ok(run))).await;
            assert_eq!(answer.expect("a result"), run);
            assert_eq!(disposition, Disposition::Unprotected);
        }
        assert_eq!(effects.count(), 2);
        assert_eq!(caller.store.calls(Method::Complete), 0);
        // Duplicates in this process are still one run.
        let call = || with_disposition(released(&caller.idempotency, &effects, 11, Ok(3)));
        let (first, second) = tokio::join!(call(), call());
        assert_eq!((first.0.expect("a result"), second.0.expect("a result")), (3, 3));
        assert_eq!((first.1, second.1), (Disposition::Unprotected, Disposition::Waited));
        assert_eq!(effects.count(), 3);
    }
}

async fn s11_unprotected_run_is_not_for_other_faults(backend: Backend) {
    let builder = Idempotency::builder().on_store_failure(OnStoreFailure::RunUnprotected);
    let caller = backend.caller_with(builder).await;
    let effects = Effects::new();
    for kind in [StoreErrorKind::Full, StoreErrorKind::Refused, StoreErrorKind::Corrupt] {
        caller.store.always(Method::Claim, Fault::FailBefore(kind));
        let answer = released(&caller.idempotency, &effects, 11, Ok(1)).await;
        assert!(matches!(answer, Err(Failure::Idempotency(_))), "{answer:?}");
    }
    assert_eq!(effects.count(), 0);
}

async fn s11_a_killed_server_is_no_run(mut backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    assert_eq!(released(&caller.idempotency, &effects, 1, Ok(1)).await.expect("a result"), 1);
    backend.server_mut().kill();
    for order in [1, 2] {
        let answer = released(&caller.idempotency, &effects, order, Ok(2)).await;
        let Err(Failure::Idempotency(error @ Error::Store(_))) = answer else { panic!("not the store's: {answer:?}") };
        assert!(error.is_retryable());
    }
    assert_eq!(effects.count(), 1);
    backend.server_mut().restart().await;
    wait_for("the store to try again", async || caller.idempotency.list(None, None, 1).await.is_ok()).await;
    assert_eq!(released(&caller.idempotency, &effects, 1, Ok(3)).await.expect("a result"), 1);
    assert_eq!(released(&caller.idempotency, &effects, 2, Ok(3)).await.expect("a result"), 3);
    assert_eq!(effects.count(), 2);
    let record = caller.idempotency.inspect("endings.released", &2).await.expect("an answer").expect("a record");
    assert!(matches!(record.state, State::Done(_)));
}
