//! Dead letters, of stores that keep them: each step is one, and a message is either dead or to be worked off.

use std::time::Duration;

use bytes::Bytes;

use super::{
    subject::{LONG, OTHER_PRINT, PRINT, Stage, Subject, applied, claim, lost, ok, request},
    wakes::{subscribe, woken},
};
use crate::{
    Fingerprint,
    store::{ClaimOutcome, DeadLetter, Nonce, Outcome, RecordKey, Replay, State, Token},
};

/// A letter of a message with this payload, given up for this reason.
pub(super) fn letter(key: &RecordKey, reason: &str) -> DeadLetter {
    let mut letter = DeadLetter::new(key.operation().to_owned(), key.key().to_owned(), PRINT, reason.to_owned());
    letter.attempts = 1;
    letter.message_id = Some("m".to_owned());
    letter.payload = Some(Bytes::from_static(b"{}"));
    letter
}

/// Gives what the caller has written of a letter.
pub(super) fn written(mut letter: DeadLetter) -> DeadLetter {
    (letter.id, letter.is_replaying, letter.age) = (0, false, Duration::ZERO);
    letter
}

/// All letters of an operation, as both handles show them.
async fn all_of(subject: &Subject, operation: &str) -> Vec<DeadLetter> {
    let [first, second] = subject.letters().map(|store| store.letters(operation, 0, 1000));
    let (first, second) = (first.await.expect("letters"), second.await.expect("letters"));
    let parts = |letters: &[DeadLetter]| -> Vec<_> {
        letters.iter().cloned().map(|letter| (letter.id, letter.is_replaying, written(letter))).collect()
    };
    assert_eq!(parts(&first), parts(&second), "the handles differ");
    first
}

pub(super) async fn all(subject: &Subject) -> Vec<DeadLetter> {
    all_of(subject, subject.operation()).await
}

/// The letters of a key.
pub(super) async fn of(subject: &Subject, key: &RecordKey) -> Vec<DeadLetter> {
    all(subject).await.into_iter().filter(|letter| letter.key == key.key()).collect()
}

/// The one letter of a key.
pub(super) async fn only(subject: &Subject, key: &RecordKey) -> DeadLetter {
    let mut letters = of(subject, key).await;
    assert_eq!(letters.len(), 1, "letters of one message");
    letters.remove(0)
}

pub(super) async fn buried(subject: &Subject, key: &RecordKey, token: &Token, letter: &DeadLetter) {
    applied(subject.letters()[0].bury(key, token, letter, LONG).await);
}

pub(super) async fn put(subject: &Subject, letter: &DeadLetter) {
    subject.letters()[1].put(letter).await.expect("put");
}

pub(super) async fn replay(subject: &Subject, id: i64) -> Replay {
    subject.letters()[1].replay(subject.operation(), id).await.expect("replay")
}

/// Runs a vacant key, and gives its message up. The answer is its letter.
pub(super) async fn dead(subject: &Subject, key: &RecordKey) -> DeadLetter {
    let token = subject.run(key).await;
    buried(subject, key, &token, &letter(key, "permanent")).await;
    only(subject, key).await
}

/// Gives the message of a vacant key up, and has its letter replayed.
pub(super) async fn replaying(subject: &Subject, key: &RecordKey) -> DeadLetter {
    let letter = dead(subject, key).await;
    assert_eq!(replay(subject, letter.id).await, Replay::Asked);
    only(subject, key).await
}

pub(super) async fn offers_no_dead_letters(subject: &Subject) {
    for store in subject.both() {
        assert!(store.dead_letters().is_none(), "the store offers `DeadLetters`, and its suite does not name that");
    }
}

pub(super) async fn bury_in_every_state(subject: &Subject) {
    for (reason, outcome) in [("permanent", Outcome::Dead), ("exhausted", Outcome::Exhausted)] {
        for stage in Stage::all() {
            let key = subject.key(format_args!("{reason}-{stage:?}"));
            let token = subject.bring(&key, stage).await;
            let before = subject.record(&key).await;
            let answer = subject.letters()[1].bury(&key, &token, &letter(&key, reason), LONG).await;
            if matches!(stage, Stage::Running | Stage::Lapsed) {
                applied(answer);
                assert_eq!(subject.state(&key).await, Some(State::Done(outcome.clone())), "{stage:?}");
                assert_eq!(written(only(subject, &key).await), letter(&key, reason), "{stage:?}");
                for store in subject.both() {
                    match claim(store, &key, &request()).await {
                        ClaimOutcome::Done(finished) => assert_eq!(finished.outcome, outcome, "{stage:?}"),
                        other => panic!("expected Done, got {other:?}"),
                    }
                }
            } else {
                // The message of a run with this very end is dead already.
                if stage.outcome().as_ref() != Some(&outcome) {
                    lost(answer);
                }
                subject.unchanged(&key, before.as_ref(), "a burial that was lost").await;
                assert_eq!(of(subject, &key).await, [], "{stage:?}");
            }
        }
    }
}

