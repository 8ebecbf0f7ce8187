//! The terms in which the rules are written.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{BegunTransaction, Fixture};
use crate::{
    Fingerprint, Store,
    store::{
        ClaimOutcome, ClaimRequest, DeadLetters, Nonce, NotKept, Outcome, Past, Record, RecordKey, State, Suspension,
        TakeOver, Token, Transition, Why, transactional::Transactional,
    },
};

/// Longer than any test.
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// The time to live of a record that is held.
pub(super) const HOLD: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The fingerprint of most requests.
pub(super) const PRINT: Fingerprint = Fingerprint::from_bytes([0xA5; Fingerprint::LEN]);
/// The fingerprint of a request that differs.
pub(super) const OTHER_PRINT: Fingerprint = Fingerprint::from_bytes([0x5A; Fingerprint::LEN]);

/// The policies of takeovers.
pub(super) const TAKE_OVER: [TakeOver; 3] = [TakeOver::Never, TakeOver::UnlessHeld, TakeOver::Always];

/// The state of a key, and how it came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Released,
    Forgotten,
    Expired,
    Running,
    Lapsed,
    Failed,
    Abandoned,
    DoneOk,
    DoneErr,
    DoneUnavailable,
    DoneExhausted,
    DoneDead,
}

impl Stage {
    pub(super) const VACANT: [Self; 3] = [Self::Released, Self::Forgotten, Self::Expired];
    pub(super) const DONE: [Self; 5] =
        [Self::DoneOk, Self::DoneErr, Self::DoneUnavailable, Self::DoneExhausted, Self::DoneDead];
    pub(super) const PRESENT: [Self; 9] = [
        Self::Running,
        Self::Lapsed,
        Self::Failed,
        Self::Abandoned,
        Self::DoneOk,
        Self::DoneErr,
        Self::DoneUnavailable,
        Self::DoneExhausted,
        Self::DoneDead,
    ];

    /// Those in which no claim that takes nothing over changes anything.
    pub(super) fn standing() -> impl Iterator<Item = Self> {
        Self::PRESENT.into_iter().filter(|stage| *stage != Self::Failed)
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        Self::VACANT.into_iter().chain(Self::PRESENT)
    }

    pub(super) fn is_vacant(self) -> bool {
        Self::VACANT.contains(&self)
    }

    /// The outcome of a finished run.
    pub(super) fn outcome(self) -> Option<Outcome> {
        match self {
            Self::DoneOk => Some(ok(b"the result")),
            Self::DoneErr => Some(Outcome::Err(Bytes::from_static(b"the error"))),
            Self::DoneUnavailable => Some(Outcome::NotKept(NotKept::TooLarge)),
            Self::DoneExhausted => Some(Outcome::Exhausted),
            Self::DoneDead => Some(Outcome::Dead),
            _ => None,
        }
    }
}

/// A rule's store, and its part of the key space.
#[derive(Debug)]
pub(super) struct Subject {
    fixture: Fixture,
    operation: String,
}

impl Subject {
    pub(super) fn new(rule: &str, fixture: Fixture) -> Self {
        Self { fixture, operation: format!("conformance.{rule}.{:016x}", rand::random::<u64>()) }
    }

    /// One handle.
    pub(super) fn a(&self) -> &dyn Store {
        &*self.fixture.stores[0]
    }

    /// The other.
    pub(super) fn b(&self) -> &dyn Store {
        &*self.fixture.stores[1]
    }

    pub(super) fn both(&self) -> [&dyn Store; 2] {
        [self.a(), self.b()]
    }

    /// A handle for a task: the two in turn.
    pub(super) fn shared(&self, number: usize) -> Arc<dyn Store> {
        Arc::clone(&self.fixture.stores[number % 2])
    }

    /// The steps in transactions of one handle.
    pub(super) fn transactional(&self) -> &dyn Transactional {
        self.a().transactional().expect("a store with transactions, as its suite says")
    }

    /// The dead letters of both handles.
    pub(super) fn letters(&self) -> [&dyn DeadLetters; 2] {
        self.both().map(|store| store.dead_letters().expect("a store with dead letters, as its suite says"))
    }

    pub(super) async fn begin(&self) -> Box<dyn BegunTransaction> {
        self.fixture.begin().await
    }

    pub(super) fn operation(&self) -> &str {
        &self.operation
    }

    pub(super) fn key(&self, key: impl std::fmt::Display) -> RecordKey {
        format!("{}|{key}", self.operation).parse::<RecordKey>().expect("keys of the suite are valid")
    }

    /// A lease that the rule wants to see lapse.
    pub(super) fn short_lease(&self) -> Duration {
        self.tick() * 3
    }

    /// A time to keep that the rule wants to see end.
    pub(super) fn short_ttl(&self) -> Duration {
        self.tick() * 4
    }

    pub(super) fn tick(&self) -> Duration {
        self.fixture.shortest()
    }

    pub(super) fn is_exact(&self) -> bool {
        self.fixture.is_exact()
    }

    pub(super) async fn advance(&self, by: Duration) {
        self.fixture.advance(by).await;
    }

    /// Claims a key that can be claimed.
    pub(super) async fn take(&self, store: &dyn Store, key: &RecordKey, request: &ClaimRequest) -> Taken {
        match claim(store, key, request).await {
            ClaimOutcome::Claimed { token, attempt, past } => {
                assert_eq!(token.nonce, request.nonce, "the token names another claim");
                Taken { token, attempt, past }
            }
            other => panic!("expected the claim to be granted, got {other:?}"),
        }
    }

