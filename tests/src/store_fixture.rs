//! Requests to a store, short names for its answers: for tests of one store below the engine.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a harness that cannot do its work fails the test"
)]

use std::{error::Error as StdError, fmt::Display, time::Duration};

use bytes::Bytes;
use idempotent_runtime::{
    Fingerprint, Outcome, RecordKey, SetupError, Store, StoreErrorKind,
    store::{ClaimOutcome, ClaimRequest, Nonce, Step, StoreResult, Suspension, Token, Transition, Why},
};

/// The lease of [`request`].
pub const LEASE: Duration = Duration::from_secs(30);
/// The time to live of [`request`] and of what is finished.
pub const TTL: Duration = Duration::from_secs(600);
/// The result of finished runs: bytes that JSON would write in another way.
pub const RESULT: &str = "{\"b\": 1.0, \"a\": \"é\"}";
/// The arguments of [`recording`].
pub const ARGUMENTS: &str = "{\"amount\":4200}";

/// The key of a record of the operation `tests.operation`.
#[must_use]
pub fn key(name: impl Display) -> RecordKey {
    format!("tests.operation|{name}").parse().expect("a record key")
}

const FINGERPRINT: [u8; 32] = [7; 32];

/// A claim by a new owner. All of them have the same fingerprint.
#[must_use]
pub fn request() -> ClaimRequest {
    ClaimRequest::new(Fingerprint::from_bytes(FINGERPRINT), Nonce::random(), LEASE, TTL)
}

/// The claim of a token's owner, asked again.
#[must_use]
pub fn request_of(token: &Token) -> ClaimRequest {
    ClaimRequest::new(Fingerprint::from_bytes(FINGERPRINT), token.nonce, LEASE, TTL)
}

/// A claim whose lease and time to live are both this long.
#[must_use]
pub fn request_for(time: Duration) -> ClaimRequest {
    ClaimRequest::new(Fingerprint::from_bytes(FINGERPRINT), Nonce::random(), time, time)
}

/// A claim with another fingerprint.
#[must_use]
pub fn other_fingerprint() -> ClaimRequest {
    ClaimRequest::new(Fingerprint::from_bytes([8; 32]), Nonce::random(), LEASE, TTL)
}

/// A claim by a caller that records its arguments.
#[must_use]
pub fn recording() -> ClaimRequest {
    request().with_arguments(Bytes::from_static(ARGUMENTS.as_bytes()))
}

/// The outcome of finished runs.
#[must_use]
pub fn outcome() -> Outcome {
    Outcome::Ok(Bytes::from_static(RESULT.as_bytes()))
}

/// The token of a granted claim.
pub fn granted(answer: StoreResult<ClaimOutcome>) -> Token {
    match answer.expect("an answer") {
        ClaimOutcome::Claimed { token, .. } => token,
        other => panic!("not granted: {other:?}"),
    }
}

/// Claims a key.
pub async fn claim(store: &dyn Store, key: &RecordKey) -> Token {
    granted(store.claim(key, &request()).await)
}

/// Ends a claim without an outcome.
pub async fn abandon(store: &dyn Store, key: &RecordKey, token: &Token) -> StoreResult<Suspension> {
    store.suspend(key, token, Why::Abandoned, Duration::ZERO, TTL).await
}

/// A step of this name, with a value.
#[must_use]
pub fn step(name: &str) -> Step {
    Step::new(name.to_owned(), Ok(Bytes::from_static(RESULT.as_bytes())))
}

/// Claims a key and completes it.
pub async fn finish(store: &dyn Store, key: &RecordKey) {
    let token = claim(store, key).await;
    assert_eq!(store.complete(key, &token, &outcome(), TTL).await.expect("complete"), Transition::Applied);
}

/// Returns whether a claim is answered with the outcome.
pub async fn is_done(store: &dyn Store, key: &RecordKey) -> bool {
    match store.claim(key, &request()).await.expect("an answer") {
        ClaimOutcome::Done(finished) => finished.outcome == outcome(),
        _ => false,
    }
}

/// The kind of fault that a claim of the key meets. Its text does not tell the key.
pub async fn fault(store: &dyn Store, key: &RecordKey) -> StoreErrorKind {
    let error = store.claim(key, &request()).await.expect_err("a fault");
    let text = full_text(&error);
    assert!(!text.contains(key.key()), "the error has the key in it: {text}");
    error.kind()
}

/// The kind of the store's fault that kept it from being set up.
#[must_use]
pub fn kind(error: &SetupError) -> StoreErrorKind {
    match error {
        SetupError::Store(error) => error.kind(),
        other => panic!("not the store's: {other:?}"),
    }
}

/// Checks that an error and its causes, printed one after the other as loggers do, repeat nothing.
pub fn assert_says_causes_once(error: &(dyn StdError + 'static)) {
    let mut said = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        assert!(said.iter().all(|said| !said.contains(&text)), "{}: {text}", said.join(": "));
        said.push(text);
        next = cause.source();
    }
}

/// An error with all its sources, as text.
#[must_use]
pub fn full_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        text.push(format!("{error:?} {error}"));
        next = error.source();
    }
    text.join("\n")
}
