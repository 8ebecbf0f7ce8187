//! Faults of what a store offers beyond [`Store`]: its steps in transactions, its dead letters.

use std::time::Duration;

use async_trait::async_trait;

use super::{FaultyShared, Method};
use crate::store::{
    ClaimOutcome, ClaimRequest, DeadLetter, DeadLetters, Outcome, Record, RecordKey, Replay, Store, StoreResult, Token,
    Transition,
    transactional::{Connection, Transactional, Turn},
};

/// Behind [`Store::dead_letters`], which answers where the store behind does.
fn letters_of(store: &impl Store) -> &dyn DeadLetters {
    store.dead_letters().expect("a store that keeps dead letters goes on keeping them")
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Store> DeadLetters for FaultyShared<S> {
    async fn bury(
        &self,
        key: &RecordKey,
        token: &Token,
        letter: &DeadLetter,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        self.call(Method::Bury, move |inner| letters_of(inner).bury(key, token, letter, ttl)).await
    }

    async fn put(&self, letter: &DeadLetter) -> StoreResult<()> {
        self.call(Method::Put, move |inner| letters_of(inner).put(letter)).await
    }

    async fn operations(&self, after: &str, limit: usize) -> StoreResult<Vec<String>> {
        self.call(Method::Letters, move |inner| letters_of(inner).operations(after, limit)).await
    }

    async fn letters(&self, operation: &str, after: i64, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        self.call(Method::Letters, move |inner| letters_of(inner).letters(operation, after, limit)).await
    }

    async fn replaying(&self, operation: &str, after: i64, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        self.call(Method::Replaying, move |inner| letters_of(inner).replaying(operation, after, limit)).await
    }

    async fn replay(&self, operation: &str, id: i64) -> StoreResult<Replay> {
        self.call(Method::Replay, move |inner| letters_of(inner).replay(operation, id)).await
    }

    async fn worked_off(&self, operation: &str, id: i64) -> StoreResult<bool> {
        self.call(Method::WorkedOff, move |inner| letters_of(inner).worked_off(operation, id)).await
    }

    async fn dead_again(&self, operation: &str, id: i64) -> StoreResult<()> {
        self.call(Method::DeadAgain, move |inner| letters_of(inner).dead_again(operation, id)).await
    }

    async fn discard(&self, operation: &str, id: i64) -> StoreResult<bool> {
        self.call(Method::Discard, move |inner| letters_of(inner).discard(operation, id)).await
    }
}

/// Behind [`Store::transactional`], which answers where the store behind does.
fn transactional(store: &impl Store) -> &dyn Transactional {
    store.transactional().expect("a store with transactions goes on having them")
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Store> Transactional for FaultyShared<S> {
    async fn savepoint(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        self.call(Method::Savepoint, move |inner| transactional(inner).savepoint(connection, name)).await
    }

    async fn claim(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        request: &ClaimRequest,
        wait: Duration,
    ) -> StoreResult<ClaimOutcome> {
        self.call(Method::ClaimInside, move |inner| transactional(inner).claim(connection, key, request, wait)).await
    }

    async fn inspect(&self, connection: Connection<'_>, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.call(Method::InspectInside, move |inner| transactional(inner).inspect(connection, key)).await
    }

    async fn complete(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<()> {
        self.call(Method::CompleteInside, move |inner| {
            transactional(inner).complete(connection, key, token, outcome, ttl)
        })
        .await
    }

    async fn end(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
        idle: Duration,
    ) -> StoreResult<bool> {
        self.call(Method::End, move |inner| transactional(inner).end(connection, key, token, outcome, ttl, idle)).await
    }

    async fn owns(&self, connection: Connection<'_>, key: &RecordKey, token: &Token) -> StoreResult<bool> {
        self.call(Method::Owns, move |inner| transactional(inner).owns(connection, key, token)).await
    }

    fn committed(&self, key: &RecordKey) {
        transactional(&self.inner).committed(key);
    }

    fn is_exclusive(&self) -> bool {
        transactional(&self.inner).is_exclusive()
    }

    async fn turn(&self) -> Turn {
        transactional(&self.inner).turn().await
    }

    async fn undo(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        self.call(Method::Undo, move |inner| transactional(inner).undo(connection, name)).await
    }

    async fn keep(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        self.call(Method::Keep, move |inner| transactional(inner).keep(connection, name)).await
    }
}