    /// Claims a vacant key for long.
    pub(super) async fn run(&self, key: &RecordKey) -> Token {
        self.take(self.a(), key, &request()).await.token
    }

    /// Claims a vacant key and lets the lease lapse.
    pub(super) async fn lapse(&self, key: &RecordKey) -> Token {
        self.bring(key, Stage::Lapsed).await
    }

    /// Brings a vacant key to a stage; the token is the last owner's.
    pub(super) async fn bring(&self, key: &RecordKey, stage: Stage) -> Token {
        self.bring_with(key, stage, request()).await
    }

    /// Brings a key to a stage by this claim.
    pub(super) async fn bring_with(&self, key: &RecordKey, stage: Stage, request: ClaimRequest) -> Token {
        let token = match stage {
            Stage::Lapsed => {
                let request = ClaimRequest { lease: self.short_lease(), ..request };
                let taken = self.take(self.a(), key, &request).await;
                self.advance(request.lease).await;
                return taken.token;
            }
            Stage::Expired => {
                let request = ClaimRequest { lease: self.tick(), ttl: self.tick(), ..request };
                let taken = self.take(self.a(), key, &request).await;
                self.advance(request.lease + request.ttl).await;
                return taken.token;
            }
            _ => self.take(self.a(), key, &request).await.token,
        };
        match stage {
            Stage::Released => applied(self.a().release(key, &token, LONG).await),
            Stage::Forgotten => assert!(self.a().forget(key).await.expect("forget")),
            Stage::Failed => suspended(suspend(self.a(), key, &token, Why::Failed).await),
            Stage::Abandoned => suspended(suspend(self.a(), key, &token, Why::Abandoned).await),
            _ => {}
        }
        if let Some(outcome) = stage.outcome() {
            applied(self.a().complete(key, &token, &outcome, LONG).await);
        }
        token
    }

    /// The record as both handles show it.
    pub(super) async fn record(&self, key: &RecordKey) -> Option<Record> {
        let [first, second] = [inspect(self.a(), key).await, inspect(self.b(), key).await];
        assert!(self.is_unchanged(first.as_ref(), second.as_ref()), "the handles differ: {first:?}, {second:?}");
        first
    }

    pub(super) async fn state(&self, key: &RecordKey) -> Option<State> {
        self.record(key).await.map(|record| record.state)
    }

    /// Asserts that a record is as it was.
    pub(super) async fn unchanged(&self, key: &RecordKey, before: Option<&Record>, what: &str) {
        let after = self.record(key).await;
        assert!(self.is_unchanged(before, after.as_ref()), "{what} changed the record: {before:?} became {after:?}");
    }

    /// The record is unchanged. If time cannot stand still, the rest of its lease and of its time may have become less.
    fn is_unchanged(&self, before: Option<&Record>, after: Option<&Record>) -> bool {
        let (Some(before), Some(after)) = (before, after) else { return before.is_none() && after.is_none() };
        if self.is_exact() {
            return before == after;
        }
        let state = match (&before.state, &after.state) {
            (State::Running { lease_left: before }, State::Running { lease_left: after }) => after <= before,
            (before, after) => before == after,
        };
        state
            && after.expires_in <= before.expires_in
            && (&after.key, after.fingerprint, after.attempt) == (&before.key, before.fingerprint, before.attempt)
            && (&after.arguments, &after.context) == (&before.arguments, &before.context)
            && after.owner == before.owner
            && (after.generation, after.failed) == (before.generation, before.failed)
            && after.not_before <= before.not_before
    }
}

/// A granted claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) token: Token,
    pub(super) attempt: u32,
    pub(super) past: Past,
}

/// A claim as most rules make it, with a nonce of its own.
pub(super) fn request() -> ClaimRequest {
    ClaimRequest::new(PRINT, Nonce::random(), LONG, LONG)
}

pub(super) fn ok(bytes: &'static [u8]) -> Outcome {
    Outcome::Ok(Bytes::from_static(bytes))
}

pub(super) async fn claim(store: &dyn Store, key: &RecordKey, request: &ClaimRequest) -> ClaimOutcome {
    store.claim(key, request).await.expect("claim")
}

pub(super) async fn inspect(store: &dyn Store, key: &RecordKey) -> Option<Record> {
    let record = store.inspect(key).await.expect("inspect");
    assert!(record.as_ref().is_none_or(|record| record.key == *key), "inspect shows another key's record");
    record
}

/// Suspends for long, and without a pause.
pub(super) async fn suspend(
    store: &dyn Store,
    key: &RecordKey,
    token: &Token,
    why: Why,
) -> Result<Suspension, crate::StoreError> {
    store.suspend(key, token, why, Duration::ZERO, LONG).await
}

pub(super) fn suspended(answer: Result<Suspension, crate::StoreError>) {
    assert_eq!(answer.expect("a suspension"), Suspension::Applied);
}

pub(super) fn applied(answer: Result<Transition, crate::StoreError>) {
    assert_eq!(answer.expect("a transition"), Transition::Applied);
}

pub(super) fn lost(answer: Result<Transition, crate::StoreError>) {
    assert_eq!(answer.expect("a transition"), Transition::Lost);
}
