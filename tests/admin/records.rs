//! Records in every state.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use idempotent_runtime::{
    Fingerprint, Idempotency, Outcome, RecordKey,
    store::{ClaimOutcome, ClaimRequest, Nonce, NotKept, Token, Why},
};
use idempotent_tests::backend::Backend;

use crate::site::LONG;

/// Claims a key, with arguments that nobody may see.
pub(crate) async fn claim(idempotency: &Idempotency, key: &str, lease: Duration, context: &str) -> (RecordKey, Token) {
    let key: RecordKey = key.parse().unwrap();
    let request = ClaimRequest::new(Fingerprint::of(&1).unwrap(), Nonce::random(), lease, LONG)
        .with_arguments(Bytes::from_static(b"{\"card\":\"canary-argument\"}"))
        .with_context(Arc::from(context));
    match idempotency.store().claim(&key, &request).await.unwrap() {
        ClaimOutcome::Claimed { token, .. } => (key, token),
        other => panic!("{other:?}"),
    }
}

/// A record whose run has vanished.
pub(crate) async fn abandoned(idempotency: &Idempotency, key: &str) -> RecordKey {
    let (key, token) = claim(idempotency, key, LONG, "request 17").await;
    let _ = idempotency.store().suspend(&key, &token, Why::Abandoned, Duration::ZERO, LONG).await.unwrap();
    key
}

/// A record with this end.
pub(crate) async fn ended(idempotency: &Idempotency, key: &str, outcome: Outcome) -> RecordKey {
    let (key, token) = claim(idempotency, key, LONG, "request 17").await;
    let _ = idempotency.store().complete(&key, &token, &outcome, LONG).await.unwrap();
    key
}

/// A record in each state, of the operation `each`, under the key that is its word.
pub(crate) async fn one_of_each(idempotency: &Idempotency, backend: &Backend) {
    claim(idempotency, "each|lapsed", Duration::from_secs(5), "request 17").await;
    backend.advance(Duration::from_secs(6)).await;
    claim(idempotency, "each|running", LONG, "request 17").await;
    abandoned(idempotency, "each|abandoned").await;
    let (key, token) = claim(idempotency, "each|failed", LONG, "request 17").await;
    let _ = idempotency.store().suspend(&key, &token, Why::Failed, LONG, LONG).await.unwrap();
    for outcome in [
        Outcome::Ok(Bytes::from_static(b"\"canary-result\"")),
        Outcome::Err(Bytes::from_static(b"\"canary-error\"")),
        Outcome::NotKept(NotKept::TooLarge),
        Outcome::Exhausted,
        Outcome::Dead,
    ] {
        ended(idempotency, &format!("each|{}", outcome.as_str()), outcome).await;
    }
}
