//! A key's first call and its repeats, in every state of its record.

use std::time::Duration;

use idempotent_runtime::{
    Disposition, Error, Idempotency, Operation, State, idempotent,
    testing::{Gate, Method},
    with_disposition,
};

use crate::support::{Backend, Effects, LEASE, TTL, running};
use idempotent_tests::on_every_store;

on_every_store! {
    s01_new_key_claims_and_completes_once,
    s02_done_is_replayed_with_and_without_a_local_answer,
    s02_done_is_replayed_from_a_local_cache_without_a_round_trip,
    s03_running_is_in_flight_with_the_time_left,
    s03_a_duplicate_in_this_process_is_in_flight_too,
    s04_lapsed_lease_is_run_again,
    s05_past_its_ttl_a_key_is_new,
}

/// Returns the number of its effect.
#[idempotent(key = order, name = "basics.charge", store = handle, skip(handle, effects), wait = "0s", ttl = TTL, lease = LEASE)]
async fn charge(handle: &Idempotency, effects: &Effects, order: &str, amount: u64) -> Result<u64, Error> {
    assert!(amount > 0);
    Ok(effects.happen())
}

async fn s01_new_key_claims_and_completes_once(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    let (answer, disposition) = with_disposition(charge(&caller.idempotency, &effects, "order-1", 42)).await;
    assert_eq!(answer.expect("a result"), 1);
    assert_eq!(disposition, Disposition::Executed);
    assert_eq!(caller.store.calls(Method::Claim), 1);
    assert_eq!(caller.store.calls(Method::Complete), 1);
    for other in [Method::Renew, Method::Release, Method::Suspend, Method::Subscribe, Method::Inspect] {
        assert_eq!(caller.store.calls(other), 0, "{other:?}");
    }
    let record = caller.idempotency.inspect("basics.charge", "order-1").await.expect("an answer").expect("a record");
    assert_eq!(record.attempt, 1);
    assert!(matches!(record.state, State::Done(_)));
    assert!(record.expires_in <= TTL && record.expires_in > TTL - Duration::from_secs(60), "{:?}", record.expires_in);
}

async fn s02_done_is_replayed_with_and_without_a_local_answer(backend: Backend) {
    let effects = Effects::new();
    let first = backend.caller().await;
    assert_eq!(charge(&first.idempotency, &effects, "order-2", 42).await.expect("a result"), 1);
    for repeater in [first, backend.caller().await, backend.caller().await.without_peeking()] {
        let completions = repeater.store.calls(Method::Complete);
        for _ in 0..3 {
            let (answer, disposition) = with_disposition(charge(&repeater.idempotency, &effects, "order-2", 42)).await;
            assert_eq!(answer.expect("a result"), 1);
            assert_eq!(disposition, Disposition::Replayed);
        }
        assert_eq!(repeater.store.calls(Method::Complete), completions);
    }
    assert_eq!(effects.count(), 1);
}

async fn s02_done_is_replayed_from_a_local_cache_without_a_round_trip(backend: Backend) {
    let effects = Effects::new();
    let first = backend.caching_caller().await;
    assert_eq!(charge(&first.idempotency, &effects, "order-2", 42).await.expect("a result"), 1);
    let other = backend.caching_caller().await;
    for (repeater, first_repeat) in [(first, 0), (other, 2)] {
        let asked_before = repeater.calls();
        for _ in 0..10 {
            let (answer, disposition) = with_disposition(charge(&repeater.idempotency, &effects, "order-2", 42)).await;
            assert_eq!(answer.expect("a result"), 1);
            assert_eq!(disposition, Disposition::Replayed);
        }
        assert_eq!(repeater.calls(), asked_before + first_repeat);
    }
    assert_eq!(effects.count(), 1);
}

async fn s03_running_is_in_flight_with_the_time_left(backend: Backend) {
    let (owner, other) = (backend.caller().await, backend.caller().await);
    let effects = Effects::new();
    let gate = Gate::new();
    let run = running(&owner, Operation::new("basics.charge").lease(LEASE), "order-3", &gate).await;
    backend.advance(LEASE / 3).await;

    let left = LEASE - LEASE / 3;
    let call = other
        .idempotency
        .call(Operation::new("basics.charge").wait(Duration::ZERO))
        .key("order-3")
        .arguments(&"order-3")
        .run(async { Ok::<_, Error>(effects.happen()) });
    let (answer, disposition) = with_disposition(call).await;
    let Err(Error::InFlight { retry_after, .. }) = answer else { panic!("not in flight: {answer:?}") };
    assert!(retry_after <= left && retry_after > left - Duration::from_secs(5), "{retry_after:?}");
    assert_eq!(disposition, Disposition::Refused);
    assert_eq!(other.store.calls(Method::Subscribe), 0);
    assert_eq!(effects.count(), 0);

    gate.open();
    assert_eq!(run.await.expect("no panic").expect("a result"), 1);
}

async fn s03_a_duplicate_in_this_process_is_in_flight_too(backend: Backend) {
    let caller = backend.caller().await;
    let gate = Gate::new();
    let run = running(&caller, Operation::new("basics.charge").lease(LEASE), "order-3", &gate).await;
    let call = caller
        .idempotency
        .call(Operation::new("basics.charge").lease(LEASE).wait(Duration::ZERO))
        .key("order-3")
        .arguments(&"order-3")
        .run(async { panic!("a second run") });
    let answer: Result<u64, Error> = call.await;
    let Err(Error::InFlight { retry_after, .. }) = answer else { panic!("not in flight: {answer:?}") };
    assert!(retry_after <= LEASE && retry_after > LEASE - Duration::from_secs(2), "{retry_after:?}");
    assert_eq!(caller.store.calls(Method::Claim), 1);
    gate.open();
    assert_eq!(run.await.expect("no panic").expect("a result"), 1);
}

async fn s04_lapsed_lease_is_run_again(backend: Backend) {
    let (owner, other) = (backend.caller().await, backend.caller().await);
    // The owner's process is gone for all that the store can see.
    let run = running(&owner, Operation::new("basics.charge").lease(LEASE), "order-4", &Gate::new()).await;
    backend.advance(LEASE).await;

    let call = other
        .idempotency
        .call("basics.charge")
        .key("order-4")
        .arguments(&"order-4")
        .run(async { Ok::<_, Error>(idempotent_runtime::Execution::current().expect("an execution").attempt()) });
    let (answer, disposition) = with_disposition(call).await;
    assert_eq!(answer.expect("a result"), 2);
    assert_eq!(disposition, Disposition::TookOver);

    let page = other.idempotency.list(None, None, 100).await.expect("a page");
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.records[0].attempt, 2);
    run.abort();
}

async fn s05_past_its_ttl_a_key_is_new(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    assert_eq!(charge(&caller.idempotency, &effects, "order-5", 42).await.expect("a result"), 1);
    backend.advance(TTL).await;
    // With another amount too: nothing is known of the old request any more.
    let (answer, disposition) = with_disposition(charge(&caller.idempotency, &effects, "order-5", 43)).await;
    assert_eq!(answer.expect("a result"), 2);
    assert_eq!(disposition, Disposition::Executed);
    let record = caller.idempotency.inspect("basics.charge", "order-5").await.expect("an answer").expect("a record");
    assert_eq!(record.attempt, 1);
}
