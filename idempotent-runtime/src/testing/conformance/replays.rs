//! Letters that an operator has worked off again.

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    letters::{all, buried, dead, letter, of, only, put, replay, replaying},
    subject::{LONG, OTHER_PRINT, PRINT, Stage, Subject, applied, claim, lost, ok, request, suspend, suspended},
};
use crate::store::{Appended, Before, ClaimOutcome, ClaimRequest, Outcome, Replay, State, Step, Why};

pub(super) async fn a_replayed_key_is_run_as_if_for_the_first_time(subject: &Subject) {
    for reason in ["permanent", "exhausted"] {
        let key = subject.key(reason);
        // Two runs before: one failed, one vanished.
        let first = subject.run(&key).await;
        suspended(suspend(subject.a(), &key, &first, Why::Failed).await);
        let second = subject.take(subject.b(), &key, &request()).await.token;
        suspended(suspend(subject.a(), &key, &second, Why::Abandoned).await);
        let third = subject.take(subject.b(), &key, &request()).await;
        assert_eq!(third.attempt, 3);
        buried(subject, &key, &third.token, &letter(&key, reason)).await;
        let id = only(subject, &key).await.id;
        assert_eq!(replay(subject, id).await, Replay::Asked);
        let letter = only(subject, &key).await;
        assert_eq!((letter.id, letter.is_replaying), (id, true));
        for store in subject.letters() {
            let asked = store.replaying(subject.operation(), 0, 10).await.expect("replaying");
            assert!(asked.iter().any(|letter| letter.id == id));
            assert_eq!(store.replay(subject.operation(), id).await.expect("replay"), Replay::NotDead);
        }
        // Its id is still its own.
        let other = ClaimRequest { fingerprint: OTHER_PRINT, ..request() };
        assert!(matches!(claim(subject.a(), &key, &other).await, ClaimOutcome::Mismatch));
        // Nor is it the buried run's, whose claim was delayed on its way.
        let late = ClaimRequest { nonce: third.token.nonce, ..request() };
        let answer = claim(subject.b(), &key, &late).await;
        assert!(matches!(answer, ClaimOutcome::Suspended { .. }), "{answer:?}");
        let taken = subject.take(subject.a(), &key, &request()).await;
        assert_eq!((taken.attempt, taken.past.failed, taken.past.before), (1, 0, Before::Failed), "{reason}");
        lost(subject.b().complete(&key, &third.token, &ok(b"late"), LONG).await);
        applied(subject.b().complete(&key, &taken.token, &ok(b"1"), LONG).await);
    }
}

/// A step that was recorded has happened, and is not done again.
pub(super) async fn a_replay_keeps_the_journal(subject: &Subject) {
    let key = subject.key("k");
    let token = subject.run(&key).await;
    let step = Step::new("charge".to_owned(), Ok(Bytes::from_static(b"1")));
    let answer = subject.a().append(&key, &token, &step, LONG, LONG).await.expect("append");
    assert_eq!(answer, Appended::Applied);
    let generation = subject.record(&key).await.expect("a record").generation;
    let mut owner = token;
    for _ in 0..2 {
        buried(subject, &key, &owner, &letter(&key, "permanent")).await;
        assert_eq!(replay(subject, only(subject, &key).await.id).await, Replay::Asked);
        let next = subject.take(subject.a(), &key, &request()).await;
        assert!(next.past.has_steps);
        assert_eq!(next.past.generation, generation, "it is the same life");
        owner = next.token;
        let steps = subject.b().steps(&key, &owner).await.expect("steps");
        assert_eq!(steps.as_deref(), Some(&[step.clone()][..]));
        let again = subject.b().append(&key, &owner, &step, LONG, LONG).await.expect("append");
        assert_eq!(again, Appended::Recorded(Ok(Bytes::from_static(b"1"))));
    }
}

pub(super) async fn one_of_many_has_it_replayed(subject: &Subject) {
    for round in 0..10 {
        let key = subject.key(round);
        let id = dead(subject, &key).await.id;
        let mut operators = JoinSet::new();
        for number in 0..8 {
            let (store, operation) = (subject.shared(number), subject.operation().to_owned());
            operators.spawn(async move {
                store.dead_letters().expect("dead letters").replay(&operation, id).await.expect("replay")
            });
        }
        let answers = operators.join_all().await;
        assert_eq!(answers.iter().filter(|answer| **answer == Replay::Asked).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| **answer == Replay::NotDead).count(), 7, "{answers:?}");
        assert_eq!(subject.take(subject.a(), &key, &request()).await.attempt, 1);
    }
}

