//! A server and stores on it, names for their answers, records as they are on the server.

use std::time::Duration;

use idempotent_runtime::{
    Store, StoreErrorKind,
    store::{
        ClaimOutcome, RecordKey, Step, StoreResult, Suspension, Token, Transition, Why,
        redis::{RedisStore, RedisStoreBuilder},
    },
};
pub(crate) use idempotent_tests::{backend::redis_key as raw, store_fixture::*};

use crate::{SERVER, redis_server::RedisServer};

/// A server and two stores on it, with a connection each.
pub(crate) struct Fixture {
    pub(crate) server: RedisServer,
    pub(crate) ours: RedisStore,
    pub(crate) theirs: RedisStore,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::on(SERVER.start().await).await
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
        Ok(ClaimOutcome::Suspended { retry_after, attempt, .. }) => {
            assert!(!retry_after.is_zero() && *retry_after <= PAUSE, "{retry_after:?}");
            format!("suspended {attempt}")
        }
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

/// A time before which a suspended key is not run again.
pub(crate) const PAUSE: Duration = Duration::from_secs(20);

/// Abandons a run, without a pause.
pub(crate) async fn abandon(store: &dyn Store, key: &RecordKey, token: &Token) -> StoreResult<Transition> {
    suspend(store, key, token, Why::Abandoned).await
}

/// Suspends a run, without a pause. Any answer but "applied" is "lost".
pub(crate) async fn suspend(store: &dyn Store, key: &RecordKey, token: &Token, why: Why) -> StoreResult<Transition> {
    store.suspend(key, token, why, Duration::ZERO, TTL).await.map(|answer| match answer {
        Suspension::Applied => Transition::Applied,
        _ => Transition::Lost,
    })
}

/// A step with this name and value.
pub(crate) fn step(name: &str, value: &'static str) -> Step {
    Step::new(name.to_owned(), Ok(value.into()))
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
