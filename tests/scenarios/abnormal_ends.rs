//! Every way in which a body can end other than well: panics, results that cannot be kept, runtimes that stop.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use idempotent_runtime::{
    Disposition, Error, Execution, Idempotency, NotKept, OnAbandoned, Operation, State, idempotent, store::Outcome,
    testing::Method, with_disposition,
};
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};

use crate::{
    captured_log,
    support::{Backend, Caller, Effects, Failure, poll_once, record_key},
    test_bodies::{Stop, record, refusal, settled, soon, state},
};
use idempotent_tests::on_every_store;

on_every_store!(
    s29_panic_reaches_the_caller_and_the_policy_decides,
    s29_panic_of_a_detached_body_reaches_the_caller,
    s29_panic_of_the_predicate_is_a_panic_of_the_run,
    s30_result_that_cannot_be_serialized_is_never_run_again,
    s30_result_over_the_limit_is_never_run_again,
    s30_kept_error_over_the_limit_is_never_run_again,
    s38_refuse_never_runs_again_until_an_operator_resolves_it,
    runtime_that_stops_in_mid_run_abandons_or_lapses,
    future_that_outlives_its_runtime_does_no_harm,
    detached_call_outside_of_a_runtime_claims_nothing,
    nested_calls_have_records_of_their_own,
    call_of_a_key_inside_its_own_body_is_refused,
);

/// The text of the panic that the future ends with.
async fn panic_of<F: Future>(future: F) -> String
where
    F::Output: std::fmt::Debug,
{
    let mut future = Box::pin(future);
    let caught =
        std::future::poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
            Ok(std::task::Poll::Ready(output)) => panic!("no panic, but {output:?}"),
            Err(panic) => std::task::Poll::Ready(panic),
        })
        .await;
    (*caught.downcast::<&str>().expect("a text")).to_owned()
}

#[idempotent(name = "panic.rerun", key = key, skip(caller, effects), store = caller.idempotency)]
async fn panic_rerun(caller: &Caller, key: u8, effects: &Effects) -> Result<u64, Failure> {
    let run = effects.happen();
    tokio::task::yield_now().await;
    assert!(run > 1, "in the body");
    Ok(run)
}

#[idempotent(name = "panic.refuse", key = key, skip(caller, effects), store = caller.idempotency, abandoned = refuse)]
async fn panic_refuse(caller: &Caller, key: u8, effects: &Effects) -> Result<u64, Failure> {
    let run = effects.happen();
    tokio::task::yield_now().await;
    assert!(run > 1, "in the body");
    Ok(run)
}

async fn s29_panic_reaches_the_caller_and_the_policy_decides(backend: Backend) {
    let (caller, observer) = (backend.caller().await, backend.store().await);
    let effects = Effects::new();
    assert_eq!(panic_of(panic_rerun(&caller, 1, &effects)).await, "in the body");
    let abandoned = settled(&*observer, &record_key("panic.rerun", "~1")).await.expect("a record");
    assert_eq!((abandoned.state, abandoned.attempt), (State::Abandoned, 1));
    let (answer, disposition) = with_disposition(panic_rerun(&caller, 1, &effects)).await;
    assert_eq!((answer.expect("a result"), disposition), (2, Disposition::TookOver));

    let effects = Effects::new();
    assert_eq!(panic_of(panic_refuse(&caller, 1, &effects)).await, "in the body");
    settled(&*observer, &record_key("panic.refuse", "~1")).await.expect("a record");
    for _ in 0..2 {
        let (answer, disposition) = with_disposition(panic_refuse(&caller, 1, &effects)).await;
        assert!(matches!(refusal(answer), Error::Abandoned { attempt: 1, .. }));
        assert_eq!(disposition, Disposition::Refused);
    }
    assert_eq!(effects.count(), 1);
}

async fn s29_panic_of_a_detached_body_reaches_the_caller(backend: Backend) {
    let (caller, observer) = (backend.caller().await, backend.store().await);
    let call = |panics: bool| async move {
        assert!(!panics, "in the task");
        Ok::<_, Error>(7)
    };
    let first = caller.idempotency.call("panic.detached").key("k").detached().run(call(true));
    assert_eq!(panic_of(first).await, "in the task");
    let abandoned = settled(&*observer, &record_key("panic.detached", "k")).await.expect("a record");
    assert_eq!((abandoned.state, abandoned.attempt), (State::Abandoned, 1));
    let second = with_disposition(caller.idempotency.call("panic.detached").key("k").detached().run(call(false)));
    let (answer, disposition) = second.await;
    assert_eq!((answer.expect("a result"), disposition), (7, Disposition::TookOver));
}

