//! The journal of steps at the end of a record.

use std::sync::Arc;

use idempotent_runtime::{
    Store, StoreErrorKind,
    store::{Appended, NotKept, State, Step, Transition},
};
use tokio::task::JoinSet;

use crate::support::{
    ARGUMENTS, Fixture, LEASE, TTL, bytes_of, claim, claim_name, granted, key, lapse, left_of, outcome, raw, recording,
    request, step,
};

#[tokio::test]
async fn a_journal_lies_behind_the_arguments_and_goes_with_the_run() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    for (request, base) in [(request(), 103), (recording(), 107 + ARGUMENTS.len())] {
        let key = key(format!("steps-{base}"));
        let token = granted(ours.claim(&key, &request).await);
        let steps = [step("a", "1"), Step::new("b".to_owned(), Err(NotKept::TooLarge)), step("c", "")];
        let mut len = base;
        for step in &steps {
            assert_eq!(ours.append(&key, &token, step, LEASE, TTL).await.unwrap(), Appended::Applied);
            len += 25 + step.len();
            assert_eq!(bytes_of(&server, &key).await.map(|record| record.len()), Some(len));
        }
        assert_eq!(theirs.steps(&key, &token).await.unwrap().as_deref(), Some(&steps[..]));
        assert_eq!(theirs.complete(&key, &token, &outcome(), TTL).await.unwrap(), Transition::Applied);
        let kept = outcome().len() + base;
        assert_eq!(bytes_of(&server, &key).await.map(|record| record.len()), Some(kept), "without the journal");
    }
}

/// Names are found where names are, and not in values.
#[tokio::test]
async fn a_name_within_a_value_is_no_name() {
    let Fixture { server: _server, ours, .. } = Fixture::start().await;
    let key = key("names");
    let token = claim(&ours, &key).await;
    let steps = [
        step("a", "\0\0\0\u{1}b and \0\0\0\u{1}d"),
        step("b", "\0\0\0\u{1}a"),
        step("bb", "2"),
        step("d", ""),
        step("%a", "[.]"),
    ];
    for round in 0..2 {
        for step in &steps {
            let answer = ours.append(&key, &token, step, LEASE, TTL).await.unwrap();
            assert_eq!(answer, Appended::Applied, "round {round}");
        }
        assert_eq!(ours.steps(&key, &token).await.unwrap().as_deref(), Some(&steps[..]), "round {round}");
    }
}

#[tokio::test]
async fn a_thousand_steps_are_kept_in_order_through_a_takeover() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let key = key("many");
    let token = granted(ours.claim(&key, &recording()).await);
    let steps: Vec<_> = (0..1000).map(|number| step(&format!("item-{number}"), "{\"paid\":true}")).collect();
    for step in &steps {
        assert_eq!(ours.append(&key, &token, step, LEASE, TTL).await.unwrap(), Appended::Applied);
    }
    lapse(&server, &key).await;
    let successor = granted(theirs.claim(&key, &request()).await);
    assert_eq!(theirs.steps(&key, &successor).await.unwrap(), Some(steps));
    let again = step("item-999", "another value");
    let recorded = Appended::Recorded(Ok("{\"paid\":true}".into()));
    assert_eq!(theirs.append(&key, &successor, &again, LEASE, TTL).await.unwrap(), recorded);
    assert_eq!(ours.append(&key, &token, &step("late", "1"), LEASE, TTL).await.unwrap(), Appended::Lost);
}

/// Steps of one run that end at the same moment, and one of them twice.
#[tokio::test]
async fn concurrent_steps_are_each_recorded_once() {
    let Fixture { server: _server, ours, theirs } = Fixture::start().await;
    let stores = [Arc::new(ours), Arc::new(theirs)];
    let key = key("concurrent");
    let token = claim(&*stores[0], &key).await;
    let mut appends = JoinSet::new();
    for number in 0..64 {
        let (store, key) = (Arc::clone(&stores[number % 2]), key.clone());
        let step = step(&format!("step-{}", number / 2), "1");
        appends.spawn(async move { store.append(&key, &token, &step, LEASE, TTL).await.unwrap() });
    }
    assert!(appends.join_all().await.into_iter().all(|answer| answer == Appended::Applied));
    let mut names: Vec<_> =
        stores[0].steps(&key, &token).await.unwrap().expect("ours").into_iter().map(|step| step.name).collect();
    assert_eq!(names.len(), 32);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 32);
}

/// The step of a late owner, at the moment of the takeover: in the journal that the successor reads, or lost.
#[tokio::test]
async fn a_step_is_recorded_before_a_takeover_or_lost() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    for round in 0..100 {
        let key = key(format!("race-{round}"));
        let late = claim(&ours, &key).await;
        if round % 2 == 1 {
            let _ = ours.append(&key, &late, &step("before", "1"), LEASE, TTL).await.unwrap();
        }
        lapse(&server, &key).await;
        let (charge, successor) = (step("charge", "1"), request());
        let (append, answer) =
            tokio::join!(ours.append(&key, &late, &charge, LEASE, TTL), theirs.claim(&key, &successor));
        match append.unwrap() {
            Appended::Applied => assert_eq!(claim_name(&answer), "in flight", "the lease was renewed"),
            Appended::Lost => {
                let steps = theirs.steps(&key, &granted(answer)).await.unwrap().expect("theirs");
                assert!(!steps.contains(&charge));
            }
            other => panic!("not recorded before: {other:?}"),
        }
    }
}

/// A run of a later attempt that fails before its first step does not take back what an earlier attempt did.
#[tokio::test]
async fn a_release_after_steps_of_an_earlier_attempt_keeps_them() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let key = key("release");
    let token = claim(&ours, &key).await;
    let charge = step("charge", "1");
    let _ = ours.append(&key, &token, &charge, LEASE, TTL).await.unwrap();
    lapse(&server, &key).await;
    let token = granted(theirs.claim(&key, &request()).await);
    assert_eq!(theirs.release(&key, &token, TTL * 2).await.unwrap(), Transition::Applied);
    assert!(left_of(&server, &key).await > TTL);
    let record = ours.inspect(&key).await.unwrap().expect("a record");
    assert_eq!((record.state, record.attempt, record.failed), (State::Failed, 2, 1));
    let token = granted(ours.claim(&key, &request()).await);
    assert_eq!(ours.steps(&key, &token).await.unwrap(), Some(vec![charge]));
}

#[tokio::test]
async fn a_damaged_journal_is_corrupt() {
    let Fixture { server, ours, .. } = Fixture::start().await;
    let key = key("damaged");
    let token = claim(&ours, &key).await;
    let _ = ours.append(&key, &token, &step("charge", "1"), LEASE, TTL).await.unwrap();
    server.command::<()>(&["APPEND", &raw(&key), "x"]).await;
    assert_eq!(ours.steps(&key, &token).await.expect_err("damaged").kind(), StoreErrorKind::Corrupt);
    // It is still ours to end.
    assert_eq!(ours.complete(&key, &token, &outcome(), TTL).await.unwrap(), Transition::Applied);
}
