//! Many at once: whatever the interleaving, one wins.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use tokio::{sync::Barrier, task::JoinSet};

use super::subject::{LONG, Stage, Subject, applied, claim, ok, request};
use crate::store::{ClaimOutcome, ClaimRequest, RecordKey, State, Transition};

const TASKS: usize = 32;
const ROUNDS: usize = 10;

pub(super) async fn one_of_many_claims(subject: &Subject) {
    for round in 0..ROUNDS {
        let key = subject.key(round);
        let winners = race(subject, &key, |_| request()).await;
        assert_eq!(winners, [1], "attempts that were granted");
    }
}

pub(super) async fn one_of_many_takes_over(subject: &Subject) {
    for stage in [Stage::Lapsed, Stage::Abandoned] {
        for round in 0..ROUNDS {
            let key = subject.key(format_args!("{stage:?}-{round}"));
            subject.bring(&key, stage).await;
            let winners = race(subject, &key, |_| request()).await;
            assert_eq!(winners, [2], "attempts that were granted");
            assert_eq!(subject.record(&key).await.map(|record| record.attempt), Some(2));
        }
    }
}

/// A claim that is asked for again and again, since replies are lost, is one claim.
pub(super) async fn one_claim_asked_many_times(subject: &Subject) {
    for round in 0..ROUNDS {
        let key = subject.key(round);
        let same = request();
        let winners = race(subject, &key, move |_| same.clone()).await;
        assert_eq!(winners, [1; TASKS], "every time of asking is answered the same");
    }
}

/// The attempts of those who were granted the key.
async fn race(subject: &Subject, key: &RecordKey, request: impl Fn(usize) -> ClaimRequest) -> Vec<u32> {
    let start = Arc::new(Barrier::new(TASKS));
    let mut tasks = JoinSet::new();
    for number in 0..TASKS {
        let (start, store, key, request) = (Arc::clone(&start), subject.shared(number), key.clone(), request(number));
        tasks.spawn(async move {
            start.wait().await;
            match claim(&*store, &key, &request).await {
                ClaimOutcome::Claimed { attempt, .. } => Some(attempt),
                ClaimOutcome::InFlight { .. } => None,
                other => panic!("expected Claimed or InFlight, got {other:?}"),
            }
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// A lapsed owner completes while another takes over: one of them has the key, and both know which.
pub(super) async fn completion_or_takeover(subject: &Subject) {
    for round in 0..ROUNDS {
        let key = subject.key(round);
        let token = subject.lapse(&key).await;
        let start = Arc::new(Barrier::new(2));
        let (late, theirs, owner_start) = (subject.shared(0), key.clone(), Arc::clone(&start));
        let owner = tokio::spawn(async move {
            owner_start.wait().await;
            late.complete(&theirs, &token, &ok(b"a"), LONG).await.expect("complete")
        });
        start.wait().await;
        let answer = claim(subject.b(), &key, &request()).await;
        match (owner.await.expect("the owner"), answer) {
            (Transition::Applied, ClaimOutcome::Done(finished)) => assert_eq!(finished.outcome, ok(b"a")),
            (Transition::Lost, ClaimOutcome::Claimed { token, attempt: 2, .. }) => {
                assert!(matches!(subject.state(&key).await, Some(State::Running { .. })));
                applied(subject.b().complete(&key, &token, &ok(b"b"), LONG).await);
            }
            (completed, claimed) => panic!("completion {completed:?}, takeover {claimed:?}"),
        }
    }
}

/// Claim, hold, release, over and over: never two at a time, and somebody always gets on.
pub(super) async fn one_runs_at_a_time(subject: &Subject) {
    let key = subject.key("k");
    let (held, runs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let (store, key) = (subject.shared(number), key.clone());
        let (held, runs) = (Arc::clone(&held), Arc::clone(&runs));
        tasks.spawn(async move {
            while runs.load(SeqCst) < 100 {
                if let ClaimOutcome::Claimed { token, attempt, .. } = claim(&*store, &key, &request()).await {
                    assert_eq!(attempt, 1);
                    assert!(!held.swap(true, SeqCst), "two own the key");
                    tokio::task::yield_now().await;
                    assert!(held.swap(false, SeqCst), "two own the key");
                    runs.fetch_add(1, SeqCst);
                    applied(store.release(&key, &token, LONG).await);
                }
                tokio::task::yield_now().await;
            }
        });
    }
    tasks.join_all().await;
}
