//! One key, two requests: refused in every state of the record, and nothing is changed.

use std::time::Duration;

use idempotent_runtime::{
    Error, Idempotency, OnAbandoned, Operation, Outcome, Record, State,
    testing::{Fault, Gate, Method},
};
use serde::Serialize;

use crate::support::{Backend, Caller, LEASE, TTL, poll_once, running};
use idempotent_tests::on_every_store;

on_every_store! {
    s14_done_refuses_another_request,
    s14_the_local_cache_refuses_another_request,
    s14_stored_error_refuses_another_request,
    s14_running_refuses_another_request,
    s14_lapsed_refuses_another_request,
    s14_abandoned_refuses_another_request,
    s14_a_waiting_duplicate_does_not_hide_another_request,
    s14_every_nested_change_is_another_request,
}

const OPERATION: &str = "mismatch.charge";
const ORDER: &str = "order-14";

/// A call whose arguments are not those of [`running`], nor the key.
async fn another(caller: &Caller) -> Result<u32, Error> {
    let operation = Operation::new(OPERATION).wait(Duration::from_secs(10));
    caller.idempotency.call(operation).key(ORDER).arguments("another request").run(async { panic!("it ran") }).await
}

async fn record(backend: &Backend) -> Record {
    let operator = backend.caller().await.idempotency;
    operator.inspect(OPERATION, ORDER).await.expect("an answer").expect("a record")
}

/// Those who ask with another request: on handles of their own, on the owner's, and with and without a local answer. They are
/// there before a record comes near to its end.
struct Others {
    callers: [Caller; 3],
    operator: Idempotency,
}

impl Others {
    async fn of(backend: &Backend, owner: &Caller) -> Self {
        let callers = [owner.clone(), backend.caller().await, backend.caller().await.without_peeking()];
        Self { callers, operator: backend.caller().await.idempotency }
    }

    async fn record(&self) -> Record {
        self.operator.inspect(OPERATION, ORDER).await.expect("an answer").expect("a record")
    }

    async fn are_refused(&self) {
        let before = self.record().await;
        for caller in &self.callers {
            for _ in 0..2 {
                let answer = another(caller).await;
                assert!(matches!(answer, Err(Error::Mismatch { .. })), "{answer:?}");
            }
            assert_eq!(caller.store.calls(Method::Subscribe), 0, "it waited");
        }
        let after = self.record().await;
        assert_eq!(after.fingerprint, before.fingerprint);
        assert_eq!(after.attempt, before.attempt);
        assert!(after.expires_in <= before.expires_in, "it is kept for longer");
        match (before.state, after.state) {
            (State::Running { lease_left: before, .. }, State::Running { lease_left: after, .. }) => {
                assert!(after <= before)
            }
            (before, after) => assert_eq!(after, before),
        }
    }
}

async fn refused_to_all(backend: &Backend, owner: &Caller) {
    Others::of(backend, owner).await.are_refused().await;
}

async fn s14_done_refuses_another_request(backend: Backend) {
    let owner = backend.caller().await;
    let call = || owner.idempotency.call(OPERATION).key(ORDER).arguments(ORDER).run(async { Ok::<_, Error>(1_u32) });
    call().await.expect("a result");
    refused_to_all(&backend, &owner).await;
    assert_eq!(call().await.expect("a result"), 1);
}

async fn s14_the_local_cache_refuses_another_request(backend: Backend) {
    let (owner, other) = (backend.caching_caller().await, backend.caching_caller().await);
    for caller in [owner, other] {
        let call =
            || caller.idempotency.call(OPERATION).key(ORDER).arguments(ORDER).run(async { Ok::<_, Error>(1_u32) });
        call().await.expect("a result");
        let before = caller.calls();
        assert!(matches!(another(&caller).await, Err(Error::Mismatch { .. })));
        assert_eq!(call().await.expect("a result"), 1);
        assert_eq!(caller.calls(), before, "the store was asked");
        refused_to_all(&backend, &caller).await;
    }
}

async fn s14_stored_error_refuses_another_request(backend: Backend) {
    use crate::support::Failure;
    let owner = backend.caller().await;
    let operation = Operation::new(OPERATION).keep_errors();
    let body = async { Err::<(), _>(Failure::Declined { code: 14 }) };
    owner.idempotency.call(operation).key(ORDER).arguments(ORDER).run(body).await.expect_err("declined");
    assert!(matches!(record(&backend).await.state, State::Done(Outcome::Err(_))));
    refused_to_all(&backend, &owner).await;
}

