//! Callers that go away, at every point where they can: the key is never stuck, and never silently free.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use idempotent_runtime::{
    Disposition, Error, Idempotency, OnAbandoned, Operation, RecordKey, State, Store, idempotent,
    testing::{Fault, Gate, Method},
    with_disposition,
};
use tokio::task::yield_now;

use crate::{
    support::{Backend, Caller, Effects, Failure, record_key},
    test_bodies::{PLACES, Stop, assert_no_waiter_is_counted, ended, polled, refusal, settled, soon, state},
};
use idempotent_tests::on_every_store;

on_every_store!(
    s28_a_call_dropped_at_every_await_point,
    s28_b_attribute_dropped_at_every_await_point,
    s28_c_detached_call_dropped_at_every_await_point,
    s28_d_detached_attribute_dropped_at_every_await_point,
    s28_e_dropped_before_and_after_each_step_of_the_store,
    s28_f_waiter_dropped_at_every_await_point,
    s28_g_body_is_gone_before_its_claim,
);

/// Counts how often a body started and ended, so that a test sees how far it came before it was dropped.
#[derive(Clone, Debug, Default)]
struct Trail {
    started: Effects,
    ended: Effects,
}

impl Trail {
    /// A body with await points of its own.
    async fn body(&self, fails: bool) -> Result<u64, Failure> {
        let run = self.started.happen();
        for _ in 0..3 {
            yield_now().await;
        }
        self.ended.happen();
        if fails { Err(Failure::Unreachable) } else { Ok(run) }
    }
}

/// One of the ways to call.
#[derive(Clone, Copy)]
struct Shape {
    refuse: bool,
    fails: bool,
    detached: bool,
}

type Answer = Result<u64, Failure>;
type CallFuture<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;
type CallFn = for<'a> fn(&'a Caller, &'a Trail, &'a str, Shape) -> CallFuture<'a>;

/// Calls and drops the call after its first poll, its second, …, until it ends; looks at the record; calls again.
async fn drop_at_every_await_point(backend: &Backend, operation: &str, detached: bool, call: CallFn) {
    let observer = backend.store().await;
    for (refuse, fails) in [(false, false), (true, false), (false, true), (true, true)] {
        let shape = Shape { refuse, fails, detached };
        let mut ended = false;
        for polls in 0.. {
            let caller = backend.caller().await.without_peeking();
            let (claim, end) = (Gate::new(), Gate::new());
            caller.store.always(Method::Claim, Fault::HoldBefore(claim.clone()));
            for method in [Method::Complete, Method::Release, Method::Suspend] {
                caller.store.always(method, Fault::HoldBefore(end.clone()));
            }
            let trail = Trail::default();
            let key = format!("k-{refuse}-{fails}-{polls}");
            // A gate opens once the call waits at it, so that the call has an await point at each, on any machine.
            let steps = async {
                for gate in [&claim, &end] {
                    gate.reached(1).await;
                    gate.open();
                }
            };
            let stepped = async { tokio::join!(call(&caller, &trail, &key, shape), steps) };
            ended = polled(polls, stepped).await.is_some();
            // What the call left to the background goes on.
            claim.open();
            end.open();
            let at = format!("dropped after {polls} polls, refuse: {refuse}, fails: {fails}");
            check(&*observer, &record_key(operation, &key), &caller, &trail, &key, shape, call, &at).await;
            if ended {
                // The two gates, and the three points of the body where its caller waits for them.
                assert!(polls > if detached { 2 } else { 5 }, "{polls}");
                break;
            }
        }
        assert!(ended);
    }
}

