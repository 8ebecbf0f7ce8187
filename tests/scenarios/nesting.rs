//! Several operations on one handle: inside each other, beside each other, with policies of their own.

use std::time::Duration;

use idempotent_runtime::{
    Disposition, Error, Execution, Idempotency, OnAbandoned, Operation, idempotent,
    testing::{Fault, Gate, Method},
    with_disposition,
};
use tokio::task::JoinSet;

use crate::support::{Backend, Effects, Failure, LEASE, TTL, running};
use idempotent_tests::on_every_store;

on_every_store! {
    s16_two_functions_with_the_same_arguments_have_records_of_their_own,
    s16_two_policies_on_one_handle_are_both_honoured,
    s16_a_refusal_is_not_shared_with_a_call_that_may_rerun,
    s17_a_function_inside_a_function_replays_its_own_result,
    s17_an_inner_run_survives_the_failure_of_the_outer_one,
    s17_a_function_inside_itself_is_in_flight,
    s17_interleaved_calls_never_cross,
}

#[idempotent(key = order, name = "nesting.reserve", store = handle, skip(handle, effects))]
async fn reserve(handle: &Idempotency, effects: &Effects, order: u64) -> Result<String, Error> {
    effects.happen();
    Ok(format!("reserved {order}"))
}

#[idempotent(key = order, name = "nesting.charge", store = handle, skip(handle, effects))]
async fn charge(handle: &Idempotency, effects: &Effects, order: u64) -> Result<String, Error> {
    effects.happen();
    Ok(format!("charged {order}"))
}

async fn s16_two_functions_with_the_same_arguments_have_records_of_their_own(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    for _ in 0..2 {
        assert_eq!(reserve(&caller.idempotency, &effects, 16).await.expect("a result"), "reserved 16");
        assert_eq!(charge(&caller.idempotency, &effects, 16).await.expect("a result"), "charged 16");
    }
    assert_eq!(effects.count(), 2);
    assert!(caller.idempotency.forget("nesting.charge", &16).await.expect("an answer"));
    assert!(!caller.idempotency.forget("nesting.charge", &16).await.expect("an answer"));
    let (_, disposition) = with_disposition(reserve(&caller.idempotency, &effects, 16)).await;
    assert_eq!(disposition, Disposition::Replayed);
}

#[idempotent(
    key = order, name = "nesting.short", ttl = LEASE, lease = LEASE, wait = "0s", errors = keep, abandoned = refuse,
    store = handle, skip(handle, effects)
)]
async fn short(handle: &Idempotency, effects: &Effects, order: u64) -> Result<u64, Failure> {
    effects.happen();
    Err(Failure::Declined { code: 16 })
}

#[idempotent(key = order, name = "nesting.long", ttl = TTL, store = handle, skip(handle, effects))]
async fn long(handle: &Idempotency, effects: &Effects, order: u64) -> Result<u64, Failure> {
    match effects.happen() {
        1 => Err(Failure::Declined { code: 16 }),
        run => Ok(run),
    }
}