async fn s14_running_refuses_another_request(backend: Backend) {
    let owner = backend.caller().await;
    let gate = Gate::new();
    let run = running(&owner, Operation::new(OPERATION), ORDER, &gate).await;
    refused_to_all(&backend, &owner).await;
    gate.open();
    assert_eq!(run.await.expect("no panic").expect("a result"), 1);
}

async fn s14_lapsed_refuses_another_request(backend: Backend) {
    let owner = backend.caller().await;
    let gate = Gate::new();
    let run = running(&owner, Operation::new(OPERATION).lease(LEASE).ttl(TTL), ORDER, &gate).await;
    let others = Others::of(&backend, &owner).await;
    backend.advance(LEASE).await;
    assert_eq!(others.record().await.state, State::Lapsed);
    others.are_refused().await;
    backend.advance(TTL - backend.tick()).await;
    others.are_refused().await;
    gate.open();
    assert_eq!(run.await.expect("no panic").expect("a result"), 1);
}

async fn s14_abandoned_refuses_another_request(backend: Backend) {
    let owner = backend.caller().await;
    let operation = Operation::new(OPERATION).abandoned(OnAbandoned::Refuse);
    let run = running(&owner, operation, ORDER, &Gate::new()).await;
    let said = Gate::new();
    owner.store.next(Method::Suspend, [Fault::HoldAfter(said.clone())]);
    run.abort();
    said.reached(1).await;
    assert_eq!(record(&backend).await.state, State::Abandoned);
    refused_to_all(&backend, &owner).await;
    said.open();
}

async fn s14_a_waiting_duplicate_does_not_hide_another_request(backend: Backend) {
    let (owner, caller) = (backend.caller().await, backend.caller().await);
    let gate = Gate::new();
    let run = running(&owner, Operation::new(OPERATION), ORDER, &gate).await;
    // Its own duplicate leads the calls of this handle, and waits.
    let body = async { panic!("a second run") };
    let mut duplicate =
        Box::pin(caller.idempotency.call(OPERATION).key(ORDER).arguments(ORDER).run::<u32, Error, _>(body));
    assert!(poll_once(duplicate.as_mut()).is_pending());
    assert!(matches!(another(&caller).await, Err(Error::Mismatch { .. })));
    gate.open();
    assert_eq!(duplicate.await.expect("a result"), 1);
    assert_eq!(run.await.expect("no panic").expect("a result"), 1);
}

#[derive(Clone, Serialize)]
struct Request {
    customer: Customer,
    lines: Vec<(String, u32)>,
    note: Option<String>,
    how: How,
}

#[derive(Clone, Serialize)]
struct Customer {
    name: String,
    premium: bool,
}

#[derive(Clone, Serialize)]
enum How {
    Card { last_digits: u16 },
    Voucher(u16),
    Cash,
}

async fn s14_every_nested_change_is_another_request(backend: Backend) {
    let caller = backend.caller().await;
    let request = Request {
        customer: Customer { name: "Ada".to_owned(), premium: false },
        lines: vec![("tea".to_owned(), 1), ("milk".to_owned(), 2)],
        note: None,
        how: How::Card { last_digits: 17 },
    };
    let call = |request: Request| {
        let handle = caller.idempotency.clone();
        async move { handle.call(OPERATION).key(ORDER).arguments(&request).run(async { Ok::<_, Error>(1_u32) }).await }
    };
    call(request.clone()).await.expect("a result");
    type Change = fn(&mut Request);
    let changes: [Change; 11] = [
        |request| request.customer.name.push(' '),
        |request| request.customer.premium = true,
        |request| request.lines[1].1 = 3,
        |request| request.lines[1].0.clear(),
        |request| request.lines.swap(0, 1),
        |request| drop(request.lines.pop()),
        |request| request.note = Some(String::new()),
        |request| request.how = How::Card { last_digits: 18 },
        |request| request.how = How::Voucher(17),
        |request| request.how = How::Cash,
        |request| request.customer.name = "Ada\0".to_owned(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut changed = request.clone();
        change(&mut changed);
        let answer = call(changed).await;
        assert!(matches!(answer, Err(Error::Mismatch { .. })), "change {number}: {answer:?}");
    }
    call(request).await.expect("the result");
}