/// The record that had this letter has gone, and its key has another one.
pub(super) async fn a_key_of_another_life_is_not_replayed(subject: &Subject) {
    for fingerprint in [PRINT, OTHER_PRINT] {
        for stage in Stage::PRESENT {
            let key = subject.key(format_args!("{}-{stage:?}", fingerprint == PRINT));
            let id = dead(subject, &key).await.id;
            assert!(subject.a().forget(&key).await.expect("forget"));
            subject.bring_with(&key, stage, ClaimRequest { fingerprint, ..request() }).await;
            let before = subject.record(&key).await;
            let answer = replay(subject, id).await;
            // The same message, given up once more: that is what the letter is about.
            let is_its_own = fingerprint == PRINT && matches!(stage, Stage::DoneDead | Stage::DoneExhausted);
            assert_eq!(answer, if is_its_own { Replay::Asked } else { Replay::Taken }, "{stage:?}");
            if !is_its_own {
                subject.unchanged(&key, before.as_ref(), "a replay that was refused").await;
            }
            assert_eq!(only(subject, &key).await.is_replaying, is_its_own, "{stage:?}");
        }
    }
    // Where the key is vacant, the message is run as a new one.
    for stage in Stage::VACANT {
        let key = subject.key(format_args!("{stage:?}"));
        put(subject, &letter(&key, "permanent")).await;
        subject.bring(&key, stage).await;
        assert_eq!(replay(subject, only(subject, &key).await.id).await, Replay::Asked, "{stage:?}");
        assert_eq!(subject.take(subject.a(), &key, &request()).await.attempt, 1);
    }
}

pub(super) async fn what_cannot_be_run_is_not_replayed(subject: &Subject) {
    let key = subject.key("k");
    let mut nameless = letter(&key, "no-id");
    nameless.key = String::new();
    put(subject, &nameless).await;
    let token = subject.run(&key).await;
    let mut too_large = letter(&key, "too-large");
    too_large.payload = None;
    buried(subject, &key, &token, &too_large).await;
    let before = subject.record(&key).await;
    let letters = all(subject).await;
    for letter in &letters {
        assert_eq!(replay(subject, letter.id).await, Replay::Taken, "{}", letter.reason);
    }
    assert_eq!(all(subject).await.iter().filter(|letter| letter.is_replaying).count(), 0);
    subject.unchanged(&key, before.as_ref(), "a replay that was refused").await;
    let last = letters.last().expect("a letter").id;
    for (operation, id) in [(subject.operation(), last + 1000), (subject.operation(), -1), ("another", last)] {
        assert_eq!(subject.letters()[0].replay(operation, id).await.expect("replay"), Replay::NotDead);
    }
}

pub(super) async fn a_replay_that_is_buried_is_dead_again(subject: &Subject) {
    let key = subject.key("k");
    let first = replaying(subject, &key).await;
    let token = subject.take(subject.a(), &key, &request()).await.token;
    let mut again = letter(&key, "exhausted");
    (again.attempts, again.error) = (7, Some("still".to_owned()));
    buried(subject, &key, &token, &again).await;
    let letter = only(subject, &key).await;
    assert_eq!((letter.id, letter.is_replaying), (first.id, false));
    assert_eq!((&*letter.reason, letter.attempts, letter.error.as_deref()), ("exhausted", 7, Some("still")));
    for store in subject.letters() {
        assert_eq!(store.replaying(subject.operation(), 0, 10).await.expect("replaying"), []);
    }
    assert_eq!(subject.state(&key).await, Some(State::Done(Outcome::Exhausted)));
    assert_eq!(replay(subject, letter.id).await, Replay::Asked);
}

/// As after a consumer that could not read the letter. Its key was not run meanwhile.
pub(super) async fn a_letter_made_dead_again_can_be_replayed(subject: &Subject) {
    let key = subject.key("k");
    let id = replaying(subject, &key).await.id;
    let record = subject.record(&key).await;
    for store in subject.letters() {
        store.dead_again(subject.operation(), id).await.expect("dead again");
        assert!(!only(subject, &key).await.is_replaying);
    }
    for operation in ["another", subject.operation()] {
        // It changes no other letter, and no record.
        subject.letters()[0].dead_again(operation, id + 1000).await.expect("dead again");
    }
    subject.unchanged(&key, record.as_ref(), "a letter that is dead again").await;
    assert_eq!(replay(subject, id).await, Replay::Asked);
    subject.letters()[0].dead_again("another", id).await.expect("dead again");
    assert!(only(subject, &key).await.is_replaying);
    assert_eq!(subject.take(subject.a(), &key, &request()).await.attempt, 1);
}

pub(super) async fn only_what_was_replayed_is_worked_off(subject: &Subject) {
    let (key, other) = (subject.key("k"), subject.key("other"));
    let [store, second] = subject.letters();
    let id = dead(subject, &key).await.id;
    replaying(subject, &other).await;
    assert!(!store.worked_off(subject.operation(), id).await.expect("worked off"), "it is dead");
    assert_eq!(replay(subject, id).await, Replay::Asked);
    assert!(!store.worked_off("another", id).await.expect("worked off"));
    assert_eq!(of(subject, &key).await.len(), 1);
    let record = subject.record(&key).await;
    assert!(second.worked_off(subject.operation(), id).await.expect("worked off"));
    // Its reply was lost.
    assert!(!store.worked_off(subject.operation(), id).await.expect("worked off"));
    assert_eq!(of(subject, &key).await, []);
    subject.unchanged(&key, record.as_ref(), "a letter that was worked off").await;
    assert_eq!(of(subject, &other).await.len(), 1);
}
