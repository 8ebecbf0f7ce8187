//! Calls that wait for a running duplicate: woken by its end, or told at their deadline.

use std::time::Duration;

use idempotent_runtime::{
    Disposition, Error, Idempotency, OnAbandoned, Operation, idempotent,
    testing::{Fault, Gate, Method},
    with_disposition,
};
use tokio::time::Instant;

use crate::{
    support::{Backend, Caller, Effects, Failure},
    test_bodies::{Frozen, PLACES, Stop, assert_no_waiter_is_counted, refusal, soon},
};
use idempotent_tests::on_every_store;

on_every_store!(one_thread:
    s33_waiters_are_woken_while_time_stands_still,
    s34_waiter_takes_over_from_an_owner_that_fails,
    s34_waiter_takes_over_from_an_owner_that_panics,
    s34_waiter_of_a_refusing_operation_is_told_when_the_owner_dies,
    s34_waiter_runs_when_an_operator_removes_the_record,
);

on_every_store!(
    s34_waiter_takes_over_when_the_lease_lapses,
    s34_waiter_is_told_at_its_deadline,
    s34_waiter_without_notifications_polls,
    s34_waiter_has_no_deadline_where_none_is_wanted,
    s34_waiter_that_nobody_polls_does_not_hide_the_end_of_the_run,
    s34_owner_that_nobody_polls_does_not_hide_the_end_of_its_run,
    waiters_beyond_the_limit_are_refused,
);

/// The end of a body.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Well,
    Error,
    Panic,
}

/// The first run ends as it is told; later ones end well.
#[idempotent(name = "waiting", key = key, skip(caller, effects, stop, end), store = caller.idempotency, wait = "20s")]
async fn work(caller: &Caller, key: &str, effects: &Effects, stop: &Stop, end: End) -> Result<u64, Failure> {
    let run = effects.happen();
    if run == 1 {
        stop.here().await;
        match end {
            End::Well => {}
            End::Error => return Err(Failure::Unreachable),
            End::Panic => panic!("as told"),
        }
    }
    Ok(run)
}

/// An owner with a running body, and waiters in its process and in two others, for whom no timer ever fires.
struct Waiters {
    _frozen: Frozen,
    stop: Stop,
    effects: Effects,
    owner: tokio::task::JoinHandle<Result<u64, Failure>>,
    waiters: Vec<tokio::task::JoinHandle<(Result<u64, Failure>, Disposition)>>,
}

impl Waiters {
    async fn new(backend: &Backend, end: End) -> Self {
        let callers = [backend.caller().await, backend.caller().await, backend.caller().await];
        let frozen = Frozen::now();
        let (effects, stop) = (Effects::new(), Stop::new());
        let owner = tokio::spawn({
            let (caller, effects, stop) = (callers[0].clone(), effects.clone(), stop.clone());
            async move { work(&caller, "k", &effects, &stop, end).await }
        });
        stop.reached().await;
        let mut waiters = Vec::new();
        for caller in callers.iter().flat_map(|caller| [caller, caller]) {
            let (caller, effects, stop) = (caller.clone(), effects.clone(), stop.clone());
            waiters.push(tokio::spawn(async move { with_disposition(work(&caller, "k", &effects, &stop, end)).await }));
        }
        for caller in &callers[1..] {
            // Asked, subscribed, asked again: from here on only the end of the run can wake it.
            soon("the waiters", caller.store.called(Method::Claim, 2)).await;
            assert_eq!(caller.store.calls(Method::Subscribe), 1);
        }
        // The second claim may be under way: its answer is told before what happens after it.
        Self { _frozen: frozen, stop, effects, owner, waiters }
    }

    async fn answers(self) -> Vec<(Result<u64, Failure>, Disposition)> {
        let mut answers = Vec::new();
        for waiter in self.waiters {
            answers.push(soon("a waiter to be woken", waiter).await.expect("an answer"));
        }
        answers
    }
}

async fn s33_waiters_are_woken_while_time_stands_still(backend: Backend) {
    let waiters = Waiters::new(&backend, End::Well).await;
    let before = Instant::now();
    waiters.stop.go();
    let effects = waiters.effects.clone();
    for (answer, disposition) in waiters.answers().await {
        assert_eq!((answer.expect("a result"), disposition), (1, Disposition::Waited));
    }
    assert_eq!(effects.count(), 1);
    assert_eq!(before.elapsed(), Duration::ZERO, "a timer may have fired");
}

/// One waiter runs the body, the others get what it came to.
async fn one_takes_over(waiters: Waiters, expected: Disposition) {
    let effects = waiters.effects.clone();
    let answers = waiters.answers().await;
    assert!(answers.iter().all(|(answer, _)| matches!(answer, Ok(2))), "{answers:?}");
    let ran: Vec<_> = answers.iter().map(|(_, disposition)| *disposition).filter(|how| how.ran()).collect();
    assert_eq!(ran, [expected]);
    assert_eq!(effects.count(), 2);
}

