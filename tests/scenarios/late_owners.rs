//! Owners that lost their claim, and claims that come too late: they change nothing that is another's.

use std::time::Duration;

use idempotent_runtime::{
    Disposition, Error, Operation, State, idempotent,
    testing::{Fault, Gate, Method},
    with_disposition,
};

use crate::{
    captured_log,
    support::{Backend, Caller, Effects, Failure, record_key},
    test_bodies::{Stop, record, refusal, soon, state},
};
use idempotent_tests::on_every_store;

const LEASE: Duration = Duration::from_secs(30);

/// Runs until the test lets it go on, and comes to the number of the run, or to an error for an even `fail_on`.
#[idempotent(name = "late.owner", key = key, skip(caller, effects, stop, fails), store = caller.idempotency, lease = "30s", wait = "0s")]
async fn work(caller: &Caller, key: &str, effects: &Effects, stop: &Stop, fails: bool) -> Result<u64, Failure> {
    let run = effects.happen();
    stop.here().await;
    if fails { Err(Failure::Unreachable) } else { Ok(run) }
}

/// Two callers: the first has a body that is running and has lost its claim, on the store's clock, to nobody yet.
struct Lapsed {
    effects: Effects,
    first: Stop,
    theirs: Caller,
    late: tokio::task::JoinHandle<(Result<u64, Failure>, Disposition)>,
    observer: std::sync::Arc<dyn idempotent_runtime::Store>,
}

impl Lapsed {
    async fn new(backend: &Backend, fails: bool) -> Self {
        let (ours, theirs) = (backend.caller().await, backend.caller().await);
        let (effects, first) = (Effects::new(), Stop::new());
        let late = tokio::spawn({
            let (effects, first) = (effects.clone(), first.clone());
            async move { with_disposition(work(&ours, "k", &effects, &first, fails)).await }
        });
        first.reached().await;
        backend.advance(LEASE + backend.tick()).await;
        Self { effects, first, theirs, late, observer: backend.store().await }
    }

    /// The second caller takes over and completes.
    async fn take_over(&self) {
        let second = Stop::new();
        second.go();
        let (answer, disposition) = with_disposition(work(&self.theirs, "k", &self.effects, &second, false)).await;
        assert_eq!(answer.expect("a result"), 2);
        assert_eq!(disposition, Disposition::TookOver);
    }

    /// A repeat gets the second caller's result, and nothing ran beside.
    async fn assert_second_result_stands(&self) {
        let (answer, disposition) = with_disposition(work(&self.theirs, "k", &self.effects, &Stop::new(), false)).await;
        assert_eq!((answer.expect("a result"), disposition), (2, Disposition::Replayed));
        assert_eq!(self.effects.count(), 2);
        let record = record(&*self.observer, &record_key("late.owner", "k")).await.expect("a record");
        assert_eq!(record.attempt, 2);
    }
}

on_every_store!(
    s20_late_success_gets_the_newer_owners_result,
    s21_late_failure_leaves_the_newer_owners_record,
    s21_late_drop_leaves_the_newer_owners_record,
    s22_late_transitions_leave_a_running_owner_alone,
    s22_late_renewal_leaves_a_running_owner_alone,
    s23_stale_orphan_is_not_taken_over_once_done,
    s24_takeover_that_was_answered_too_late_does_not_run,
    s25_identical_replay_is_no_mismatch,
    s26_refused_calls_leave_the_record_as_it_is,
    s27_renewed_body_outlives_its_lease,
);

async fn s20_late_success_gets_the_newer_owners_result(backend: Backend) {
    let lapsed = Lapsed::new(&backend, false).await;
    lapsed.take_over().await;
    lapsed.first.go();
    lapsed.assert_second_result_stands().await;
    let (answer, disposition) = lapsed.late.await.expect("an answer");
    assert_eq!((answer.expect("a result"), disposition), (2, Disposition::Waited));
}

async fn s21_late_failure_leaves_the_newer_owners_record(backend: Backend) {
    captured_log::listen();
    let mut lapsed = Lapsed::new(&backend, true).await;
    lapsed.take_over().await;
    lapsed.first.go();
    let (answer, _) = (&mut lapsed.late).await.expect("an answer");
    assert_eq!(answer.expect("the result that is on record"), 2);
    let told = captured_log::events("late.owner", "was lost to another run");
    assert!(!told.is_empty() && told.iter().all(|line| line.contains("ERROR")), "{told:?}");
    lapsed.assert_second_result_stands().await;
}