#[expect(clippy::too_many_arguments, reason = "all of the case")]
async fn check(
    observer: &dyn Store,
    record_key: &RecordKey,
    caller: &Caller,
    trail: &Trail,
    key: &str,
    shape: Shape,
    call: CallFn,
    at: &str,
) {
    let record = ended(caller, observer, record_key).await;
    let (started, ended) = (trail.started.count(), trail.ended.count());
    let (state, attempt) = (record.as_ref().map(|record| &record.state), record.as_ref().map(|record| record.attempt));
    match (started, ended) {
        // Nothing happened, and nothing is left.
        (0, 0) => assert!(state.is_none(), "{at}: {state:?}"),
        (1, 0) => {
            assert!(!shape.detached, "{at}: the body stopped half-way");
            assert_eq!((state, attempt), (Some(&State::Abandoned), Some(1)), "{at}");
        }
        (1, 1) if shape.fails => assert!(state.is_none(), "{at}: {state:?}"),
        (1, 1) => assert!(matches!(state, Some(State::Done(_))), "{at}: {state:?}"),
        other => panic!("{at}: {other:?}"),
    }

    let retry = Shape { fails: false, ..shape };
    let (answer, disposition) = soon("the retry", with_disposition(call(caller, trail, key, retry))).await;
    match (started, ended, shape.refuse, shape.fails) {
        (1, 0, true, _) => {
            assert!(matches!(refusal(answer), Error::Abandoned { attempt: 1, .. }), "{at}");
            assert_eq!(trail.started.count(), 1, "{at}");
        }
        (1, 0, false, _) => {
            assert_eq!((answer.expect("a result"), disposition), (2, Disposition::TookOver), "{at}");
        }
        (1, 1, _, false) => {
            // In this process the end of the recording may still be waited for.
            assert!(matches!(disposition, Disposition::Replayed | Disposition::Waited), "{at}: {disposition}");
            assert_eq!((answer.expect("a result"), trail.started.count()), (1, 1), "{at}");
        }
        _ => assert_eq!((answer.expect("a result"), disposition), (started + 1, Disposition::Executed), "{at}"),
    }
}

const fn operation(shape: Shape, operation: Operation) -> Operation {
    operation.abandoned(if shape.refuse { OnAbandoned::Refuse } else { OnAbandoned::Rerun })
}

async fn s28_a_call_dropped_at_every_await_point(backend: Backend) {
    drop_at_every_await_point(&backend, "dropped.call", false, |caller, trail, key, shape| {
        let operation = operation(shape, Operation::new("dropped.call"));
        Box::pin(caller.idempotency.call(operation).key(key).run(trail.body(shape.fails)))
    })
    .await;
}

async fn s28_c_detached_call_dropped_at_every_await_point(backend: Backend) {
    drop_at_every_await_point(&backend, "dropped.detached", true, |caller, trail, key, shape| {
        let operation = operation(shape, Operation::new("dropped.detached"));
        let trail = trail.clone();
        let body = async move { trail.body(shape.fails).await };
        Box::pin(caller.idempotency.call(operation).key(key).detached().run(body))
    })
    .await;
}

#[idempotent(name = "dropped.attribute", key = key, skip(caller, trail, fails), store = caller.idempotency)]
async fn rerun(caller: &Caller, trail: &Trail, key: &str, fails: bool) -> Answer {
    trail.body(fails).await
}

#[idempotent(name = "dropped.attribute", key = key, skip(caller, trail, fails), store = caller.idempotency, abandoned = refuse)]
async fn refuse(caller: &Caller, trail: &Trail, key: &str, fails: bool) -> Answer {
    trail.body(fails).await
}

async fn s28_b_attribute_dropped_at_every_await_point(backend: Backend) {
    drop_at_every_await_point(&backend, "dropped.attribute", false, |caller, trail, key, shape| {
        if shape.refuse {
            Box::pin(refuse(caller, trail, key, shape.fails))
        } else {
            Box::pin(rerun(caller, trail, key, shape.fails))
        }
    })
    .await;
}

#[idempotent(name = "dropped.detached_attribute", key = key, skip(handle, trail, fails), store = handle, detach)]
async fn detached(handle: Idempotency, trail: Trail, key: String, fails: bool) -> Answer {
    trail.body(fails).await
}

#[idempotent(name = "dropped.detached_attribute", key = key, skip(handle, trail, fails), store = handle, detach, abandoned = refuse)]
async fn detached_refuse(handle: Idempotency, trail: Trail, key: String, fails: bool) -> Answer {
    trail.body(fails).await
}

async fn s28_d_detached_attribute_dropped_at_every_await_point(backend: Backend) {
    drop_at_every_await_point(&backend, "dropped.detached_attribute", true, |caller, trail, key, shape| {
        let (handle, trail, key) = (caller.idempotency.clone(), trail.clone(), key.to_owned());
        if shape.refuse {
            Box::pin(detached_refuse(handle, trail, key, shape.fails))
        } else {
            Box::pin(detached(handle, trail, key, shape.fails))
        }
    })
    .await;
}

