//! The journal of a run's steps: appended by the owner, read by later attempts, gone with the life.

use bytes::Bytes;

use super::{
    operators::list,
    subject::{LONG, Stage, Subject, Taken, applied, claim, ok, request, suspend, suspended},
};
use crate::{
    Store,
    store::{Appended, ClaimOutcome, ClaimRequest, NotKept, RecordKey, State, Step, Token, Why},
};

fn step(name: &str, value: &'static [u8]) -> Step {
    Step::new(name.to_owned(), Ok(Bytes::from_static(value)))
}

async fn append(store: &dyn Store, key: &RecordKey, token: &Token, step: &Step) -> Appended {
    store.append(key, token, step, LONG, LONG).await.expect("append")
}

async fn appended(store: &dyn Store, key: &RecordKey, token: &Token, step: &Step) {
    assert_eq!(append(store, key, token, step).await, Appended::Applied, "{}", step.name);
}

/// As both handles show them.
async fn steps(subject: &Subject, key: &RecordKey, token: &Token) -> Vec<Step> {
    let [first, second] = subject.both().map(|store| store.steps(key, token));
    let first = first.await.expect("steps");
    assert_eq!(first, second.await.expect("steps"), "the handles differ");
    first.expect("the claim is ours")
}

async fn next(subject: &Subject, key: &RecordKey, token: &Token) -> Taken {
    suspended(suspend(subject.a(), key, token, Why::Abandoned).await);
    subject.take(subject.b(), key, &request()).await
}

pub(super) async fn steps_come_back_in_order(subject: &Subject) {
    for arguments in [None, Some(Bytes::from_static(b"{\"a\":1}"))] {
        let key = subject.key(arguments.is_some());
        let request = request().with_arguments(arguments.clone());
        let token = subject.take(subject.a(), &key, &request).await.token;
        assert_eq!(steps(subject, &key, &token).await, []);
        let mut all: Vec<_> =
            (0..40_u8).rev().map(|number| step(&format!("item,~{number}"), b"{\"x\":[1,2]}")).collect();
        all.push(Step::new("all bytes".replace(' ', "-"), Ok((0..=255).collect())));
        all.push(step("empty", b""));
        all.push(Step::new("large".to_owned(), Err(NotKept::TooLarge)));
        all.push(Step::new("odd".to_owned(), Err(NotKept::NotSerializable)));
        all.push(Step::new("n".repeat(255), Ok(vec![7; 100_000].into())));
        for (number, step) in all.iter().enumerate() {
            appended(subject.both()[number % 2], &key, &token, step).await;
        }
        assert_eq!(steps(subject, &key, &token).await, all);
        let record = subject.record(&key).await.expect("a record");
        assert!(matches!(record.state, State::Running { .. }), "{record:?}");
        assert_eq!(record.arguments, arguments);
    }
}

pub(super) async fn a_step_is_appended_once(subject: &Subject) {
    let key = subject.key("k");
    let token = subject.run(&key).await;
    let names = ["charge", "charg", "charge2", "Charge"];
    for name in names {
        appended(subject.a(), &key, &token, &step(name, b"1")).await;
    }
    for name in names {
        // The reply was lost, and the step is asked for again; its first value stays.
        appended(subject.b(), &key, &token, &step(name, b"2, and longer")).await;
    }
    assert_eq!(steps(subject, &key, &token).await, names.map(|name| step(name, b"1")));
}

pub(super) async fn a_step_of_an_earlier_attempt_counts(subject: &Subject) {
    let key = subject.key("k");
    let first = subject.run(&key).await;
    let lost = Step::new("lost".to_owned(), Err(NotKept::TooLarge));
    appended(subject.a(), &key, &first, &step("charge", b"1")).await;
    appended(subject.a(), &key, &first, &lost).await;
    let second = next(subject, &key, &first).await;
    assert_eq!(
        append(subject.a(), &key, &second.token, &step("charge", b"2")).await,
        Appended::Recorded(Ok(Bytes::from_static(b"1")))
    );
    assert_eq!(
        append(subject.a(), &key, &second.token, &step("lost", b"2")).await,
        Appended::Recorded(Err(NotKept::TooLarge))
    );
    appended(subject.b(), &key, &second.token, &step("mail", b"3")).await;
    let all = [step("charge", b"1"), lost, step("mail", b"3")];
    assert_eq!(steps(subject, &key, &second.token).await, all);
}

pub(super) async fn append_in_every_state(subject: &Subject) {
    for stage in Stage::all() {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring(&key, stage).await;
        let before = subject.record(&key).await;
        for store in subject.both() {
            let answer = append(store, &key, &token, &step("s", b"1")).await;
            let shown = store.steps(&key, &token).await.expect("steps");
            if matches!(stage, Stage::Running | Stage::Lapsed) {
                assert_eq!((answer, shown), (Appended::Applied, Some(vec![step("s", b"1")])), "{stage:?}");
                assert!(matches!(subject.state(&key).await, Some(State::Running { .. })), "{stage:?}");
            } else {
                assert_eq!((answer, shown), (Appended::Lost, None), "{stage:?}");
                subject.unchanged(&key, before.as_ref(), "a step that was lost").await;
            }
        }
    }
}