fn panicking_predicate(_: &Failure) -> bool {
    panic!("in the predicate")
}

async fn s29_panic_of_the_predicate_is_a_panic_of_the_run(backend: Backend) {
    let (caller, observer) = (backend.caller().await, backend.store().await);
    let operation = Operation::new("panic.predicate").keep_errors_if(panicking_predicate);
    let call = caller.idempotency.call(operation.clone()).key("k").run(async { Err::<(), _>(Failure::Unreachable) });
    assert_eq!(panic_of(call).await, "in the predicate");
    let abandoned = settled(&*observer, &record_key("panic.predicate", "k")).await.expect("a record");
    assert_eq!((abandoned.state, abandoned.attempt), (State::Abandoned, 1));
    caller.idempotency.call(operation).key("k").run(async { Ok::<(), Failure>(()) }).await.expect("a result");
}

/// A result whose serialization goes wrong in one way or another.
#[derive(Debug, Deserialize, PartialEq)]
enum Awkward {
    NotANumber,
    Error,
    Panic,
}

impl Serialize for Awkward {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::NotANumber => serializer.serialize_f64(f64::NAN),
            Self::Error => Err(S::Error::custom("cannot be serialized")),
            Self::Panic => panic!("in Serialize"),
        }
    }
}

#[idempotent(name = "awkward", key = key, skip(caller, effects), store = caller.idempotency)]
async fn awkward(caller: &Caller, key: u8, effects: &Effects) -> Result<Awkward, Failure> {
    effects.happen();
    Ok(match key {
        0 => Awkward::NotANumber,
        1 => Awkward::Error,
        _ => Awkward::Panic,
    })
}

async fn s30_result_that_cannot_be_serialized_is_never_run_again(backend: Backend) {
    let (caller, observer) = (backend.caller().await, backend.store().await);
    for (key, expected) in [Awkward::NotANumber, Awkward::Error, Awkward::Panic].into_iter().enumerate() {
        let effects = Effects::new();
        let key = u8::try_from(key).expect("a small number");
        let (answer, disposition) = with_disposition(awkward(&caller, key, &effects)).await;
        assert_eq!((answer.expect("the body's own value"), disposition), (expected, Disposition::Executed));
        let done = state(&*observer, &record_key("awkward", &format!("~{key}"))).await;
        assert_eq!(done, Some(State::Done(Outcome::NotKept(NotKept::NotSerializable))));
        for repeats in [caller.clone(), caller.clone().without_peeking(), backend.caller().await] {
            let (answer, disposition) = with_disposition(awkward(&repeats, key, &effects)).await;
            assert_eq!(disposition, Disposition::Refused);
            let refused = match answer {
                Err(Failure::Idempotency(error)) => error,
                other => panic!("{other:?}"),
            };
            assert!(matches!(refused, Error::ResultNotKept(NotKept::NotSerializable)), "{refused:?}");
        }
        assert_eq!(effects.count(), 1);
    }
}

async fn s30_result_over_the_limit_is_never_run_again(backend: Backend) {
    captured_log::listen();
    let caller = backend.caller_with(Idempotency::builder().max_result_len(10)).await;
    let effects = Effects::new();
    // With the quotes of JSON: one under the limit, at it, over it.
    for (len, fits) in [(7, true), (8, true), (9, false)] {
        let value = "x".repeat(len);
        let call = || async {
            effects.happen();
            Ok::<_, Failure>(value.clone())
        };
        let before = effects.count();
        let first = caller.idempotency.call("over.limit").key(len).run(call()).await;
        assert_eq!(first.expect("the body's own value"), value);
        let (second, disposition) = with_disposition(caller.idempotency.call("over.limit").key(len).run(call())).await;
        if fits {
            assert_eq!((second.expect("a result"), disposition), (value, Disposition::Replayed));
        } else {
            assert!(matches!(refusal(second), Error::ResultNotKept(NotKept::TooLarge)));
            assert_eq!(disposition, Disposition::Refused);
        }
        assert_eq!(effects.count(), before + 1);
    }
    assert!(!captured_log::events("over.limit", "a result is not kept").is_empty());
    assert!(!captured_log::events("over.limit", "result-not-kept").is_empty());
}