async fn s16_two_policies_on_one_handle_are_both_honoured(backend: Backend) {
    let caller = backend.caller().await;
    let (of_short, of_long) = (Effects::new(), Effects::new());
    for _ in 0..2 {
        short(&caller.idempotency, &of_short, 16).await.expect_err("declined");
    }
    long(&caller.idempotency, &of_long, 16).await.expect_err("declined");
    assert_eq!(long(&caller.idempotency, &of_long, 16).await.expect("a result"), 2);
    assert_eq!((of_short.count(), of_long.count()), (1, 2));

    backend.advance(LEASE).await;
    short(&caller.idempotency, &of_short, 16).await.expect_err("declined");
    assert_eq!(long(&caller.idempotency, &of_long, 16).await.expect("a result"), 2);
    assert_eq!((of_short.count(), of_long.count()), (2, 2));

    // A crash of either.
    let refuses = || Operation::new("nesting.refuses").lease(LEASE).wait(Duration::ZERO).abandoned(OnAbandoned::Refuse);
    let reruns = || Operation::new("nesting.reruns").lease(LEASE).wait(Duration::ZERO);
    let mut runs = Vec::new();
    for operation in [refuses(), reruns()] {
        runs.push(running(&backend.caller().await, operation, "order-16", &Gate::new()).await);
    }
    backend.advance(LEASE).await;
    let body = || async { Ok::<_, Error>(Execution::current().expect("an execution").attempt()) };
    let refused = caller.idempotency.call(refuses()).key("order-16").arguments("order-16").run(body()).await;
    assert!(matches!(refused, Err(Error::Abandoned { attempt: 1, .. })), "{refused:?}");
    assert_eq!(
        caller.idempotency.call(reruns()).key("order-16").arguments("order-16").run(body()).await.expect("a result"),
        2
    );
    runs.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Two functions of one name, one of which may take over, call at the same time in one process.
async fn s16_a_refusal_is_not_shared_with_a_call_that_may_rerun(backend: Backend) {
    let operation = |abandoned| Operation::new("nesting.both").lease(LEASE).abandoned(abandoned);
    let lapsed = running(&backend.caller().await, operation(OnAbandoned::Rerun), "order-16", &Gate::new()).await;
    backend.advance(LEASE).await;

    let (caller, gate) = (backend.caller().await, Gate::new());
    caller.store.next(Method::Claim, [Fault::HoldAfter(gate.clone())]);
    let call = async |abandoned| {
        let body = async { Ok::<_, Error>(Execution::current().expect("an execution").attempt()) };
        caller.idempotency.call(operation(abandoned)).key("order-16").arguments("order-16").run(body).await
    };
    let reruns = async {
        gate.reached(1).await;
        // The call meets its duplicate before the gate opens.
        tokio::join!(call(OnAbandoned::Rerun), async { gate.open() }).0
    };
    let (refused, rerun) = tokio::join!(call(OnAbandoned::Refuse), reruns);
    assert!(matches!(refused, Err(Error::Abandoned { attempt: 1, .. })), "{refused:?}");
    assert_eq!(rerun.expect("a result"), 2);
    lapsed.abort();
}

#[idempotent(key = order, name = "nesting.place", store = handle, skip(handle, outer, inner))]
async fn place(handle: &Idempotency, outer: &Effects, inner: &Effects, order: u64) -> Result<String, Error> {
    let execution = Execution::current().expect("an execution");
    let (reserved, disposition) = with_disposition(reserve(handle, inner, order)).await;
    assert!(matches!(disposition, Disposition::Executed | Disposition::Replayed));
    assert_eq!(Execution::current().expect("an execution").operation(), execution.operation());
    let charged = charge(handle, inner, order).await?;
    outer.happen();
    Ok(format!("{}, {charged}", reserved?))
}

async fn s17_a_function_inside_a_function_replays_its_own_result(backend: Backend) {
    let caller = backend.caller().await;
    let (outer, inner) = (Effects::new(), Effects::new());
    let call = || with_disposition(place(&caller.idempotency, &outer, &inner, 17));
    let (answer, disposition) = call().await;
    assert_eq!(answer.expect("a result"), "reserved 17, charged 17");
    assert_eq!(disposition, Disposition::Executed);
    let (answer, disposition) = call().await;
    assert_eq!(answer.expect("a result"), "reserved 17, charged 17");
    assert_eq!(disposition, Disposition::Replayed);
    let (answer, disposition) = with_disposition(charge(&caller.idempotency, &inner, 17)).await;
    assert_eq!(answer.expect("a result"), "charged 17");
    assert_eq!(disposition, Disposition::Replayed);
    assert_eq!((outer.count(), inner.count()), (1, 2));
}

async fn s17_an_inner_run_survives_the_failure_of_the_outer_one(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    for outer_fails in [true, false] {
        let body = async {
            let inner = charge(&caller.idempotency, &effects, 17).await?;
            if outer_fails { Err(Failure::Unreachable) } else { Ok(inner) }
        };
        let answer = caller.idempotency.call("nesting.outer").key("order-17").run(body).await;
        assert_eq!(answer.is_err(), outer_fails);
    }
    assert_eq!(effects.count(), 1);
}

async fn s17_a_function_inside_itself_is_in_flight(backend: Backend) {
    let caller = backend.caller().await;
    let operation = || Operation::new("nesting.itself").wait(Duration::ZERO);
    let body = async {
        let inner = async { panic!("a run inside a run") };
        let inner = caller.idempotency.call(operation()).key("order-17").run::<u64, Error, _>(inner).await;
        assert!(matches!(inner, Err(Error::InFlight { .. })), "{inner:?}");
        Ok::<_, Error>(17)
    };
    let answer = caller.idempotency.call(operation()).key("order-17").run(body).await;
    assert_eq!(answer.expect("a result"), 17);
}

async fn s17_interleaved_calls_never_cross(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    let gate = Gate::new();
    let mut tasks = JoinSet::new();
    for order in 0..100_u64 {
        for operation in ["nesting.left", "nesting.right"] {
            for _ in 0..2 {
                let (handle, effects, gate) = (caller.idempotency.clone(), effects.clone(), gate.clone());
                tasks.spawn(async move {
                    let body = async {
                        effects.happen();
                        // All of them run at the same time.
                        gate.pass().await;
                        let execution = Execution::current().expect("an execution");
                        Ok::<_, Error>((execution.operation().to_owned(), execution.key().to_owned()))
                    };
                    let answer = handle.call(operation).key(order).arguments(&order).run(body).await.expect("a result");
                    assert_eq!(answer, (operation.to_owned(), format!("~{order}")));
                });
            }
        }
    }
    gate.reached(200).await;
    gate.open();
    tasks.join_all().await;
    assert_eq!(effects.count(), 200);
    assert_eq!(caller.store.calls(Method::Complete), 200);
}