pub(super) async fn a_letter_comes_back_byte_for_byte(subject: &Subject) {
    let texts = ["", "plain", "it's \"quoted\"; -- ", "\u{1F980}\r\n\t%_\\", "-1", "null"];
    let payloads = [
        None,
        Some(Bytes::new()),
        Some((0..=255).collect()),
        Some(vec![7; 1 << 20].into()),
        Some(Bytes::from_static(b"\xFF\0\xFE")),
    ];
    let mut expected = Vec::new();
    for (number, payload) in payloads.into_iter().enumerate() {
        for (nth, text) in texts.into_iter().enumerate() {
            let key = subject.key(format_args!("{number}-{nth}"));
            let mut whole = letter(&key, if nth % 2 == 0 { "permanent" } else { "exhausted" });
            whole.payload.clone_from(&payload);
            if number > 0 {
                whole.attempts = u32::try_from(nth * 1000).expect("a small number");
                whole.error = Some(text.repeat(4096 / text.len().max(1)));
                (whole.message_id, whole.kind) = (Some(text.to_owned()), Some(format!("kind {text}")));
                (whole.partition, whole.headers) =
                    (Some(format!("partition {text}")), Some("[[\"a\",\"b\"]]".to_owned()));
            } else {
                whole.message_id = None;
            }
            if nth == 0 {
                "conflict".clone_into(&mut whole.reason);
                put(subject, &whole).await;
            } else {
                let token = subject.run(&key).await;
                buried(subject, &key, &token, &whole).await;
            }
            expected.push(whole);
        }
    }
    let letters = all(subject).await;
    assert_eq!(letters.len(), expected.len());
    for (letter, expected) in letters.into_iter().zip(expected) {
        assert!(letter.id > 0 && !letter.is_replaying && letter.age < LONG, "{letter:?}");
        assert!(written(letter) == expected, "another letter came back: {expected:?}");
    }
}

/// The reply was lost, and the same is asked for again.
pub(super) async fn a_run_is_buried_once(subject: &Subject) {
    let key = subject.key("k");
    let token = subject.run(&key).await;
    buried(subject, &key, &token, &letter(&key, "permanent")).await;
    let (record, first) = (subject.record(&key).await, only(subject, &key).await);
    for store in subject.letters() {
        applied(store.bury(&key, &token, &letter(&key, "permanent"), LONG * 2).await);
        let again = only(subject, &key).await;
        assert_eq!((again.id, written(again)), (first.id, written(first.clone())));
    }
    subject.unchanged(&key, record.as_ref(), "a burial that was asked for again").await;
    // Meanwhile the operator had it replayed: a request that was delayed on its way does not make it dead again.
    assert_eq!(replay(subject, first.id).await, Replay::Asked);
    let record = subject.record(&key).await;
    for store in subject.letters() {
        lost(store.bury(&key, &token, &letter(&key, "permanent"), LONG).await);
    }
    subject.unchanged(&key, record.as_ref(), "a burial of the life before").await;
    assert!(only(subject, &key).await.is_replaying);
    // Or discarded it.
    let key = subject.key("discarded");
    let token = subject.run(&key).await;
    buried(subject, &key, &token, &letter(&key, "permanent")).await;
    let id = only(subject, &key).await.id;
    for store in subject.letters() {
        store.discard(subject.operation(), id).await.expect("discard");
        applied(store.bury(&key, &token, &letter(&key, "permanent"), LONG).await);
        assert_eq!(of(subject, &key).await, []);
    }
}

