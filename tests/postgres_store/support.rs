//! What the tests share: keys, requests, short names for answers.

use std::{error::Error as StdError, time::Duration};

use bytes::Bytes;
use idempotent_runtime::{
    Fingerprint, Outcome, RecordKey, SetupError, Store, StoreErrorKind,
    store::{
        ClaimOutcome, ClaimRequest, Nonce, StoreResult, Token, Transition,
        postgres::{PostgresStore, PostgresStoreBuilder},
    },
};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};

use crate::PostgresServer;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_secs(600);

/// Short time-outs, so that lost answers cost little.
pub(crate) fn builder() -> PostgresStoreBuilder {
    PostgresStore::builder().timeout(Duration::from_millis(1500))
}

pub(crate) async fn connect(url: &str) -> PostgresStore {
    builder().connect(url).await.expect("a store")
}

/// A pool as an application may have it.
pub(crate) async fn pool(server: &PostgresServer) -> PgPool {
    PgPoolOptions::new().max_connections(8).connect(&server.url()).await.expect("a pool")
}

pub(crate) fn key(name: impl std::fmt::Display) -> RecordKey {
    format!("tests.operation|{name}").parse::<RecordKey>().expect("a record key")
}

pub(crate) fn request() -> ClaimRequest {
    ClaimRequest::new(Fingerprint::from_bytes([7; 32]), Nonce::random(), LEASE, TTL)
}

/// The same of a caller that records its arguments.
pub(crate) fn recording() -> ClaimRequest {
    request().with_arguments(Bytes::from_static(b"{\"amount\":4200}"))
}

pub(crate) fn outcome() -> Outcome {
    Outcome::Ok(Bytes::from_static(b"{\"b\": 1.0, \"a\": \"\xC3\xA9\"}"))
}

/// The token of a granted claim.
pub(crate) fn granted(answer: StoreResult<ClaimOutcome>) -> Token {
    match answer.expect("an answer") {
        ClaimOutcome::Claimed { token, .. } => token,
        other => panic!("not granted: {other:?}"),
    }
}

pub(crate) async fn claim(store: &PostgresStore, key: &RecordKey) -> Token {
    granted(store.claim(key, &request()).await)
}

/// Claims a key and completes it.
pub(crate) async fn finish(store: &PostgresStore, key: &RecordKey) {
    let token = claim(store, key).await;
    assert_eq!(store.complete(key, &token, &outcome(), TTL).await.expect("complete"), Transition::Applied);
}

/// Whether a claim is answered with the outcome.
pub(crate) async fn is_done(store: &PostgresStore, key: &RecordKey) -> bool {
    match store.claim(key, &request()).await.expect("an answer") {
        ClaimOutcome::Done(finished) => finished.outcome == outcome(),
        _ => false,
    }
}

/// The kind of fault that a claim of the key meets.
pub(crate) async fn fault(store: &PostgresStore, key: &RecordKey) -> StoreErrorKind {
    let error = store.claim(key, &request()).await.expect_err("a fault");
    let text = full_text(&error);
    assert!(!text.contains(key.key()), "the error has the key in it: {text}");
    error.kind()
}

/// The kind of the store's fault that kept it from being set up.
pub(crate) fn kind(error: &SetupError) -> StoreErrorKind {
    match error {
        SetupError::Store(error) => error.kind(),
        other => panic!("not the store's: {other:?}"),
    }
}

/// An error with all its sources, as text.
pub(crate) fn full_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        text.push(format!("{error:?} {error}"));
        next = error.source();
    }
    text.join("\n")
}

/// One value, read on a fresh connection.
pub(crate) async fn value<T>(server: &PostgresServer, sql: &str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
    query.fetch_one(&mut server.client().await).await.expect("a value")
}
