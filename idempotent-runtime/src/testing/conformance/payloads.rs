//! Results and keys, whatever bytes they have.

use bytes::Bytes;

use super::subject::{LONG, OTHER_PRINT, Subject, applied, claim, ok, request};
use crate::store::{ClaimOutcome, ClaimRequest, NotKept, Outcome, RecordKey, State};

pub(super) async fn results_come_back_byte_for_byte(subject: &Subject) {
    let every_byte: Bytes = (0..=255).collect();
    let backwards: Bytes = (0..=255).rev().cycle().take(1000).collect();
    let texts = [&b""[..], b"0", b"null", b"\0", b"\0\0", b"\r\n", b"'; --", b"\xFF\xFE", b"0 ", b" "];
    let bytes = texts.map(Bytes::from_static).into_iter().chain([every_byte, backwards]);
    let outcomes = bytes
        .flat_map(|bytes| [Outcome::Ok(bytes.clone()), Outcome::Err(bytes)])
        .chain([NotKept::TooLarge, NotKept::NotSerializable].map(Outcome::NotKept));
    for (number, outcome) in outcomes.enumerate() {
        comes_back(subject, &subject.key(number), &outcome).await;
    }
}

pub(super) async fn a_mebibyte_comes_back(subject: &Subject) {
    let bytes: Bytes = (0_u32..1 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    comes_back(subject, &subject.key("ok"), &Outcome::Ok(bytes.clone())).await;
    comes_back(subject, &subject.key("err"), &Outcome::Err(bytes)).await;
}

async fn comes_back(subject: &Subject, key: &RecordKey, outcome: &Outcome) {
    let token = subject.run(key).await;
    applied(subject.a().complete(key, &token, outcome, LONG).await);
    for store in subject.both() {
        match claim(store, key, &request()).await {
            ClaimOutcome::Done(finished) => assert!(finished.outcome == *outcome, "another {outcome:?} came back"),
            other => panic!("expected Done, got {other:?}"),
        }
        assert!(store.peek(key).is_none_or(|peeked| peeked.outcome == *outcome), "another {outcome:?} was peeked at");
    }
    assert_eq!(subject.state(key).await, Some(State::Done(outcome.clone())));
}

pub(super) async fn hostile_keys_are_keys(subject: &Subject) {
    let long = "k".repeat(1000);
    let keys = [
        "*", "?", "[a-z]", "{}", "{tag}", "}{", "%", "%%", "_", "%00", "%7C", "\\", "\\0", "\"", "'", "''", "';--",
        "$1", "$$", ":", "::", "..", "../..", "/", "~", "#", "&", "`id`", "$(id)", "0", "-1", "NULL", "", &long,
    ];
    are_separate(subject, keys.into_iter().map(|key| subject.key(key)).collect()).await;
}

pub(super) async fn similar_keys_are_different_keys(subject: &Subject) {
    let long = "k".repeat(300);
    let longer = format!("{long}k");
    let keys = [
        "abc", "ABC", "Abc", "ab", "abcd", "bc", "a%20b", "a+b", "a%2520b", "abc:", "abc:1", "abc:01", "abc:1:", "1",
        "01", "1.0", "+1", &long, &longer, "%C3%A9", "e%CC%81", "%c3%a9",
    ];
    are_separate(subject, keys.into_iter().map(|key| subject.key(key)).collect()).await;
}

/// One operation's name may begin with another's, and a key with the rest of it.
pub(super) async fn operations_are_separate(subject: &Subject) {
    let name = subject.operation();
    let texts = [
        format!("{name}|b"),
        format!("{name}b|"),
        format!("{name}.b|b"),
        format!("{name}:b|b"),
        format!("{name}:|b"),
        format!("{name}|:b"),
        format!("{}|b", name.to_uppercase()),
    ];
    let keys: Vec<_> = texts.iter().map(|text| text.parse::<RecordKey>().expect("a record key")).collect();
    are_separate(subject, keys).await;
}

/// Each key keeps its own record while the others come and go.
async fn are_separate(subject: &Subject, keys: Vec<RecordKey>) {
    let mut tokens = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(subject.record(key).await, None, "key {number} shares a record");
        tokens.push(subject.take(subject.a(), key, &request()).await.token);
    }
    for (number, (key, token)) in keys.iter().zip(&tokens).enumerate() {
        let result = Outcome::Ok(number.to_string().into());
        applied(subject.b().complete(key, token, &result, LONG).await);
    }
    for (number, key) in keys.iter().enumerate() {
        match claim(subject.a(), key, &request()).await {
            ClaimOutcome::Done(finished) => assert_eq!(finished.outcome, Outcome::Ok(number.to_string().into())),
            other => panic!("key {number}: expected Done, got {other:?}"),
        }
        assert!(subject.b().forget(key).await.expect("forget"));
        let other = ClaimRequest { fingerprint: OTHER_PRINT, ..request() };
        let taken = subject.take(subject.b(), key, &other).await;
        applied(subject.b().complete(key, &taken.token, &ok(b"again"), LONG).await);
        for (earlier, key) in keys.iter().take(number + 1).enumerate() {
            let state = subject.state(key).await;
            assert_eq!(state, Some(State::Done(ok(b"again"))), "key {earlier} after key {number}");
        }
    }
}