async fn s28_e_dropped_before_and_after_each_step_of_the_store(backend: Backend) {
    let observer = backend.store().await;
    let holds: [fn(Gate) -> Fault; 2] = [Fault::HoldBefore, Fault::HoldAfter];
    for (number, method) in [Method::Claim, Method::Complete, Method::Release].into_iter().enumerate() {
        for (side, hold) in holds.into_iter().enumerate() {
            let caller = backend.caller().await.without_peeking();
            let (trail, gate) = (Trail::default(), Gate::new());
            let (key, fails) = (format!("k-{number}-{side}"), method == Method::Release);
            caller.store.next(method, [hold(gate.clone())]);
            tokio::select! {
                biased;
                () = gate.reached(1) => {}
                _ = rerun(&caller, &trail, &key, fails) => panic!("not held"),
            }
            gate.open();

            let record_key = record_key("dropped.attribute", &key);
            let record = ended(&caller, &*observer, &record_key).await;
            let expected = if method == Method::Complete { 1 } else { 0 };
            assert_eq!(record.iter().filter(|record| matches!(record.state, State::Done(_))).count(), expected);
            assert_eq!(record.is_some(), expected == 1, "{method:?} {side}");

            let answer = soon("the retry", rerun(&caller, &trail, &key, false)).await.expect("a result");
            assert_eq!(answer, if method == Method::Release { 2 } else { 1 });
            assert_eq!(trail.started.count(), answer);
        }
    }
}

/// A waiter in the owner's process, and one in another, dropped wherever they can be.
async fn s28_f_waiter_dropped_at_every_await_point(backend: Backend) {
    let limits = || Idempotency::builder().max_waiters(PLACES);
    let (ours, theirs) = (backend.caller_with(limits()).await, backend.caller_with(limits()).await);
    let (effects, stop) = (Effects::new(), Stop::new());
    let run = async |caller: &Caller| {
        let body = async {
            stop.here().await;
            Ok::<_, Failure>(effects.happen())
        };
        caller.idempotency.call(Operation::new("dropped.waiter").wait(Duration::from_secs(30))).key("k").run(body).await
    };
    let others = async {
        stop.reached().await;
        for caller in [&ours, &theirs] {
            caller.store.always(Method::Claim, Fault::Delay(Duration::from_millis(1)));
            caller.store.always(Method::Subscribe, Fault::Delay(Duration::from_millis(1)));
            for polls in 0..12 {
                // Waiting needs no further poll until something happens: time decides then.
                let dropped = tokio::time::timeout(Duration::from_millis(20), polled(polls, run(caller))).await;
                assert!(!matches!(dropped, Ok(Some(_))), "a waiter had an answer: {dropped:?}");
            }
            assert_no_waiter_is_counted(&caller.idempotency).await;
        }
        let waiters = async { tokio::join!(run(&ours), run(&theirs)) };
        let end = async {
            theirs.store.called(Method::Subscribe, 1).await;
            stop.go();
        };
        let ((here, there), ()) = tokio::join!(waiters, end);
        assert_eq!((here.expect("a result"), there.expect("a result")), (1, 1));
    };
    let (answer, ()) = soon("the runs", async { tokio::join!(run(&ours), others) }).await;
    assert_eq!(answer.expect("a result"), 1);
    assert_eq!(effects.count(), 1);
}

/// Says, when it goes with its body, whether the key was still the body's.
struct Guard(Caller, Arc<std::sync::Mutex<Vec<usize>>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.1.lock().expect("a lock").push(self.0.store.calls(Method::Suspend));
    }
}

#[idempotent(name = "dropped.guard", key = key, skip(caller, guards, stop), store = caller.idempotency)]
async fn guarded(
    caller: &Caller,
    key: u8,
    guards: &Arc<std::sync::Mutex<Vec<usize>>>,
    stop: &Stop,
) -> Result<(), Failure> {
    let _guard = Guard(caller.clone(), Arc::clone(guards));
    stop.here().await;
    Ok(())
}

/// A destructor of the body can undo what it did: not beside the next run.
async fn s28_g_body_is_gone_before_its_claim(backend: Backend) {
    let observer = backend.store().await;
    let caller = backend.caller().await;
    let (guards, stop) = (Arc::default(), Stop::new());
    tokio::select! {
        biased;
        () = stop.reached() => {}
        _ = guarded(&caller, 1, &guards, &stop) => panic!("not stopped"),
    }
    let body = async {
        let _guard = Guard(caller.clone(), Arc::clone(&guards));
        stop.here().await;
        Ok::<_, Error>(())
    };
    let abandoned = settled(&*observer, &record_key("dropped.guard", "~1")).await.expect("a record");
    assert_eq!(abandoned.state, State::Abandoned);
    tokio::select! {
        biased;
        () = stop.reached() => {}
        _ = caller.idempotency.call("dropped.guard").key(2).run(body) => panic!("not stopped"),
    }
    assert_eq!(*guards.lock().expect("a lock"), [0, 1]);
    settled(&*observer, &record_key("dropped.guard", "~2")).await.expect("a record");
    assert_eq!(state(&*observer, &record_key("dropped.guard", "~2")).await, Some(State::Abandoned));
}