async fn s21_late_drop_leaves_the_newer_owners_record(backend: Backend) {
    let mut lapsed = Lapsed::new(&backend, true).await;
    lapsed.take_over().await;
    lapsed.late.abort();
    assert!((&mut lapsed.late).await.expect_err("aborted").is_cancelled());
    lapsed.assert_second_result_stands().await;
}

async fn s22_late_transitions_leave_a_running_owner_alone(backend: Backend) {
    for fails in [false, true] {
        let lapsed = Lapsed::new(&backend, fails).await;
        let second = Stop::new();
        let running = tokio::spawn({
            let (theirs, effects, second) = (lapsed.theirs.clone(), lapsed.effects.clone(), second.clone());
            async move { work(&theirs, "k", &effects, &second, false).await }
        });
        second.reached().await;
        lapsed.first.go();
        let (answer, _) = lapsed.late.await.expect("an answer");
        match answer {
            Err(Failure::Unreachable) if fails => {}
            Err(Failure::Idempotency(Error::ClaimLost)) if !fails => {}
            other => panic!("{other:?}"),
        }
        let record = record(&*lapsed.observer, &record_key("late.owner", "k")).await.expect("a record");
        assert!(matches!(record.state, State::Running { .. }), "{record:?}");
        assert_eq!(record.attempt, 2);

        second.go();
        assert_eq!(running.await.expect("an answer").expect("a result"), 2);
        assert!(lapsed.theirs.idempotency.forget("late.owner", "k").await.expect("an answer"));
    }
}

async fn s22_late_renewal_leaves_a_running_owner_alone(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let observer = backend.store().await;
    let gate = Gate::new();
    ours.store.next(Method::Renew, [Fault::HoldBefore(gate.clone())]);
    // Renewed after a third of a second.
    let short = Operation::new("late.renewal").lease(Duration::from_secs(1));
    let (first, second) = (Stop::new(), Stop::new());
    let late = tokio::spawn({
        let (ours, first) = (ours.clone(), first.clone());
        async move { ours.idempotency.call(short).key("k").run(first.body::<Error>()).await }
    });
    gate.reached(1).await;
    backend.advance(Duration::from_secs(1) + backend.tick()).await;
    let running = tokio::spawn({
        let (theirs, second) = (theirs.clone(), second.clone());
        async move { theirs.idempotency.call("late.renewal").key("k").run(second.body::<Error>()).await }
    });
    second.reached().await;

    gate.open();
    first.reached().await;
    first.go();
    let answer = soon("the late owner", late).await.expect("an answer");
    assert!(matches!(answer, Err(Error::ClaimLost)), "{answer:?}");
    match state(&*observer, &record_key("late.renewal", "k")).await {
        // A second would be left had the renewal been applied.
        Some(State::Running { lease_left, .. }) => assert!(lease_left > Duration::from_secs(5), "{lease_left:?}"),
        other => panic!("{other:?}"),
    }
    second.go();
    running.await.expect("an answer").expect("a result");
}

async fn s23_stale_orphan_is_not_taken_over_once_done(backend: Backend) {
    let lapsed = Lapsed::new(&backend, false).await;
    // A third caller is about to take over, and held up.
    let third = backend.caller().await;
    let gate = Gate::new();
    third.store.next(Method::Claim, [Fault::HoldBefore(gate.clone())]);
    let stale = tokio::spawn({
        let (third, effects) = (third.clone(), lapsed.effects.clone());
        async move { work(&third, "k", &effects, &Stop::new(), false).await }
    });
    gate.reached(1).await;
    lapsed.take_over().await;
    gate.open();
    assert_eq!(soon("the result", stale).await.expect("an answer").expect("a result"), 2);
    lapsed.assert_second_result_stands().await;
}

async fn s24_takeover_that_was_answered_too_late_does_not_run(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let (effects, gate) = (Effects::new(), Gate::new());
    let lease = Duration::from_millis(300);
    let run = async |caller: &Caller, lease| {
        let operation = Operation::new("late.takeover").lease(lease);
        let call = caller.idempotency.call(operation).key("k").run(async { Ok::<_, Failure>(effects.happen()) });
        with_disposition(call).await
    };
    ours.store.next(Method::Claim, [Fault::HoldAfter(gate.clone())]);
    let paused = run(&ours, lease);
    let others = async {
        gate.reached(1).await;
        // The granted claim lapses, for the store and by the caller's own clock.
        backend.advance(lease + backend.tick()).await;
        tokio::time::sleep(lease).await;
        let (answer, disposition) = run(&theirs, LEASE).await;
        assert_eq!((answer.expect("a result"), disposition), (1, Disposition::TookOver));
        gate.open();
    };
    let ((answer, _), ()) = tokio::join!(paused, others);
    assert_eq!(answer.expect("a result"), 1);
    assert_eq!(effects.count(), 1);
}