async fn s30_kept_error_over_the_limit_is_never_run_again(backend: Backend) {
    let caller = backend.caller_with(Idempotency::builder().max_result_len(4)).await;
    let effects = Effects::new();
    let call = || {
        let operation = Operation::new("over.limit.error").keep_errors();
        caller.idempotency.call(operation).key("k").run(async {
            effects.happen();
            Err::<(), _>(Failure::Declined { code: 51 })
        })
    };
    assert!(matches!(call().await, Err(Failure::Declined { code: 51 })));
    assert!(matches!(refusal(call().await), Error::ResultNotKept(NotKept::TooLarge)));
    assert_eq!(effects.count(), 1);
}

async fn s38_refuse_never_runs_again_until_an_operator_resolves_it(backend: Backend) {
    let (caller, other) = (backend.caller().await, backend.caller().await);
    let effects = Effects::new();
    let operation = || Operation::new("refuse").abandoned(OnAbandoned::Refuse);
    let run = async |caller: &Caller| {
        caller.idempotency.call(operation()).key("k").run(async { Ok::<_, Failure>(effects.happen()) }).await
    };
    // As a process that is killed: the claim is there, and nobody is left to renew or end it.
    for attempt in 1..=2 {
        let lost = backend.caller().await;
        lost.store.always(Method::Suspend, idempotent_runtime::testing::Fault::HoldBefore(Default::default()));
        let stop = Stop::new();
        tokio::select! {
            biased;
            () = stop.reached() => {}
            _ = lost.idempotency.call(operation()).key("k").run(stop.body::<Failure>()) => {
                panic!("not stopped")
            }
        }
        backend.advance(Operation::DEFAULT_LEASE + backend.tick()).await;
        for caller in [&caller, &other] {
            assert!(matches!(refusal(run(caller).await), Error::Abandoned { attempt: 1, .. }));
        }
        assert_eq!(effects.count(), 0);
        if attempt == 1 {
            assert!(caller.idempotency.forget("refuse", "k").await.expect("an answer"));
        }
    }
    assert!(other.idempotency.forget("refuse", "k").await.expect("an answer"));
    assert_eq!(run(&caller).await.expect("a result"), 1);
    assert_eq!(run(&other).await.expect("a result"), 1);
    assert_eq!(effects.count(), 1);
}

/// A call whose body stops in the middle, on a runtime of its own that is shut down then.
async fn runtime_that_stops_in_mid_run_abandons_or_lapses(backend: Backend) {
    let effects = Effects::new();
    for (number, detached) in [false, true].into_iter().enumerate() {
        let lost = backend.caller().await;
        let stop = Stop::new();
        let operation = Operation::new("runtime.stops");
        let (ends, is_ended) = tokio::sync::oneshot::channel();
        std::thread::spawn({
            let (stop, effects) = (stop.clone(), effects.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
                let runtime = runtime.expect("a runtime");
                let reached = stop.clone();
                runtime.spawn(async move {
                    let body = async move {
                        effects.happen();
                        stop.here().await;
                        Ok::<_, Failure>(0)
                    };
                    let key = &number;
                    if detached {
                        lost.idempotency.call(operation).key(key).detached().run(body).await
                    } else {
                        lost.idempotency.call(operation).key(key).run(body).await
                    }
                });
                runtime.block_on(reached.reached());
                drop(runtime);
                ends.send(()).expect("a test that waits");
            }
        });
        soon("the runtime to stop", is_ended).await.expect("no panic");
        let key = record_key("runtime.stops", &format!("~{number}"));
        if let Backend::Memory { .. } = backend {
            assert_eq!(state(&*backend.store().await, &key).await, Some(State::Abandoned));
        } else {
            backend.advance(Operation::DEFAULT_LEASE + backend.tick()).await;
        }
        let caller = backend.caller().await;
        let body = async { Ok::<_, Failure>(effects.happen()) };
        let call = caller.idempotency.call(Operation::new("runtime.stops")).key(number).run(body);
        let (answer, disposition) = soon("the retry", with_disposition(call)).await;
        assert_eq!(disposition, Disposition::TookOver);
        assert_eq!(answer.expect("a result"), effects.count());
    }
}

