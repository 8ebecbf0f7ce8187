//! Steps in transactions that are not as they should be.

use std::time::Duration;

use async_trait::async_trait;
use idempotent_runtime::store::{
    ClaimOutcome, ClaimRequest, Nonce, Outcome, Record, RecordKey, State, Store as _, StoreResult, Token,
    transactional::{Connection, Transactional, Turn},
};
use sqlx::SqliteConnection;

use super::{BeyondBug, BeyondMutant};

impl BeyondMutant {
    fn inner(&self) -> &dyn Transactional {
        self.store.transactional().expect("SQLite has transactions")
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transactional for BeyondMutant {
    async fn savepoint(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        self.inner().savepoint(connection, name).await
    }

    async fn claim(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        request: &ClaimRequest,
        wait: Duration,
    ) -> StoreResult<ClaimOutcome> {
        let answer = self.inner().claim(&mut *connection, key, request, wait).await;
        if self.is(BeyondBug::HalfACallIsCommitted) {
            let connection = connection.downcast_mut::<SqliteConnection>().expect("a connection of SQLite");
            let ended = sqlx::raw_sql("UPDATE idempotent_records SET unended = NULL").execute(connection).await;
            ended.expect("a statement that can be run");
        }
        answer
    }

    async fn inspect(&self, connection: Connection<'_>, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.inner().inspect(connection, key).await
    }

    async fn complete(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<()> {
        if self.is(BeyondBug::CompleteInsideDoesNothing) {
            return Ok(());
        }
        self.inner().complete(connection, key, token, outcome, ttl).await
    }

    async fn end(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        mut ttl: Duration,
        idle: Duration,
    ) -> StoreResult<bool> {
        let (mut outcome, mut token) = (outcome.clone(), *token);
        match self.bug {
            Some(BeyondBug::EndLeavesTheTransaction) if !self.inner().owns(&mut *connection, key, &token).await? => {
                return Ok(false);
            }
            Some(BeyondBug::EndOfTheDoneIsRepeated)
                if matches!(self.state(key).await?, Some(State::Done(_)))
                    && self.seen().owners.get(key).is_some_and(|owner| owner.nonce == token.nonce) =>
            {
                return Ok(true);
            }
            Some(BeyondBug::EndOfLapsedIsRefused) if self.state(key).await? == Some(State::Lapsed) => {
                token = Token::new(Nonce::random());
            }
            Some(BeyondBug::ErrorsAreCommittedAsResults) => {
                if let Outcome::Err(bytes) = outcome {
                    outcome = Outcome::Ok(bytes);
                }
            }
            Some(BeyondBug::CommittedIsKeptTooLong) => ttl += self.tick,
            _ => {}
        }
        let has_ended = self.inner().end(connection, key, &token, &outcome, ttl, idle).await?;
        if has_ended {
            self.seen().ended.insert(key.clone());
        }
        Ok(has_ended || self.is(BeyondBug::EndIgnoresOwner))
    }

    async fn owns(&self, connection: Connection<'_>, key: &RecordKey, token: &Token) -> StoreResult<bool> {
        Ok(match self.bug {
            Some(BeyondBug::OwnsAnything) => true,
            Some(BeyondBug::OwnsNothingThatLapsed) if self.state(key).await? == Some(State::Lapsed) => false,
            Some(BeyondBug::OwnsWhatHasEnded) if self.has_ended(key) => true,
            _ => self.inner().owns(connection, key, token).await?,
        })
    }

    fn committed(&self, key: &RecordKey) {
        if !self.is(BeyondBug::CommittedIsSilent) {
            self.subscribers.notify(key.as_str());
        }
        self.inner().committed(key);
    }

    fn is_exclusive(&self) -> bool {
        self.inner().is_exclusive()
    }

    async fn turn(&self) -> Turn {
        self.inner().turn().await
    }

    async fn undo(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        if self.is(BeyondBug::UndoKeeps) {
            return self.inner().keep(connection, name).await;
        }
        self.inner().undo(connection, name).await
    }

    async fn keep(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        if self.is(BeyondBug::KeepUndoes) {
            return self.inner().undo(connection, name).await;
        }
        self.inner().keep(connection, name).await
    }
}
