//! What the tests share: keys, requests, outcomes, short names for answers.

use std::{error::Error as StdError, time::Duration};

use bytes::Bytes;
use idempotent_runtime::{
    Fingerprint, SetupError, Store, StoreErrorKind,
    store::{
        ClaimOutcome, ClaimRequest, Nonce, Outcome, RecordKey, StoreResult, Token, Transition,
        redis::{RedisStore, RedisStoreBuilder},
    },
};

use crate::redis_server::RedisServer;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_secs(600);

/// A server and two stores on it, with a connection each.
pub(crate) struct Fixture {
    pub(crate) server: RedisServer,
    pub(crate) ours: RedisStore,
    pub(crate) theirs: RedisStore,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::on(RedisServer::start().await).await
    }

    pub(crate) async fn on(server: RedisServer) -> Self {
        let ours = connect(&server.url()).await;
        let theirs = connect(&server.url()).await;
        Self { server, ours, theirs }
    }
}

/// Short time-outs, so that lost answers cost little.
pub(crate) fn builder() -> RedisStoreBuilder {
    RedisStore::builder().connection_timeout(Duration::from_millis(500)).response_timeout(Duration::from_millis(500))
}

pub(crate) async fn connect(url: &str) -> RedisStore {
    builder().connect(url).await.expect("a store")
}

pub(crate) fn key(name: &str) -> RecordKey {
    format!("tests.operation|{name}").parse::<RecordKey>().expect("a record key")
}

/// The record's key on the server.
pub(crate) fn raw(key: &RecordKey) -> String {
    format!("idempotent:{}", key.as_str())
}

pub(crate) fn request() -> ClaimRequest {
    ClaimRequest::new(Fingerprint::from_bytes([7; 32]), Nonce::random(), LEASE, TTL)
}

/// The claim of a token's owner, asked again.
pub(crate) fn request_of(token: &Token) -> ClaimRequest {
    ClaimRequest::new(Fingerprint::from_bytes([7; 32]), token.nonce, LEASE, TTL)
}

/// A request whose lease and time to live are both this long.
pub(crate) fn request_for(time: Duration) -> ClaimRequest {
    ClaimRequest::new(Fingerprint::from_bytes([7; 32]), Nonce::random(), time, time)
}

pub(crate) fn other_fingerprint() -> ClaimRequest {
    ClaimRequest::new(Fingerprint::from_bytes([8; 32]), Nonce::random(), LEASE, TTL)
}

pub(crate) fn outcome() -> Outcome {
    Outcome::Ok(Bytes::from_static(b"{\"amount\":0}"))
}

/// The token of a granted claim.
pub(crate) fn granted(outcome: ClaimOutcome) -> Token {
    match outcome {
        ClaimOutcome::Claimed { token, .. } => token,
        other => panic!("not granted: {other:?}"),
    }
}

pub(crate) async fn claim(store: &RedisStore, key: &RecordKey) -> Token {
    granted(store.claim(key, &request()).await.expect("an answer"))
}

/// A name for what a claim answered.
pub(crate) fn claim_name(answer: &StoreResult<ClaimOutcome>) -> String {
    match answer {
        Ok(ClaimOutcome::Claimed { attempt, .. }) => format!("claimed {attempt}"),
        Ok(ClaimOutcome::InFlight { retry_after, .. }) => {
            assert!(!retry_after.is_zero() && *retry_after <= LEASE, "{retry_after:?}");
            "in flight".to_owned()
        }
        Ok(ClaimOutcome::Done(finished)) => {
            assert_eq!(finished.outcome, outcome());
            format!("done {}", finished.attempt)
        }
        Ok(ClaimOutcome::Abandoned { attempt, .. }) => format!("abandoned {attempt}"),
        Ok(ClaimOutcome::Mismatch) => "mismatch".to_owned(),
        Ok(other) => format!("{other:?}"),
        Err(error) => format!("{:?}", error.kind()),
    }
}

pub(crate) fn transition_name(answer: &StoreResult<Transition>) -> &'static str {
    match answer {
        Ok(Transition::Applied) => "applied",
        Ok(Transition::Lost) => "lost",
        Err(error) => match error.kind() {
            StoreErrorKind::Unavailable => "unavailable",
            StoreErrorKind::Full => "full",
            StoreErrorKind::Corrupt => "corrupt",
            _ => "refused",
        },
    }
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

/// Makes a running record lapse now, as if its lease had ended, on the server's own clock.
pub(crate) async fn lapse(server: &RedisServer, key: &RecordKey) {
    keep(server, key, TTL).await;
}

/// Sets what is left of a record: the lease ends when this is the time to live.
pub(crate) async fn keep(server: &RedisServer, key: &RecordKey, left: Duration) {
    let changed: u32 = server.command(&["PEXPIRE", &raw(key), &left.as_millis().to_string()]).await;
    assert_eq!(changed, 1, "no record");
}

/// The bytes of a record, without the waiters' flag.
pub(crate) async fn bytes_of(server: &RedisServer, key: &RecordKey) -> Option<Vec<u8>> {
    let mut bytes: Option<Vec<u8>> = server.command(&["GET", &raw(key)]).await;
    if let Some(flag) = bytes.as_mut().and_then(|bytes| bytes.get_mut(5)) {
        *flag = b'0';
    }
    bytes
}

pub(crate) async fn left_of(server: &RedisServer, key: &RecordKey) -> Duration {
    let left: i64 = server.command(&["PTTL", &raw(key)]).await;
    Duration::from_millis(left.try_into().expect("an expiring record"))
}
