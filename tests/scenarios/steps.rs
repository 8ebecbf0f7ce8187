//! Recovery points: what is finished is not done again, whatever ends the run, and what is in doubt is never freed.

use std::{
    collections::BTreeMap,
    future::{Future, pending},
    sync::{Arc, Mutex},
    time::Duration,
};

use idempotent_runtime::{
    Disposition, Error, Execution, Idempotency, NotKept, OnAbandoned, Operation, State, StepError, idempotent, step,
    testing::{Fault, Gate, Method},
    with_disposition,
};
use tokio::task::yield_now;

use crate::{
    captured_log,
    support::{Backend, Caller, Effects, Failure, LEASE, TTL, record_key},
    test_bodies::{polled, record, refusal, settled, state, vanish},
};
use idempotent_tests::{on_every_store, wait::wait_for};

on_every_store! {
    s37_finished_steps_are_not_run_again,
    s37_dropped_at_every_await_point,
    s37_a_reply_is_lost_at_every_call_of_the_store,
    s37_a_step_that_cannot_be_recorded_stops_the_function,
    s37_steps_run_in_any_order_and_at_the_same_time,
    s37_a_step_that_is_dropped_leaves_doubt,
    s37_a_step_is_recorded_although_its_caller_goes_away,
    s37_an_error_after_a_step_keeps_it,
    s37_an_error_of_a_step_is_not_recorded,
    s37_a_late_owner_runs_no_step,
    s37_a_claim_that_is_known_to_be_lost_begins_no_step,
    s37_a_lapsed_lease_is_renewed_before_a_step,
    s37_a_new_life_has_no_steps,
    s37_other_releases_of_a_function,
    s37_values_that_are_not_kept_are_never_run_again,
    s37_where_there_can_be_no_step,
    s37_limits,
    s37_of_nested_functions,
    s37_of_the_attribute,
}

fn order() -> Operation {
    Operation::new("steps.order").ttl(TTL).lease(LEASE).wait(Duration::ZERO)
}