/// Futures that wait for the store, and for the body, dropped when their runtime is gone, on a thread without one.
async fn future_that_outlives_its_runtime_does_no_harm(backend: Backend) {
    for held in [Some(Method::Claim), Some(Method::Complete), None] {
        let caller = backend.caller().await;
        let stop = Stop::new();
        let gate = idempotent_runtime::testing::Gate::new();
        if let Some(method) = held {
            stop.go();
            caller.store.always(method, idempotent_runtime::testing::Fault::HoldAfter(gate.clone()));
        }
        let ended = tokio::task::spawn_blocking(move || {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let (handle, here) = (caller.idempotency.clone(), stop.clone());
                let call = async move { handle.call("outlives").key("k").run(here.body::<Failure>()).await };
                let mut call = Box::pin(call);
                runtime.block_on(async {
                    let reached = async {
                        match held {
                            Some(_) => gate.reached(1).await,
                            None => stop.reached().await,
                        }
                    };
                    tokio::select! {
                        () = reached => {}
                        _ = &mut call => panic!("not held"),
                    }
                });
                // What was asked fails from now on: what is left of the call wants to wait and try again.
                caller.store.heal();
                for method in [Method::Suspend, Method::Release, Method::Complete] {
                    caller.store.always(method, idempotent_runtime::testing::Fault::LOST_REQUEST);
                }
                gate.open();
                drop(runtime);
                drop(call);
            })
            .join()
        });
        ended.await.expect("a thread").expect("no panic");
        let cleared = backend.caller().await;
        cleared.idempotency.forget("outlives", "k").await.expect("an answer");
    }
}

async fn detached_call_outside_of_a_runtime_claims_nothing(backend: Backend) {
    let caller = backend.caller().await;
    let claimed = caller.clone();
    let panicked = std::thread::spawn(move || {
        let body = async { Ok::<_, Error>(1) };
        let call = std::pin::pin!(claimed.idempotency.call("no.runtime").key("k").detached().run(body));
        let _ = poll_once(call);
    });
    panicked.join().expect_err("a panic");
    assert_eq!(caller.store.calls(Method::Claim), 0);
}

#[idempotent(name = "outer", key = key, skip(caller, runs), store = caller.idempotency)]
async fn outer(caller: &Caller, key: u8, runs: &Effects) -> Result<(u64, u64), Failure> {
    let run = runs.happen();
    assert_eq!(Execution::current().expect("an execution").operation(), "outer");
    let (same, other) = (inner(caller, key, runs).await?, inner(caller, key + 1, runs).await?);
    assert_eq!(Execution::current().expect("an execution").operation(), "outer");
    Ok((run, same * 100 + other))
}

#[idempotent(name = "inner", key = key, skip(caller, runs), store = caller.idempotency)]
async fn inner(caller: &Caller, key: u8, runs: &Effects) -> Result<u64, Failure> {
    assert_eq!(Execution::current().expect("an execution").operation(), "inner");
    Ok(runs.happen())
}

async fn nested_calls_have_records_of_their_own(backend: Backend) {
    let (caller, observer) = (backend.caller().await, backend.store().await);
    let runs = Effects::new();
    for expected in [Disposition::Executed, Disposition::Replayed] {
        let (answer, disposition) = with_disposition(outer(&caller, 1, &runs)).await;
        assert_eq!((answer.expect("a result"), disposition), ((1, 203), expected));
    }
    assert_eq!(inner(&caller, 2, &runs).await.expect("a result"), 3);
    assert_eq!(runs.count(), 3);
    for key in [record_key("outer", "~1"), record_key("inner", "~1"), record_key("inner", "~2")] {
        assert!(record(&*observer, &key).await.is_some(), "{key:?}");
    }
    assert!(Execution::current().is_none());
}

#[idempotent(name = "itself", key = key, skip(caller), store = caller.idempotency, wait = "50ms")]
async fn itself(caller: &Caller, key: u8) -> Result<u8, Failure> {
    match Box::pin(itself(caller, key)).await {
        Err(Failure::Idempotency(Error::InFlight { retry_after, .. })) => {
            assert!(retry_after > Duration::ZERO);
            Ok(key)
        }
        other => panic!("{other:?}"),
    }
}

async fn call_of_a_key_inside_its_own_body_is_refused(backend: Backend) {
    let caller = backend.caller().await;
    assert_eq!(soon("the call", itself(&caller, 1)).await.expect("a result"), 1);
}