pub(super) async fn append_renews_the_lease(subject: &Subject) {
    let key = subject.key("k");
    let lease = subject.short_lease();
    let request = ClaimRequest { lease, ttl: lease, ..request() };
    let token = subject.take(subject.a(), &key, &request).await.token;
    for number in 0..3 {
        subject.advance(lease.saturating_sub(subject.tick())).await;
        assert!(matches!(subject.state(&key).await, Some(State::Running { .. })), "{number}: it was not renewed");
        // The first time it is recorded, afterwards it is recorded already.
        let answer = subject.b().append(&key, &token, &step("s", b"1"), lease, LONG).await.expect("append");
        assert_eq!(answer, Appended::Applied, "{number}");
    }
    let record = subject.record(&key).await.expect("a record");
    assert!(matches!(record.state, State::Running { lease_left } if lease_left <= lease), "{record:?}");
    assert!(record.expires_in > LONG && record.expires_in <= LONG + lease, "{record:?}");
    subject.advance(lease).await;
    assert_eq!(subject.state(&key).await, Some(State::Lapsed));
}

pub(super) async fn steps_stay_through_takeovers(subject: &Subject) {
    let key = subject.key("k");
    let mut taken = subject.take(subject.a(), &key, &request()).await;
    assert!(!taken.past.has_steps);
    let mut all = Vec::new();
    for (number, why) in [Why::Abandoned, Why::Failed, Why::Unstarted, Why::Abandoned].into_iter().enumerate() {
        let new = step(&format!("s,~{number}"), b"1");
        appended(subject.a(), &key, &taken.token, &new).await;
        all.push(new);
        suspended(suspend(subject.b(), &key, &taken.token, why).await);
        taken = subject.take(subject.b(), &key, &request()).await;
        assert!(taken.past.has_steps, "{why:?}");
        assert_eq!(steps(subject, &key, &taken.token).await, all, "{why:?}");
    }
    // The owner is gone without a word.
    let lease = subject.short_lease();
    applied(subject.a().renew(&key, &taken.token, lease, LONG).await);
    subject.advance(lease).await;
    let last = subject.take(subject.a(), &key, &request()).await;
    assert_eq!(steps(subject, &key, &last.token).await, all);
    assert_eq!(subject.b().steps(&key, &taken.token).await.expect("steps"), None, "a late owner reads nothing");
}

/// What its steps did has happened: the next run goes on after them.
pub(super) async fn a_key_with_steps_is_not_released(subject: &Subject) {
    let key = subject.key("k");
    let keep = subject.short_ttl();
    let first = subject.run(&key).await;
    appended(subject.a(), &key, &first, &step("charge", b"1")).await;
    for store in subject.both() {
        applied(store.release(&key, &first, keep).await);
        let record = subject.record(&key).await.expect("a record");
        assert_eq!((record.state, record.attempt, record.failed), (State::Failed, 1, 1));
        assert!(record.expires_in <= keep && record.not_before.is_none());
    }
    // An attempt that ends before its first step takes nothing back either.
    let second = subject.take(subject.b(), &key, &request()).await;
    applied(subject.a().release(&key, &second.token, LONG).await);
    let third = subject.take(subject.a(), &key, &request()).await;
    assert_eq!((third.attempt, third.past.failed), (3, 2));
    assert_eq!(steps(subject, &key, &third.token).await, [step("charge", b"1")]);
}

pub(super) async fn steps_end_with_their_life(subject: &Subject) {
    for end in ["done", "forgotten", "expired"] {
        let key = subject.key(end);
        let first = subject.run(&key).await;
        appended(subject.a(), &key, &first, &step("s", b"old")).await;
        assert_eq!(steps(subject, &key, &first).await, [step("s", b"old")], "{end}");
        let short = subject.tick();
        match end {
            "done" => {
                applied(subject.b().complete(&key, &first, &ok(b"result"), short).await);
                match claim(subject.a(), &key, &request()).await {
                    ClaimOutcome::Done(finished) => assert_eq!(finished.outcome, ok(b"result")),
                    other => panic!("expected Done, got {other:?}"),
                }
                subject.advance(short).await;
            }
            "forgotten" => assert!(subject.b().forget(&key).await.expect("forget")),
            _ => {
                applied(subject.b().renew(&key, &first, short, short).await);
                subject.advance(short * 2).await;
            }
        }
        let second = subject.take(subject.a(), &key, &request()).await;
        assert!(!second.past.has_steps, "{end}");
        assert_eq!(steps(subject, &key, &second.token).await, [], "{end}");
        appended(subject.b(), &key, &second.token, &step("s", b"new")).await;
        assert_eq!(steps(subject, &key, &second.token).await, [step("s", b"new")], "{end}");
        assert_eq!(append(subject.a(), &key, &first, &step("t", b"late")).await, Appended::Lost, "{end}");
        applied(subject.a().complete(&key, &second.token, &ok(b"1"), LONG).await);
    }
}

pub(super) async fn steps_do_not_show_elsewhere(subject: &Subject) {
    let (key, other) = (subject.key("k"), subject.key("k,s"));
    let (token, neighbour) = (subject.run(&key).await, subject.run(&other).await);
    for name in ["s", "t"] {
        appended(subject.a(), &key, &token, &step(name, b"1")).await;
    }
    assert_eq!(steps(subject, &other, &neighbour).await, []);
    let records = list(subject.b(), Some(subject.operation()), 100).await;
    let mut listed: Vec<_> = records.iter().map(|record| record.key.as_str()).collect();
    listed.sort_unstable();
    assert_eq!(listed, [key.as_str(), other.as_str()]);
    applied(subject.a().complete(&key, &token, &ok(b"result"), LONG).await);
    assert_eq!(subject.state(&key).await, Some(State::Done(ok(b"result"))));
    assert_eq!(subject.b().steps(&key, &token).await.expect("steps"), None);
}