/// How often each step has begun, and how often it was finished.
#[derive(Clone, Debug, Default)]
struct Trail(Arc<Mutex<BTreeMap<&'static str, (u64, u64)>>>);

impl Trail {
    async fn run(&self, name: &'static str) -> Result<u64, Failure> {
        self.count(name, |(begun, _)| *begun += 1);
        yield_now().await;
        Ok(self.count(name, |(_, finished)| *finished += 1).1)
    }

    fn count(&self, name: &'static str, count: impl FnOnce(&mut (u64, u64))) -> (u64, u64) {
        let mut trail = self.0.lock().expect("a lock");
        let counts = trail.entry(name).or_default();
        count(counts);
        *counts
    }

    fn begun(&self, name: &'static str) -> u64 {
        self.count(name, |_| ()).0
    }

    fn finished(&self, name: &'static str) -> u64 {
        self.count(name, |_| ()).1
    }
}

const STEPS: [&str; 3] = ["charge", "ship", "mail"];

/// The function of these tests: three steps. It stops at the gate after so many, if it is told to.
async fn three(trail: &Trail, stop: Option<(usize, Gate)>) -> Result<u64, Failure> {
    let mut sum = 0;
    for (number, name) in STEPS.into_iter().enumerate() {
        if let Some((_, gate)) = stop.as_ref().filter(|(after, _)| *after == number) {
            gate.pass().await;
        }
        sum += step(name, trail.run(name)).await?;
        yield_now().await;
    }
    if let Some((_, gate)) = stop.filter(|(after, _)| *after == STEPS.len()) {
        gate.pass().await;
    }
    Ok(sum)
}

async fn call(caller: &Caller, operation: Operation, key: &str, trail: &Trail) -> Result<u64, Failure> {
    caller.idempotency.call(operation).key(key).run(three(trail, None)).await
}

async fn s37_finished_steps_are_not_run_again(backend: Backend) {
    for after in 0..=STEPS.len() {
        let (key, trail) = (format!("after-{after}"), Trail::default());
        vanish(&backend, async |caller, gate| {
            caller.idempotency.call(order()).key(&key).run(three(&trail, Some((after, gate)))).await
        })
        .await;
        let caller = backend.caller().await.without_peeking();
        let before = caller.store.calls(Method::Steps);
        let (answer, disposition) = with_disposition(call(&caller, order(), &key, &trail)).await;
        assert_eq!((answer.expect("a result"), disposition), (3, Disposition::TookOver), "{key}");
        for name in STEPS {
            assert_eq!((trail.begun(name), trail.finished(name)), (1, 1), "{key}: {name}");
        }
        assert_eq!(
            caller.store.calls(Method::Steps) - before,
            usize::from(after > 0),
            "{key}: read once, if there are any"
        );
        assert_eq!(caller.store.calls(Method::Append), STEPS.len() - after, "{key}: one round trip a step");
        assert_eq!(call(&caller, order(), &key, &trail).await.expect("a replay"), 3);
    }
}

/// What has finished is not done again, wherever the caller goes away.
async fn s37_dropped_at_every_await_point(backend: Backend) {
    let observer = backend.store().await;
    for polls in 0.. {
        let (key, trail) = (format!("k-{polls}"), Trail::default());
        let caller = backend.caller().await.without_peeking();
        let was_answered = polled(polls, call(&caller, order(), &key, &trail)).await.is_some();
        let record_key = record_key("steps.order", &key);
        // What was begun goes on in the background.
        wait_for("the run to end", async || {
            let calls = |method| caller.store.calls(method);
            calls(Method::Claim) == 0 || calls(Method::Suspend) + calls(Method::Complete) > 0
        })
        .await;
        let left = settled(&*observer, &record_key).await;
        let finished = STEPS.map(|name| trail.finished(name));
        if STEPS.iter().any(|name| trail.begun(name) > 0) {
            let left = left.expect("what has begun is never freed");
            assert!(matches!(left.state, State::Abandoned | State::Done(_)), "{key}: {left:?}");
        }
        let retried = backend.caller().await;
        assert_eq!(call(&retried, order(), &key, &trail).await.expect("a result"), 3, "{key}");
        for (name, finished) in STEPS.into_iter().zip(finished) {
            assert_eq!(trail.finished(name), 1, "{key}: {name} was finished {finished} times before");
        }
        if was_answered {
            assert!(polls > 6, "{polls}");
            return;
        }
    }
}

async fn s37_a_reply_is_lost_at_every_call_of_the_store(backend: Backend) {
    for method in [Method::Claim, Method::Append, Method::Steps, Method::Complete, Method::Renew] {
        for fault in [Fault::LOST_REQUEST, Fault::LOST_REPLY] {
            for position in 0..3 {
                let (key, trail) = (format!("{method:?}-{fault:?}-{position}"), Trail::default());
                let key = key.replace([' ', '(', ')'], "");
                vanish(&backend, async |caller, gate| {
                    caller.idempotency.call(order()).key(&key).run(three(&trail, Some((1, gate)))).await
                })
                .await;
                let caller = backend.caller().await.without_peeking();
                let quiet = (0..position).map(|_| Fault::Delay(Duration::ZERO));
                caller.store.next(method, quiet.chain([fault.clone()]));
                assert_eq!(call(&caller, order(), &key, &trail).await.expect("a result"), 3, "{key}");
                for name in STEPS {
                    assert_eq!(trail.begun(name), 1, "{key}: {name}");
                }
            }
        }
    }
}

async fn s37_a_step_that_cannot_be_recorded_stops_the_function(backend: Backend) {
    for (policy, runs) in [(OnAbandoned::Rerun, 2), (OnAbandoned::Refuse, 1)] {
        for fault in [Fault::LOST_REQUEST, Fault::LOST_REPLY] {
            let (key, trail) = (format!("{policy:?}-{fault:?}").replace([' ', '(', ')'], ""), Trail::default());
            let operation = || order().lease(Duration::from_millis(600)).abandoned(policy);
            let caller = backend.caller().await;
            caller.store.always(Method::Append, fault.clone());
            caller.store.always(Method::Renew, Fault::LOST_REQUEST);
            let refused = refusal(call(&caller, operation(), &key, &trail).await);
            assert!(matches!(refused, Error::Store(_)), "{key}: {refused:?}");
            assert_eq!((trail.finished("charge"), trail.begun("ship")), (1, 0), "it does not go on");
            caller.store.heal();
            let observer = backend.store().await;
            backend.advance(Duration::from_secs(1)).await;
            let left =
                settled(&*observer, &record_key("steps.order", &key)).await.expect("what is in doubt is not freed");
            assert!(matches!(left.state, State::Abandoned | State::Lapsed), "{left:?}");
            let again = call(&backend.caller().await, operation(), &key, &trail).await;
            match policy {
                OnAbandoned::Refuse => assert!(matches!(refusal(again), Error::Abandoned { .. })),
                _ => assert!(again.is_ok(), "{again:?}"),
            }
            // Where only the reply was lost, the step is on record.
            let runs = if matches!(fault, Fault::FailAfter(_)) { 1 } else { runs };
            assert_eq!(trail.finished("charge"), runs, "{key}");
        }
    }
}

async fn s37_steps_run_in_any_order_and_at_the_same_time(backend: Backend) {
    let trail = Trail::default();
    let both = async |reversed: bool| {
        let (charge, ship) = (step("charge", trail.run("charge")), step("ship", trail.run("ship")));
        let (ship, charge) = if reversed {
            let ship = ship.await?;
            (ship, charge.await?)
        } else {
            let (charge, ship) = tokio::try_join!(charge, ship)?;
            (ship, charge)
        };
        Ok::<u64, Failure>(charge + ship)
    };
    for (reversed, key) in [(false, "a"), (true, "b")] {
        let before = (trail.finished("charge"), trail.finished("ship"));
        vanish(&backend, async |caller, gate| {
            let body = async {
                both(reversed).await?;
                gate.pass().await;
                Ok::<u64, Failure>(0)
            };
            caller.idempotency.call(order()).key(key).run(body).await
        })
        .await;
        let caller = backend.caller().await;
        caller.idempotency.call(order()).key(key).run(both(!reversed)).await.expect("a result");
        assert_eq!((trail.finished("charge"), trail.finished("ship")), (before.0 + 1, before.1 + 1), "{key}");
    }
}

/// Dropped by `select!`, `timeout` or `try_join!` while its body ran: it may have happened.
async fn s37_a_step_that_is_dropped_leaves_doubt(backend: Backend) {
    let observer = backend.store().await;
    for (key, how) in [("select", 0), ("timeout", 1), ("try_join", 2)] {
        for policy in [OnAbandoned::Rerun, OnAbandoned::Refuse] {
            let key = format!("{key}-{policy:?}");
            let caller = backend.caller().await;
            let body = async {
                step("before", async { Ok::<_, Failure>(1) }).await?;
                let stuck = step("stuck", pending::<Result<u64, Failure>>());
                match how {
                    0 => tokio::select! {
                        biased;
                        answer = stuck => answer,
                        () = yield_now() => Err(Failure::Unreachable),
                    },
                    1 => {
                        tokio::time::timeout(Duration::from_millis(5), stuck).await.unwrap_or(Err(Failure::Unreachable))
                    }
                    _ => {
                        let fails = async {
                            yield_now().await;
                            Err::<u64, _>(Failure::Unreachable)
                        };
                        tokio::try_join!(stuck, fails).map(|(one, other)| one + other)
                    }
                }
            };
            let answer = caller.idempotency.call(order().abandoned(policy)).key(&key).run(body).await;
            assert!(matches!(answer, Err(Failure::Unreachable)), "{answer:?}");
            let left = settled(&*observer, &record_key("steps.order", &key)).await.expect("a record");
            assert_eq!((left.state, left.failed), (State::Abandoned, 0), "{key}");
            let again = caller.idempotency.call(order().abandoned(policy)).key(&key);
            let again = again.run(async { step("before", async { Ok::<u64, Failure>(9) }).await }).await;
            match policy {
                OnAbandoned::Refuse => assert!(matches!(refusal(again), Error::Abandoned { attempt: 1, .. }), "{key}"),
                _ => assert_eq!(again.expect("a result"), 1, "{key}"),
            }
        }
    }
}

/// Its value is on its way to the store when the step, or the whole call, is dropped.
async fn s37_a_step_is_recorded_although_its_caller_goes_away(backend: Backend) {
    let observer = backend.store().await;
    for whole in [false, true] {
        let (key, trail) = (format!("whole-{whole}"), Trail::default());
        let caller = backend.caller().await;
        let gate = Gate::new();
        caller.store.next(Method::Append, [Fault::HoldBefore(gate.clone())]);
        let body = async {
            tokio::select! {
                answer = step("charge", trail.run("charge")) => answer,
                () = async { gate.reached(1).await; if whole { pending::<()>().await } } => Err(Failure::Unreachable),
            }
        };
        let call = caller.idempotency.call(order()).key(&key).run(body);
        let opened = async {
            gate.reached(1).await;
            yield_now().await;
            gate.open();
        };
        if whole {
            tokio::select! {
                answer = call => panic!("{answer:?}"),
                () = gate.reached(1) => {}
            }
            // The end of the run waits for the step.
            assert!(matches!(state(&*observer, &record_key("steps.order", &key)).await, Some(State::Running { .. })));
            gate.open();
        } else {
            let (answer, ()) = tokio::join!(call, opened);
            assert!(matches!(answer, Err(Failure::Unreachable)), "{answer:?}");
        }
        let left = settled(&*observer, &record_key("steps.order", &key)).await.expect("a record");
        // Nothing is in doubt: the step is on record.
        assert_eq!(left.state, if whole { State::Abandoned } else { State::Failed }, "{key}");
        let again = backend.caller().await.idempotency.call(order()).key(&key).run(three(&trail, None)).await;
        assert_eq!((again.expect("a result"), trail.finished("charge")), (3, 1), "{key}");
    }
}

async fn s37_an_error_after_a_step_keeps_it(backend: Backend) {
    let (caller, observer, trail) = (backend.caller().await, backend.store().await, Trail::default());
    let fails = || async {
        step("charge", trail.run("charge")).await?;
        Err::<u64, _>(Failure::Unreachable)
    };
    for attempt in 1..=3 {
        let answer = caller.idempotency.call(order()).key("k").run(fails()).await;
        assert!(matches!(answer, Err(Failure::Unreachable)), "{answer:?}");
        let left = record(&*observer, &record_key("steps.order", "k")).await.expect("a record");
        assert_eq!((left.state, left.attempt, left.failed), (State::Failed, attempt, attempt));
    }
    // An attempt that fails before its first step takes nothing back.
    let early = caller.idempotency.call(order()).key("k").run(async { Err::<u64, _>(Failure::Unreachable) }).await;
    assert!(matches!(early, Err(Failure::Unreachable)), "{early:?}");
    let other = caller.idempotency.call(order()).key("k").arguments(&"corrected").run(three(&trail, None)).await;
    assert!(matches!(refusal(other), Error::Mismatch { .. }), "the corrected request is another one");
    assert_eq!(call(&caller, order(), "k", &trail).await.expect("a result"), 3);
    assert_eq!(trail.finished("charge"), 1);
}

async fn s37_an_error_of_a_step_is_not_recorded(backend: Backend) {
    let (caller, observer, tries) = (backend.caller().await, backend.store().await, Effects::new());
    let body = async {
        loop {
            let tried = step("charge", async {
                if tries.happen() < 3 { Err(Failure::Unreachable) } else { Ok(tries.count()) }
            });
            match tried.await {
                Err(Failure::Unreachable) => yield_now().await,
                answer => return answer,
            }
        }
    };
    assert_eq!(caller.idempotency.call(order()).key("retried").run(body).await.expect("a result"), 3);

    // Without a step on record, the key is free.
    let body = async { step("charge", async { Err::<u64, _>(Failure::Unreachable) }).await };
    caller.idempotency.call(order()).key("free").run(body).await.expect_err("it fails");
    assert_eq!(record(&*observer, &record_key("steps.order", "free")).await, None);
}

/// Its process was stopped between two steps; another has taken over meanwhile.
async fn s37_a_late_owner_runs_no_step(backend: Backend) {
    let (late, other, trail) = (backend.caller().await, backend.caller().await, Trail::default());
    late.store.always(Method::Renew, Fault::HoldBefore(Gate::new()));
    let gate = Gate::new();
    let operation = || order().lease(Duration::from_millis(500));
    let stopped = late.idempotency.call(operation()).key("k").run(three(&trail, Some((1, gate.clone()))));
    let overtaken = async {
        gate.reached(1).await;
        // Longer than the lease is trusted on this machine's clock, and over on the store's.
        tokio::time::sleep(Duration::from_millis(500)).await;
        backend.advance(Duration::from_millis(500)).await;
        let answer = call(&other, operation(), "k", &trail).await;
        late.store.heal();
        gate.open();
        answer
    };
    let (stopped, answer) = tokio::join!(stopped, overtaken);
    assert_eq!(answer.expect("a result"), 3);
    assert_eq!(stopped.expect("the other's result"), 3, "its next step was refused, and the key has a result by now");
    for name in STEPS {
        assert_eq!(trail.begun(name), 1, "{name}");
    }
}

async fn s37_a_claim_that_is_known_to_be_lost_begins_no_step(backend: Backend) {
    let (caller, trail) = (backend.caller().await, Trail::default());
    let body = async {
        assert!(caller.idempotency.forget("steps.order", "k").await.expect("forget"));
        for name in STEPS {
            let refused = refusal(step(name, trail.run(name)).await);
            assert!(matches!(refused, Error::ClaimLost), "{name}: {refused:?}");
        }
        Ok::<u64, Failure>(1)
    };
    caller.idempotency.call(order()).key("k").run(body).await.expect("its own value");
    assert_eq!(STEPS.map(|name| trail.begun(name)), [1, 0, 0], "the first one finds out");
}

async fn s37_a_lapsed_lease_is_renewed_before_a_step(backend: Backend) {
    let (caller, trail) = (backend.caller().await, Trail::default());
    caller.store.always(Method::Renew, Fault::LOST_REQUEST);
    let gate = Gate::new();
    let run = caller.idempotency.call(order().lease(Duration::from_millis(500))).key("k");
    let run = run.run(three(&trail, Some((1, gate.clone()))));
    let paused = async {
        gate.reached(1).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        caller.store.heal();
        let renewals = caller.store.calls(Method::Renew);
        gate.open();
        renewals
    };
    let (answer, renewals) = tokio::join!(run, paused);
    assert_eq!(answer.expect("a result"), 3);
    assert!(caller.store.calls(Method::Renew) > renewals, "it was renewed");
}

async fn s37_a_new_life_has_no_steps(backend: Backend) {
    let (caller, trail) = (backend.caller().await.without_peeking(), Trail::default());
    assert_eq!(call(&caller, order(), "k", &trail).await.expect("a result"), 3);
    backend.advance(TTL).await;
    assert_eq!(call(&caller, order(), "k", &trail).await.expect("a result"), 6, "all of them ran again");
    vanish(&backend, async |caller, gate| {
        caller.idempotency.call(order()).key("gone").run(three(&trail, Some((2, gate)))).await
    })
    .await;
    assert!(caller.idempotency.forget("steps.order", "gone").await.expect("forget"));
    let charges = trail.finished("charge");
    call(&caller, order(), "gone", &trail).await.expect("a result");
    assert_eq!(trail.finished("charge"), charges + 1);
}

/// Reordered and added steps are found; renamed and removed ones are told.
async fn s37_other_releases_of_a_function(backend: Backend) {
    let releases: [(&str, &[&'static str], bool); 5] = [
        ("same", &["charge", "ship", "mail"], false),
        ("reordered", &["mail", "ship", "charge"], false),
        ("added", &["audit", "charge", "ship", "mail"], false),
        ("renamed", &["bill", "ship", "mail"], true),
        ("removed", &[], true),
    ];
    captured_log::listen();
    for (key, names, told) in releases {
        let (trail, name) = (Trail::default(), format!("steps.{key}.{}", rand::random::<u64>()));
        let operation = || Operation::new(name.clone()).ttl(TTL).lease(LEASE);
        vanish(&backend, async |caller, gate| {
            caller.idempotency.call(operation()).key("k").run(three(&trail, Some((3, gate)))).await
        })
        .await;
        let caller = backend.caller().await;
        let body = async {
            for name in names {
                step(name, trail.run(name)).await?;
            }
            Ok::<u64, Failure>(1)
        };
        assert_eq!(caller.idempotency.call(operation()).key("k").run(body).await.expect("a result"), 1);
        let events = captured_log::events(&name, "did not ask for steps");
        assert_eq!(events.len(), usize::from(told), "{key}: {events:?}");
        for name in STEPS {
            assert_eq!(trail.finished(name), 1, "{key}: {name}");
        }
    }
}

async fn s37_values_that_are_not_kept_are_never_run_again(backend: Backend) {
    let small = Idempotency::builder().max_result_len(100);
    let observer = backend.store().await;
    for (key, expected) in [("large", NotKept::TooLarge), ("odd", NotKept::NotSerializable)] {
        let runs = Effects::new();
        let value = || async {
            runs.happen();
            Ok::<_, Failure>(if key == "large" { vec![1.0; 200] } else { vec![f64::NAN] })
        };
        let caller = backend.caller_with(small.clone()).await;
        let body = async {
            step("value", value()).await?;
            Err::<u64, _>(Failure::Unreachable)
        };
        caller.idempotency.call(order()).key(key).run(body).await.expect_err("it fails");
        for _ in 0..2 {
            let body = async { step("value", value()).await.map(|value| value.len()) };
            let refused = refusal(caller.idempotency.call(order()).key(key).run(body).await);
            assert!(matches!(refused, Error::ResultNotKept(why) if why == expected), "{refused:?}");
            let left = settled(&*observer, &record_key("steps.order", key)).await.expect("a record");
            assert_eq!(left.state, State::Abandoned, "an operator has to look");
        }
        assert_eq!(runs.count(), 1);
    }

    // A step of another type, after a deployment.
    let caller = backend.caller().await;
    let body = async {
        step("value", async { Ok::<_, Failure>("text".to_owned()) }).await?;
        Err::<u64, _>(Failure::Unreachable)
    };
    caller.idempotency.call(order()).key("type").run(body).await.expect_err("it fails");
    let body = async { step("value", async { Ok::<u64, Failure>(1) }).await };
    let refused = refusal(caller.idempotency.call(order()).key("type").run(body).await);
    assert!(matches!(refused, Error::Undecodable(_)), "{refused:?}");
    let left = settled(&*observer, &record_key("steps.order", "type")).await.expect("a record");
    assert_eq!(left.state, State::Abandoned, "an operator has to look");
}

async fn refused(step: impl Future<Output = Result<u64, Error>>) -> StepError {
    match step.await {
        Err(Error::Step(error)) => error,
        other => panic!("{other:?}"),
    }
}

async fn s37_where_there_can_be_no_step(backend: Backend) {
    let one = || async { Ok::<u64, Error>(1) };
    assert_eq!(refused(step("s", one())).await, StepError::Outside);
    let caller = backend.caller().await;
    let body = async {
        let spawned = tokio::spawn(async move { refused(step("s", one())).await });
        assert_eq!(spawned.await.expect("no panic"), StepError::Outside);
        let inner = step("outer", async {
            assert_eq!(refused(step("inner", one())).await, StepError::InStep);
            Ok::<u64, Error>(1)
        });
        inner.await?;
        assert_eq!(refused(step("outer", one())).await, StepError::NameInUse);
        let stuck = step("twice", pending::<Result<u64, Error>>());
        let again = async {
            yield_now().await;
            refused(step("twice", one())).await
        };
        tokio::select! {
            _ = stuck => {}
            error = again => assert_eq!(error, StepError::NameInUse),
        }
        assert_eq!(step("twice", one()).await?, 1, "what was dropped may be begun again");
        for name in ["", &"n".repeat(256)] {
            assert!(matches!(refused(step(name, one())).await, StepError::Name(_)));
        }
        assert!(matches!(refused(step(None::<u8>, one())).await, StepError::Name(_)));
        step(("item", 1), one()).await?;
        step(("item", 2), one()).await
    };
    assert_eq!(caller.idempotency.call(order()).key("k").run(body).await.expect("a result"), 1);
}

async fn s37_limits(backend: Backend) {
    let one = || async { Ok::<u64, Error>(1) };
    let caller = backend.caller_with(Idempotency::builder().max_steps(3).max_steps_len(1_000)).await;
    let body = async {
        for number in 0..3 {
            step(("s", number), one()).await?;
        }
        assert_eq!(refused(step("more", one())).await, StepError::TooMany);
        Ok::<u64, Error>(1)
    };
    caller.idempotency.call(order()).key("count").run(body).await.expect("a result");
    let slow = |name: &'static str| async move {
        let slow = async {
            yield_now().await;
            Ok::<u64, Error>(1)
        };
        match step(name, slow).await {
            Err(Error::Step(StepError::TooMany)) => Ok(0),
            answer => answer,
        }
    };
    let body = async {
        let (a, b, c, d) = tokio::try_join!(slow("a"), slow("b"), slow("c"), slow("d"))?;
        Ok::<u64, Error>(a + b + c + d)
    };
    assert_eq!(caller.idempotency.call(order()).key("at once").run(body).await.expect("a result"), 3);
    let body = async {
        step("small", one()).await?;
        // It has happened, so that it is recorded that it has; but not what it returned.
        assert_eq!(step("large", async { Ok::<_, Error>("x".repeat(2_000)) }).await?.len(), 2_000);
        assert_eq!(refused(step("more", one())).await, StepError::TooMany);
        Err::<u64, _>(Error::TooManyWaiters)
    };
    caller.idempotency.call(order()).key("len").run(body).await.expect_err("it fails");
    let body = async { step("large", async { Ok::<_, Error>("again".to_owned()) }).await };
    let again = caller.idempotency.call(order()).key("len").run(body).await;
    assert!(matches!(again, Err(Error::ResultNotKept(NotKept::TooLarge))), "{again:?}");
}

#[idempotent(name = "steps.charge", key = key, skip(caller, effects), store = caller.idempotency)]
async fn charge(caller: &Caller, key: &str, effects: &Effects) -> Result<u64, Failure> {
    assert_eq!(step("inside", async { Ok::<u64, Failure>(5) }).await?, 5);
    Ok(effects.happen())
}

/// A function that is called in a step has a claim and steps of its own.
async fn s37_of_nested_functions(backend: Backend) {
    let (caller, effects) = (backend.caller().await, Effects::new());
    let body = || async {
        let charge = step("charge", charge(&caller, "k", &effects)).await?;
        Err::<u64, _>(Failure::Declined { code: i64::try_from(charge).expect("few") })
    };
    for _ in 0..2 {
        let answer = caller.idempotency.call(order()).key("k").run(body()).await;
        assert!(matches!(answer, Err(Failure::Declined { code: 1 })), "{answer:?}");
    }
    // The child is gone, and the parent has its result.
    assert!(caller.idempotency.forget("steps.charge", "k").await.expect("forget"));
    let answer = caller.idempotency.call(order()).key("k").run(body()).await;
    assert!(matches!(answer, Err(Failure::Declined { code: 1 })), "{answer:?}");
    assert_eq!(effects.count(), 1);
}

#[idempotent(name = "steps.attribute", key = order_id, skip(caller, trail), store = caller.idempotency, max_attempts = 3)]
async fn attribute(caller: &Caller, order_id: u8, trail: &Trail) -> Result<u64, Failure> {
    let attempt = Execution::current().expect("a run").attempt();
    let charge = step("charge", trail.run("charge")).await?;
    if attempt == 1 {
        return Err(Failure::Unreachable);
    }
    let mail = step(("mail", order_id), trail.run("mail")).await?;
    Ok(charge + mail)
}

async fn s37_of_the_attribute(backend: Backend) {
    let (caller, trail) = (backend.caller().await, Trail::default());
    attribute(&caller, 1, &trail).await.expect_err("it fails");
    assert_eq!(attribute(&caller, 1, &trail).await.expect("a result"), 2);
    assert_eq!((trail.finished("charge"), trail.finished("mail")), (1, 1));
}