async fn s34_waiter_takes_over_from_an_owner_that_fails(backend: Backend) {
    let mut waiters = Waiters::new(&backend, End::Error).await;
    waiters.stop.go();
    let answer = (&mut waiters.owner).await.expect("an answer");
    assert!(matches!(answer, Err(Failure::Unreachable)), "{answer:?}");
    one_takes_over(waiters, Disposition::Executed).await;
}

async fn s34_waiter_takes_over_from_an_owner_that_panics(backend: Backend) {
    let mut waiters = Waiters::new(&backend, End::Panic).await;
    waiters.stop.go();
    assert!((&mut waiters.owner).await.expect_err("a panic").is_panic());
    one_takes_over(waiters, Disposition::TookOver).await;
}

async fn s34_waiter_of_a_refusing_operation_is_told_when_the_owner_dies(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let _frozen = Frozen::now();
    let (effects, stop) = (Effects::new(), Stop::new());
    let run = async |caller: &Caller| {
        let body = async {
            effects.happen();
            stop.body::<Failure>().await
        };
        caller
            .idempotency
            .call(Operation::new("waiting.refuse").abandoned(OnAbandoned::Refuse))
            .key("k")
            .run(body)
            .await
    };
    let owner = async {
        tokio::select! {
            biased;
            () = theirs.store.called(Method::Claim, 2) => {}
            _ = run(&ours) => panic!("not stopped"),
        }
    };
    let waiters = async {
        stop.reached().await;
        tokio::join!(run(&ours), run(&theirs))
    };
    let ((), (here, there)) = soon("the waiters to be woken", async { tokio::join!(owner, waiters) }).await;
    for answer in [here, there] {
        assert!(matches!(refusal(answer), Error::Abandoned { attempt: 1, .. }));
    }
    assert_eq!(effects.count(), 1);
}

async fn s34_waiter_runs_when_an_operator_removes_the_record(backend: Backend) {
    let operator = backend.caller().await;
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let _frozen = Frozen::now();
    let (effects, stop) = (Effects::new(), Stop::new());
    let owner = work(&ours, "k", &effects, &stop, End::Well);
    let others = async {
        stop.reached().await;
        let removed = async {
            theirs.store.called(Method::Claim, 2).await;
            assert!(operator.idempotency.forget("waiting", "k").await.expect("an answer"));
        };
        let (answer, ()) = tokio::join!(work(&theirs, "k", &effects, &stop, End::Well), removed);
        stop.go();
        answer.expect("a result")
    };
    let (late, answer) = soon("the waiter to be woken", async { tokio::join!(owner, others) }).await;
    assert_eq!(answer, 2);
    assert_eq!(late.expect("the result on record"), 2);
}

async fn s34_waiter_takes_over_when_the_lease_lapses(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let (effects, stop) = (Effects::new(), Stop::new());
    // As a process that is killed: nobody says anything any more.
    ours.store.always(Method::Suspend, LOST);
    tokio::select! {
        biased;
        () = stop.reached() => {}
        _ = work(&ours, "k", &effects, &stop, End::Well) => panic!("not stopped"),
    }
    let waiter = with_disposition(work(&theirs, "k", &effects, &stop, End::Well));
    let time = async {
        theirs.store.called(Method::Claim, 2).await;
        backend.advance(Operation::DEFAULT_LEASE + backend.tick()).await;
    };
    let ((answer, disposition), ()) = soon("the takeover", async { tokio::join!(waiter, time) }).await;
    assert_eq!((answer.expect("a result"), disposition), (2, Disposition::TookOver));
}

const LOST: Fault = Fault::LOST_REQUEST;

async fn s34_waiter_is_told_at_its_deadline(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let (effects, stop) = (Effects::new(), Stop::new());
    let wait = Duration::from_millis(150);
    let patient = async |caller: &Caller| {
        let body = async {
            effects.happen();
            stop.body::<Failure>().await
        };
        caller.idempotency.call(Operation::new("waiting.deadline").wait(wait)).key("k").run(body).await
    };
    let others = async {
        stop.reached().await;
        // The last one's store does not even say whether it listens.
        let silent = backend.caller().await;
        silent.store.always(Method::Subscribe, Fault::HoldBefore(Default::default()));
        for caller in [&ours, &theirs, &silent] {
            let began = Instant::now();
            let answer = soon("the deadline", patient(caller)).await;
            let waited = began.elapsed();
            match refusal(answer) {
                Error::InFlight { retry_after, .. } => {
                    assert!(!retry_after.is_zero() && retry_after <= Operation::DEFAULT_LEASE, "{retry_after:?}");
                }
                other => panic!("{other:?}"),
            }
            assert!(waited >= wait, "{waited:?}");
        }
        stop.go();
    };
    let (answer, ()) = tokio::join!(patient(&ours), others);
    answer.expect("a result");
    assert_eq!(effects.count(), 1);
}