pub(super) async fn a_late_owner_buries_nothing(subject: &Subject) {
    for stage in [Stage::Lapsed, Stage::Abandoned, Stage::Failed, Stage::Released, Stage::Forgotten, Stage::Expired] {
        for is_done in [false, true] {
            let key = subject.key(format_args!("{stage:?}-{is_done}"));
            let late = subject.bring(&key, stage).await;
            let owner = subject.take(subject.b(), &key, &request()).await.token;
            if is_done {
                applied(subject.b().complete(&key, &owner, &ok(b"owner"), LONG).await);
            }
            let before = subject.record(&key).await;
            for token in [late, Token::new(Nonce::random()).with_fence(owner.fence)] {
                for store in subject.letters() {
                    lost(store.bury(&key, &token, &letter(&key, "permanent"), LONG).await);
                }
                subject.unchanged(&key, before.as_ref(), "a late owner").await;
                assert_eq!(of(subject, &key).await, [], "{stage:?}");
            }
        }
    }
}

pub(super) async fn a_burial_wakes(subject: &Subject) {
    for (number, store) in subject.both().into_iter().enumerate() {
        let key = subject.key(number);
        let token = subject.run(&key).await;
        let mut subscription = subscribe(store, &key).await;
        buried(subject, &key, &token, &letter(&key, "permanent")).await;
        woken(&mut subscription, "a burial").await;
        assert!(matches!(claim(store, &key, &request()).await, ClaimOutcome::Done(_)));
    }
}

pub(super) async fn a_dead_record_is_kept_for_its_ttl(subject: &Subject) {
    let key = subject.key("k");
    let token = subject.run(&key).await;
    let ttl = subject.short_ttl();
    applied(subject.letters()[0].bury(&key, &token, &letter(&key, "permanent"), ttl).await);
    subject.advance(ttl.saturating_sub(subject.tick())).await;
    assert_eq!(subject.state(&key).await, Some(State::Done(Outcome::Dead)), "gone too early");
    subject.advance(subject.tick()).await;
    assert_eq!(subject.record(&key).await, None, "kept for too long");
    assert_eq!(of(subject, &key).await.len(), 1, "the letter has no end");
}

/// A message is a key and a fingerprint. Its last end counts.
pub(super) async fn there_is_one_letter_of_a_message(subject: &Subject) {
    let key = subject.key("k");
    let first = dead(subject, &key).await;
    // Another life of the key.
    assert!(subject.a().forget(&key).await.expect("forget"));
    let token = subject.run(&key).await;
    let mut later = letter(&key, "exhausted");
    (later.attempts, later.error, later.payload) = (3, Some("no".to_owned()), None);
    buried(subject, &key, &token, &later).await;
    let again = only(subject, &key).await;
    assert_eq!(again.id, first.id);
    assert_eq!((&*again.reason, again.attempts, again.error.as_deref()), ("exhausted", 3, Some("no")));
    assert_eq!(again.payload, first.payload, "what is there to be replayed stays");
    // Another message under the key, and the key in another operation.
    let mut other = letter(&key, "conflict");
    other.fingerprint = OTHER_PRINT;
    put(subject, &other).await;
    let elsewhere = format!("{}x", subject.operation());
    put(subject, &DeadLetter { operation: elsewhere.clone(), ..letter(&key, "conflict") }).await;
    let prints: Vec<_> = of(subject, &key).await.iter().map(|letter| letter.fingerprint).collect();
    assert_eq!(prints, [PRINT, OTHER_PRINT]);
    assert_eq!(all_of(subject, &elsewhere).await.len(), 1);
}

pub(super) async fn a_letter_without_a_run_is_written_once(subject: &Subject) {
    let key = subject.key("k");
    let token = subject.run(&key).await;
    let before = subject.record(&key).await;
    let mut conflict = letter(&key, "conflict");
    conflict.fingerprint = OTHER_PRINT;
    for attempts in [1, 2] {
        conflict.attempts = attempts;
        put(subject, &conflict).await;
    }
    let only_one = only(subject, &key).await;
    assert_eq!((&*only_one.reason, only_one.attempts), ("conflict", 1), "the first one stays as it is");
    subject.unchanged(&key, before.as_ref(), "a letter without a run").await;
    applied(subject.b().complete(&key, &token, &ok(b"1"), LONG).await);
    // Messages without an id have no key, and differ by their fingerprints.
    for byte in [1, 2, 2, 1] {
        let mut nameless = letter(&key, "no-id");
        (nameless.key, nameless.message_id) = (String::new(), None);
        nameless.fingerprint = Fingerprint::from_bytes([byte; Fingerprint::LEN]);
        put(subject, &nameless).await;
    }
    assert_eq!(all(subject).await.iter().filter(|letter| letter.key.is_empty()).count(), 2);
    // One that is replayed stays so.
    let replayed = subject.key("replayed");
    let id = replaying(subject, &replayed).await.id;
    put(subject, &letter(&replayed, "too-large")).await;
    let letter = only(subject, &replayed).await;
    assert_eq!((letter.id, letter.is_replaying, &*letter.reason), (id, true, "permanent"));
}

