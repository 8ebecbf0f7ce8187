//! Leases and times to live, to the edge; and whose clock decides.

use std::time::Duration;

use idempotent_runtime::{
    Disposition, Error, Execution, Fingerprint, Operation,
    store::{ClaimRequest, Nonce, Suspension, Why},
    with_disposition,
};

use crate::support::{Backend, Caller, LEASE, TTL, record_key};
use idempotent_tests::on_every_store;

on_every_store! {
    s19_lease_ends_when_it_says,
    s19_result_ends_when_it_says,
    s19_abandoned_run_ends_when_it_says,
    s19_lapsed_run_ends_when_it_says,
    s19_result_is_kept_from_its_completion_on,
    s35_a_store_whose_clock_is_ahead_decides,
}

const OPERATION: &str = "times.charge";
const ORDER: &str = "order-19";

fn operation() -> Operation {
    Operation::new(OPERATION).lease(LEASE).ttl(TTL).wait(Duration::ZERO)
}

/// A call that answers with its attempt if it runs.
async fn call(caller: &Caller) -> Result<u32, Error> {
    let body = async { Ok::<_, Error>(Execution::current().expect("an execution").attempt()) };
    caller.idempotency.call(operation()).key(ORDER).arguments(ORDER).run(body).await
}

/// A claim whose owner never says anything again.
async fn orphan(backend: &Backend) -> ClaimRequest {
    let fingerprint = Fingerprint::of(ORDER).expect("a fingerprint");
    let request = ClaimRequest::new(fingerprint, Nonce::random(), LEASE, TTL);
    let _ = backend.store().await.claim(&record_key(OPERATION, ORDER), &request).await.expect("a claim");
    request
}

async fn s19_lease_ends_when_it_says(backend: Backend) {
    let caller = backend.caller().await;
    let tick = backend.tick();
    orphan(&backend).await;
    backend.advance(LEASE - tick).await;
    match call(&caller).await {
        Err(Error::InFlight { retry_after, .. }) => {
            assert!(!retry_after.is_zero() && retry_after <= tick, "{retry_after:?}")
        }
        other => panic!("not in flight: {other:?}"),
    }
    backend.advance(tick).await;
    assert_eq!(call(&caller).await.expect("a result"), 2);

    caller.idempotency.forget(OPERATION, ORDER).await.expect("an answer");
    orphan(&backend).await;
    backend.advance(LEASE + tick).await;
    assert_eq!(call(&caller).await.expect("a result"), 2);
}

async fn s19_result_ends_when_it_says(backend: Backend) {
    let caller = backend.caller().await;
    let tick = backend.tick();
    for beyond in [Duration::ZERO, tick] {
        let (answer, disposition) = with_disposition(call(&caller)).await;
        assert_eq!((answer.expect("a result"), disposition), (1, Disposition::Executed));
        backend.advance(TTL - tick).await;
        let (answer, disposition) = with_disposition(call(&caller)).await;
        assert_eq!((answer.expect("a result"), disposition), (1, Disposition::Replayed));
        backend.advance(tick + beyond).await;
    }
    assert_eq!(caller.idempotency.inspect(OPERATION, ORDER).await.expect("an answer"), None);
    assert_eq!(with_disposition(call(&caller)).await.1, Disposition::Executed);
}

async fn s19_abandoned_run_ends_when_it_says(backend: Backend) {
    let caller = backend.caller().await;
    let (store, key) = (backend.store().await, record_key(OPERATION, ORDER));
    for (passes, attempt) in [(TTL - backend.tick(), 2), (TTL, 1)] {
        let request = orphan(&backend).await;
        let token = idempotent_runtime::store::Token::new(request.nonce);
        let suspension = store.suspend(&key, &token, Why::Abandoned, Duration::ZERO, TTL).await.expect("an answer");
        assert_eq!(suspension, Suspension::Applied);
        backend.advance(passes).await;
        assert_eq!(call(&caller).await.expect("a result"), attempt);
        caller.idempotency.forget(OPERATION, ORDER).await.expect("an answer");
    }
}

async fn s19_lapsed_run_ends_when_it_says(backend: Backend) {
    let caller = backend.caller().await;
    for (passes, attempt) in [(LEASE + TTL - backend.tick(), 2), (LEASE + TTL, 1)] {
        orphan(&backend).await;
        backend.advance(passes).await;
        assert_eq!(call(&caller).await.expect("a result"), attempt);
        caller.idempotency.forget(OPERATION, ORDER).await.expect("an answer");
    }
}

async fn s19_result_is_kept_from_its_completion_on(backend: Backend) {
    let caller = backend.caller().await;
    let body = async {
        // Past its lease, which nobody else wanted.
        backend.advance(LEASE + TTL - backend.tick()).await;
        Ok::<_, Error>(Execution::current().expect("an execution").attempt())
    };
    let answer = caller.idempotency.call(operation()).key(ORDER).arguments(ORDER).run(body).await;
    assert_eq!(answer.expect("a result"), 1);
    backend.advance(TTL - backend.tick()).await;
    assert_eq!(with_disposition(call(&caller)).await.1, Disposition::Replayed);
    backend.advance(backend.tick()).await;
    assert_eq!(with_disposition(call(&caller)).await.1, Disposition::Executed);
}

const SKEW: Duration = Duration::from_secs(300);

async fn s35_a_store_whose_clock_is_ahead_decides(backend: Backend) {
    let caller = backend.caller().await;
    orphan(&backend).await;
    // For the caller, no time has passed.
    backend.advance(SKEW).await;
    assert_eq!(call(&caller).await.expect("a result"), 2);
}

/// By the caller's clock, the orphan's lease was over long ago.
async fn s35_a_caller_whose_clock_is_ahead_does_not_decide(backend: Backend) {
    let caller = backend.caller().await;
    orphan(&backend).await;
    tokio::time::pause();
    tokio::time::advance(SKEW).await;
    tokio::time::resume();
    match call(&caller).await {
        Err(Error::InFlight { retry_after, .. }) => {
            assert!(retry_after > LEASE - Duration::from_secs(5), "{retry_after:?}")
        }
        other => panic!("not in flight: {other:?}"),
    }
    backend.advance(LEASE).await;
    assert_eq!(call(&caller).await.expect("a result"), 2);
}

// On one thread, since only there can tokio's clock be moved.
on_every_store!(one_thread: s35_a_caller_whose_clock_is_ahead_does_not_decide);