async fn s34_waiter_without_notifications_polls(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let (effects, stop) = (Effects::new(), Stop::new());
    theirs.store.always(Method::Subscribe, LOST);
    let owner = work(&ours, "k", &effects, &stop, End::Well);
    let others = async {
        stop.reached().await;
        let end = async {
            // The first poll after the two claims of every waiter.
            theirs.store.called(Method::Claim, 3).await;
            stop.go();
        };
        let (waiter, ()) = tokio::join!(with_disposition(work(&theirs, "k", &effects, &stop, End::Well)), end);
        waiter
    };
    let (owner, (answer, disposition)) = soon("the poll", async { tokio::join!(owner, others) }).await;
    assert_eq!(owner.expect("a result"), 1);
    assert_eq!((answer.expect("a result"), disposition), (1, Disposition::Waited));
    assert_eq!(theirs.store.calls(Method::Subscribe), 1);
}

async fn s34_waiter_has_no_deadline_where_none_is_wanted(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let stop = Stop::new();
    let run = async |caller: &Caller| {
        let operation = Operation::new("waiting.forever").wait(Duration::MAX);
        caller.idempotency.call(operation).key("k").run(stop.body::<Failure>()).await
    };
    let others = async {
        stop.reached().await;
        let end = async {
            theirs.store.called(Method::Claim, 2).await;
            stop.go();
        };
        tokio::join!(run(&ours), run(&theirs), end)
    };
    let (first, (second, third, ())) = soon("the runs", async { tokio::join!(run(&ours), others) }).await;
    for answer in [first, second, third] {
        answer.expect("a result");
    }
}

/// A call that asks once more before it gives up.
async fn patient(caller: &Caller, stop: &Stop) -> Result<(), Error> {
    let operation = Operation::new("waiting.asleep").wait(Duration::from_secs(1));
    caller.idempotency.call(operation).key("k").run(stop.body()).await
}

async fn s34_waiter_that_nobody_polls_does_not_hide_the_end_of_the_run(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let stop = Stop::new();
    let owner = tokio::spawn({
        let (theirs, stop) = (theirs.clone(), stop.clone());
        async move { patient(&theirs, &stop).await }
    });
    stop.reached().await;
    let mut asleep = Box::pin(patient(&ours, &stop));
    tokio::select! {
        biased;
        () = ours.store.called(Method::Claim, 2) => {}
        _ = &mut asleep => panic!("the run is not over"),
    }
    stop.go();
    owner.await.expect("an answer").expect("a result");
    // Without peeking, where the store could: through the one that sleeps.
    soon("the end", patient(&ours.clone().without_peeking(), &stop)).await.expect("a result");
    // Its deadline is over, and what the store told it was true then: it may say either.
    match soon("the sleeper", asleep).await {
        Ok(()) | Err(Error::InFlight { .. }) => {}
        other => panic!("{other:?}"),
    }
}

async fn s34_owner_that_nobody_polls_does_not_hide_the_end_of_its_run(backend: Backend) {
    let caller = backend.caller().await.without_peeking();
    let (stop, gate) = (Stop::new(), Gate::new());
    caller.store.next(Method::Complete, [Fault::HoldAfter(gate.clone())]);
    let mut asleep = Box::pin(patient(&caller, &stop));
    stop.go();
    tokio::select! {
        biased;
        () = gate.reached(1) => {}
        _ = &mut asleep => panic!("not held"),
    }
    gate.open();
    soon("the end", patient(&caller, &stop)).await.expect("a result");
    soon("the sleeper", asleep).await.expect("a result");
}

async fn waiters_beyond_the_limit_are_refused(backend: Backend) {
    let limits = || Idempotency::builder().max_waiters(PLACES);
    let (ours, theirs) = (backend.caller_with(limits()).await, backend.caller_with(limits()).await);
    let (effects, stop) = (Effects::new(), Stop::new());
    let run = async |caller: &Caller| work(caller, "k", &effects, &stop, End::Well).await;
    let others = async {
        stop.reached().await;
        for (caller, subscriptions) in [(&ours, 0), (&theirs, 1)] {
            let (mut first, mut second) = (Box::pin(run(caller)), Box::pin(run(caller)));
            let refused = async {
                caller.store.called(Method::Subscribe, subscriptions).await;
                let (answer, disposition) = with_disposition(run(caller)).await;
                let error = refusal(answer);
                assert!(matches!(error, Error::TooManyWaiters) && error.is_retryable(), "{error:?}");
                assert_eq!(disposition, Disposition::Refused);
            };
            tokio::select! {
                biased;
                _ = &mut first => panic!("an answer"),
                _ = &mut second => panic!("an answer"),
                () = refused => {}
            }
            drop((first, second));
            assert_no_waiter_is_counted(&caller.idempotency).await;
        }
        stop.go();
    };
    let (answer, ()) = soon("the runs", async { tokio::join!(run(&ours), others) }).await;
    assert_eq!(answer.expect("a result"), 1);
    assert_eq!(effects.count(), 1);
}
