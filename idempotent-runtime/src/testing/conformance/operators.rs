//! The steps of operators and sweepers.

use std::collections::BTreeMap;

use super::subject::{LONG, PRINT, Stage, Subject, applied, inspect, lost, ok, request};
use crate::{
    Store,
    store::{ClaimRequest, Cursor, Record, RecordKey, State},
};

/// More pages than any listing here can have.
const MANY_PAGES: usize = 100_000;

pub(super) async fn inspect_in_every_state(subject: &Subject) {
    for stage in Stage::all() {
        let key = subject.key(format_args!("{stage:?}"));
        subject.bring(&key, stage).await;
        let record = subject.record(&key).await;
        assert_eq!(record.is_none(), stage.is_vacant(), "{stage:?}");
        let Some(record) = record else { continue };
        assert_eq!((&record.key, record.fingerprint, record.attempt), (&key, PRINT, 1), "{stage:?}");
        assert!(!record.expires_in.is_zero() && record.expires_in <= LONG * 2, "{record:?}");
        match (stage, record.state) {
            (Stage::Running, State::Running { lease_left }) => assert!(lease_left <= LONG && !lease_left.is_zero()),
            (Stage::Lapsed, State::Lapsed) | (Stage::Failed, State::Failed) | (Stage::Abandoned, State::Abandoned) => {}
            (_, State::Done(outcome)) => assert_eq!(Some(outcome), stage.outcome()),
            (_, state) => panic!("{stage:?} is shown as {state:?}"),
        }
    }
}

pub(super) async fn forget_in_every_state(subject: &Subject) {
    for stage in Stage::all() {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring(&key, stage).await;
        assert_eq!(subject.b().forget(&key).await.expect("forget"), !stage.is_vacant(), "{stage:?}");
        for store in subject.both() {
            assert!(!store.forget(&key).await.expect("forget"), "{stage:?}: forgotten twice");
        }
        assert_eq!(subject.record(&key).await, None, "{stage:?}");
        lost(subject.a().complete(&key, &token, &ok(b"late"), LONG).await);
        assert_eq!(subject.take(subject.a(), &key, &request()).await.attempt, 1, "{stage:?}");
    }
}

pub(super) async fn list_shows_every_live_record(subject: &Subject) {
    let mut expected = BTreeMap::new();
    for number in 0..3 {
        for stage in Stage::all() {
            let key = subject.key(format_args!("{stage:?}-{number}"));
            let arguments = (number == 1).then(|| b"{\"a\":1}".as_slice().into());
            subject.bring_with(&key, stage, request().with_arguments(arguments)).await;
            expected.extend(inspect(subject.a(), &key).await.map(|record| (key.as_str().to_owned(), record)));
        }
    }
    // A key of each form: a template's, a tuple's, the hash of all arguments.
    for form in ["order:(~17)", "acme,~17", &format!("#{}", "0f".repeat(32))] {
        let key = subject.key(form);
        subject.run(&key).await;
        expected.extend(inspect(subject.a(), &key).await.map(|record| (key.as_str().to_owned(), record)));
    }
    let near = format!("{}x|k", subject.operation()).parse::<RecordKey>().expect("a record key");
    subject.run(&near).await;
    for limit in [1, 4, 1000] {
        for store in subject.both() {
            let records = list(store, Some(subject.operation()), limit).await;
            let listed: BTreeMap<_, _> =
                records.into_iter().map(|record| (record.key.as_str().to_owned(), record)).collect();
            let (shown, wanted): (Vec<_>, Vec<_>) = (listed.keys().collect(), expected.keys().collect());
            assert_eq!(shown, wanted, "with {limit} a page");
            for (listed, expected) in listed.values().zip(expected.values()) {
                assert_eq!(listed.attempt, expected.attempt);
                assert_eq!(listed.fingerprint, expected.fingerprint);
                assert_eq!(listed.arguments, expected.arguments);
                assert_eq!((listed.generation, listed.failed), (expected.generation, expected.failed));
                assert!(listed.expires_in <= expected.expires_in);
                match (&listed.state, &expected.state) {
                    (State::Running { lease_left: left }, State::Running { lease_left: right }) => {
                        assert!(left <= right);
                    }
                    (left, right) => assert_eq!(left, right),
                }
            }
        }
    }
    // An operator writes a key down, and comes back with the text.
    for record in list(subject.a(), Some(subject.operation()), 1000).await {
        let read_back: RecordKey = record.key.as_str().parse().expect("the text of a record key");
        assert!(inspect(subject.b(), &read_back).await.is_some(), "a listed key does not lead to its record");
    }
    let all = list(subject.a(), None, 1000).await;
    for key in expected.keys().map(String::as_str).chain([near.as_str()]) {
        assert!(all.iter().any(|record| record.key.as_str() == key), "a listing of all operations lacks a record");
    }
}

/// While others come and go between the pages.
pub(super) async fn list_shows_what_exists_throughout(subject: &Subject) {
    let (mut stay, mut go) = (Vec::new(), Vec::new());
    for number in 0..40 {
        let key = subject.key(number);
        subject.run(&key).await;
        if number % 2 == 0 { stay.push(key) } else { go.push(key) }
    }
    let mut listed = Vec::new();
    let mut after: Option<Cursor> = None;
    for page_number in 0..MANY_PAGES {
        let page = subject.a().list(Some(subject.operation()), after.as_ref(), 3).await.expect("list");
        listed.extend(page.records.into_iter().map(|record| record.key));
        if let Some(key) = go.pop() {
            assert!(subject.b().forget(&key).await.expect("forget"));
            let new = subject.key(format_args!("new-{page_number}"));
            subject.run(&new).await;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(after.is_none(), "the listing does not end");
    assert!(stay.iter().all(|key| listed.contains(key)), "a record that was there throughout is not listed");
}

/// And is bounded by its limit.
pub(super) async fn purge_leaves_what_is_alive(subject: &Subject) {
    let mut kept = Vec::new();
    for stage in Stage::PRESENT {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring(&key, stage).await;
        kept.push((key, token, stage));
    }
    for number in 0..7 {
        let key = subject.key(number);
        let request = ClaimRequest { lease: subject.tick(), ttl: subject.tick(), ..request() };
        subject.take(subject.a(), &key, &request).await;
    }
    subject.advance(subject.tick() * 2).await;
    let mut before = Vec::new();
    for (key, ..) in &kept {
        before.push(subject.record(key).await);
    }
    assert_eq!(subject.a().purge_expired(0).await.expect("purge"), 0);
    for calls in 0.. {
        let removed = subject.b().purge_expired(3).await.expect("purge");
        assert!(removed <= 3, "{removed} of at most 3 removed");
        if removed == 0 {
            break;
        }
        assert!(calls < MANY_PAGES, "there is no end of expired records");
    }
    for ((key, token, stage), before) in kept.iter().zip(&before) {
        subject.unchanged(key, before.as_ref(), "a purge").await;
        if *stage == Stage::Lapsed {
            applied(subject.a().complete(key, token, &ok(b"late"), LONG).await);
        }
    }
}

pub(super) async fn list(store: &dyn Store, operation: Option<&str>, limit: usize) -> Vec<Record> {
    let mut records = Vec::new();
    let mut after = None;
    for _ in 0..MANY_PAGES {
        let page = store.list(operation, after.as_ref(), limit).await.expect("list");
        records.extend(page.records);
        after = page.next;
        if after.is_none() {
            return records;
        }
    }
    panic!("the listing does not end");
}