pub(super) async fn a_letter_outlives_its_record(subject: &Subject) {
    let (forgotten, expired) = (subject.key("forgotten"), subject.key("expired"));
    dead(subject, &forgotten).await;
    assert!(subject.b().forget(&forgotten).await.expect("forget"));
    let token = subject.run(&expired).await;
    let ttl = subject.tick();
    applied(subject.letters()[0].bury(&expired, &token, &letter(&expired, "permanent"), ttl).await);
    subject.advance(ttl).await;
    while subject.a().purge_expired(100).await.expect("purge") > 0 {}
    for key in [&forgotten, &expired] {
        assert_eq!(subject.record(key).await, None);
        assert_eq!(replay(subject, only(subject, key).await.id).await, Replay::Asked);
        assert_eq!(subject.take(subject.b(), key, &request()).await.attempt, 1);
    }
}

pub(super) async fn a_discarded_letter_is_gone(subject: &Subject) {
    for is_replaying in [false, true] {
        let key = subject.key(is_replaying);
        let id = if is_replaying { replaying(subject, &key).await.id } else { dead(subject, &key).await.id };
        let record = subject.record(&key).await;
        let [store, second] = subject.letters();
        assert!(!store.discard("another", id).await.expect("discard"));
        assert!(second.discard(subject.operation(), id).await.expect("discard"));
        assert!(!store.discard(subject.operation(), id).await.expect("discard"));
        assert_eq!(of(subject, &key).await, []);
        assert_eq!(replay(subject, id).await, Replay::NotDead);
        subject.unchanged(&key, record.as_ref(), "a letter that was discarded").await;
        // A message that is given up later has another number: an operator's old note does not mean it.
        assert!(subject.a().forget(&key).await.expect("forget"));
        assert!(dead(subject, &key).await.id > id);
    }
}

pub(super) async fn pages_are_in_order(subject: &Subject) {
    let (mut ids, mut replayed) = (Vec::new(), Vec::new());
    for number in 0..7 {
        // Keys in another order than numbers.
        let key = subject.key(9 - number);
        let letter = if number % 3 == 1 { replaying(subject, &key).await } else { dead(subject, &key).await };
        if letter.is_replaying {
            replayed.push(letter.id);
        }
        ids.push(letter.id);
        put(subject, &DeadLetter { operation: format!("{}x", subject.operation()), ..letter }).await;
    }
    assert!(ids.is_sorted(), "{ids:?}");
    operations_are_in_order(subject).await;
    for (is_replaying, expected) in [(false, &ids), (true, &replayed)] {
        for limit in [1, 2, 3, 100] {
            for store in subject.letters() {
                let (mut found, mut after) = (Vec::new(), 0);
                loop {
                    let page = if is_replaying {
                        store.replaying(subject.operation(), after, limit).await
                    } else {
                        store.letters(subject.operation(), after, limit).await
                    };
                    let page = page.expect("a page");
                    assert!(page.len() <= limit, "{} of at most {limit}", page.len());
                    let Some(last) = page.last() else { break };
                    assert!(last.id > after, "a page does not go on");
                    after = last.id;
                    found.extend(page.into_iter().map(|letter| letter.id));
                }
                assert_eq!(found, *expected, "{limit} a page");
            }
        }
    }
}

/// Those of other subjects may be there, too.
async fn operations_are_in_order(subject: &Subject) {
    let ours = [subject.operation().to_owned(), format!("{}x", subject.operation())];
    for limit in [1, 2, 100] {
        for store in subject.letters() {
            let (mut found, mut after) = (Vec::new(), String::new());
            loop {
                let page = store.operations(&after, limit).await.expect("a page");
                assert!(page.len() <= limit, "{} of at most {limit}", page.len());
                let Some(last) = page.last() else { break };
                assert!(*last > after, "a page does not go on");
                after.clone_from(last);
                found.extend(page);
            }
            assert!(found.is_sorted_by(|one, next| one < next), "{found:?}");
            found.retain(|operation| ours.contains(operation));
            assert_eq!(found, ours, "{limit} a page");
        }
    }
}