async fn s25_identical_replay_is_no_mismatch(backend: Backend) {
    for caller in [backend.caller().await, backend.caller().await.without_peeking()] {
        for argument in [f64::MAX, 1.0e-300, -0.0] {
            let call = async || {
                let key = argument.to_string();
                caller
                    .idempotency
                    .call("replay")
                    .key(&key)
                    .arguments(&(argument, "a", [1_u8, 2]))
                    .run(async { Ok::<_, Error>(argument) })
                    .await
            };
            let (first, again) = (call().await.expect("a result"), call().await.expect("a result"));
            assert_eq!(first.to_bits(), again.to_bits());
        }
    }
}

#[idempotent(name = "refused", key = key, skip(caller, stop), store = caller.idempotency, wait = "0s")]
async fn refused(caller: &Caller, key: &str, stop: &Stop, amount: u64) -> Result<u64, Failure> {
    stop.here().await;
    Ok(amount)
}

async fn s26_refused_calls_leave_the_record_as_it_is(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let observer = backend.store().await;
    let (stop, key) = (Stop::new(), record_key("refused", "k"));
    let header = async || {
        let record = record(&*observer, &key).await.expect("a record");
        let state = match record.state {
            State::Running { .. } => "running".to_owned(),
            other => format!("{other:?}"),
        };
        (record.fingerprint, record.attempt, state)
    };
    let run = async |caller: &Caller, amount| refusal(refused(caller, "k", &stop, amount).await);

    let owner = tokio::spawn({
        let (ours, stop) = (ours.clone(), stop.clone());
        async move { refused(&ours, "k", &stop, 1).await }
    });
    stop.reached().await;
    let before = header().await;
    for caller in [&ours, &theirs] {
        assert!(matches!(run(caller, 1).await, Error::InFlight { .. }));
        assert!(matches!(run(caller, 2).await, Error::Mismatch { .. }));
    }
    assert_eq!(header().await, before);
    for caller in [&ours, &theirs] {
        for method in [Method::Release, Method::Suspend, Method::Complete] {
            assert_eq!(caller.store.calls(method), 0, "{method:?}");
        }
    }

    owner.abort();
    assert!(owner.await.expect_err("aborted").is_cancelled());
    let abandoned = crate::test_bodies::settled(&*observer, &key).await.expect("a record");
    assert_eq!(abandoned.state, State::Abandoned);
    let before = header().await;
    assert!(matches!(run(&theirs, 2).await, Error::Mismatch { .. }));
    assert_eq!(header().await, before);

    stop.go();
    assert_eq!(refused(&theirs, "k", &stop, 1).await.expect("a result"), 1);
    let before = header().await;
    assert!(matches!(run(&ours, 2).await, Error::Mismatch { .. }));
    assert_eq!(header().await, before);
}

async fn s27_renewed_body_outlives_its_lease(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let (effects, first, second) = (Effects::new(), Stop::new(), Stop::new());
    let lease = Duration::from_millis(1200);
    let run = async |caller: &Caller, stop: &Stop| {
        let operation = Operation::new("renewed").lease(lease).wait(Duration::ZERO);
        let body = async {
            let run = effects.happen();
            stop.here().await;
            Ok::<_, Failure>(run)
        };
        caller.idempotency.call(operation).key("k").run(body).await
    };
    let others = async {
        first.reached().await;
        for renewals in 1..=4 {
            ours.store.called(Method::Renew, renewals).await;
            // On Redis as much has passed by itself.
            if let Backend::Memory { clock, .. } = &backend {
                clock.advance(lease / 3);
            }
            assert!(matches!(refusal(run(&theirs, &second).await), Error::InFlight { .. }));
        }
        // The renewal stops: the next caller takes over.
        ours.store.always(Method::Renew, Fault::LOST_REQUEST);
        ours.store.called(Method::Renew, 5).await;
        backend.advance(lease + backend.tick()).await;
        second.go();
        assert_eq!(run(&theirs, &second).await.expect("a result"), 2);
        first.go();
    };
    let (answer, ()) = soon("the runs", async { tokio::join!(run(&ours, &first), others) }).await;
    assert_eq!(answer.expect("a result"), 2);
    assert_eq!(effects.count(), 2);
}
