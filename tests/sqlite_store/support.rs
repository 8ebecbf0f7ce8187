//! What the tests share: keys, requests, short names for answers.

use std::{error::Error as StdError, time::Duration};

use bytes::Bytes;
use idempotent_runtime::{
    Fingerprint, Outcome, RecordKey, SetupError, Store, StoreErrorKind,
    store::{ClaimOutcome, ClaimRequest, Nonce, StoreResult, Token, Transition, sqlite::SqliteStore},
};

use crate::sqlite_file::SqliteFile;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_secs(600);

pub(crate) async fn connect(file: &SqliteFile) -> SqliteStore {
    SqliteStore::connect(&file.url()).await.expect("a store")
}

pub(crate) fn key(name: impl std::fmt::Display) -> RecordKey {
    format!("tests.operation|canary-{name}").parse::<RecordKey>().expect("a record key")
}

/// The schema of the release before, with records in it.
pub(crate) async fn version_1(file: &SqliteFile) {
    let schema = include_str!("../../idempotent-runtime/src/store/sqlite/schema_1.sql");
    file.execute(&schema.replace("{table}", "idempotent_records")).await;
    file.execute(
        "INSERT INTO idempotent_records
           (operation, key, state, fingerprint, nonce, fence, attempt, lease_until, expires_at, created_at, result)
         SELECT 'tests.operation', key, state, unhex(replace(hex(zeroblob(32)), '00', '07')),
           unhex(replace(hex(zeroblob(16)), '00', '01')), fence, 1, lease_until, 1 << 50, 0, result
         FROM (SELECT 'canary-done' AS key, 'ok' AS state, 5 AS fence, NULL AS lease_until,
                 CAST('{\"amount\":0}' AS BLOB) AS result
           UNION ALL SELECT 'canary-abandoned', 'abandoned', 6, NULL, NULL
           UNION ALL SELECT 'canary-running', 'running', 7, 1 << 49, NULL
           UNION ALL SELECT 'canary-lapsed', 'running', 1 << 60, 1, NULL)",
    )
    .await;
}

/// The request of a caller that records its arguments.
pub(crate) fn recording() -> ClaimRequest {
    request().with_arguments(bytes::Bytes::from_static(b"{\"amount\":4200}"))
}

pub(crate) fn request() -> ClaimRequest {
    ClaimRequest::new(Fingerprint::from_bytes([7; 32]), Nonce::random(), LEASE, TTL)
}

pub(crate) fn outcome() -> Outcome {
    Outcome::Ok(Bytes::from_static(b"{\"amount\":0}"))
}

/// The token of a granted claim.
pub(crate) fn granted(answer: StoreResult<ClaimOutcome>) -> Token {
    match answer.expect("an answer") {
        ClaimOutcome::Claimed { token, .. } => token,
        other => panic!("not granted: {other:?}"),
    }
}

pub(crate) async fn claim(store: &SqliteStore, key: &RecordKey) -> Token {
    granted(store.claim(key, &request()).await)
}

/// Claims a key and completes it.
pub(crate) async fn finish(store: &SqliteStore, key: &RecordKey) {
    let token = claim(store, key).await;
    assert_eq!(store.complete(key, &token, &outcome(), TTL).await.expect("complete"), Transition::Applied);
}

/// Whether a claim is answered with the outcome.
pub(crate) async fn is_done(store: &SqliteStore, key: &RecordKey) -> bool {
    match store.claim(key, &request()).await.expect("an answer") {
        ClaimOutcome::Done(finished) => finished.outcome == outcome(),
        _ => false,
    }
}

/// The kind of the store's fault that kept it from being set up.
pub(crate) fn kind(error: &SetupError) -> StoreErrorKind {
    match error {
        SetupError::Store(error) => error.kind(),
        other => panic!("not the store's: {other:?}"),
    }
}

/// The kind of the error that a claim is answered with.
pub(crate) async fn refusal(store: &SqliteStore, key: &RecordKey) -> StoreErrorKind {
    let error = store.claim(key, &request()).await.expect_err("a refusal");
    let mut next: Option<&dyn StdError> = Some(&error);
    while let Some(error) = next {
        assert!(!format!("{error:?} {error}").contains(key.key()), "an error names the key");
        next = error.source();
    }
    error.kind()
}
