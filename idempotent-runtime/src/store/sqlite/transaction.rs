//! The steps in a transaction that the caller has open, on the caller's connection.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Sqlite, SqliteConnection, Transaction, query_scalar, raw_sql};
use tokio::time::Instant;

use super::{
    CLAIM_TRIES, claim, complete,
    database::{Database, Tries},
    fault::{is_busy, is_outdated, store_error},
    named,
    row::{self, Stored},
};
use crate::store::{
    BoxFuture, ClaimOutcome, ClaimRequest, Outcome, Record, RecordKey, StoreError, StoreErrorKind, StoreResult, Token,
    transactional::{Connection, OpenTransaction, Transactional},
};

impl OpenTransaction for Transaction<'_, Sqlite> {
    fn connection(&mut self) -> Connection<'_> {
        &mut **self
    }
}

impl OpenTransaction for SqliteConnection {
    fn connection(&mut self) -> Connection<'_> {
        self
    }
}

// Names may repeat: each statement means the last savepoint of that name.
const SAVEPOINT: &str = "SAVEPOINT idempotent";
const UNDO: &str = "ROLLBACK TO SAVEPOINT idempotent; RELEASE SAVEPOINT idempotent";
const KEEP: &str = "RELEASE SAVEPOINT idempotent";

async fn control(connection: Connection<'_>, statement: &'static str) -> StoreResult<()> {
    let connection = sqlite(connection)?;
    if !connection.is_in_transaction() {
        // A savepoint would begin one, which its release would commit.
        const NONE: &str = "the connection that `transaction` names is not in a transaction begun by sqlx";
        return Err(StoreError::new(StoreErrorKind::Refused, NONE));
    }
    raw_sql(statement).execute(connection).await.map_err(|error| store_error(&error)).map(drop)
}

fn sqlite(connection: Connection<'_>) -> StoreResult<&mut SqliteConnection> {
    const OTHER: &str = "the transaction is not SQLite's, and the store is";
    connection.downcast_mut().ok_or(StoreError::new(StoreErrorKind::Refused, OTHER))
}

/// What the claims of transactions rest on.
async fn check(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    query_scalar("PRAGMA foreign_keys").fetch_one(connection).await
}

/// How long the connection waits for a lock by itself, in ms.
async fn busy_timeout(connection: &mut SqliteConnection) -> sqlx::Result<u64> {
    let own: i64 = query_scalar("PRAGMA busy_timeout").fetch_one(connection).await?;
    Ok(u64::try_from(own).unwrap_or_default())
}

async fn set_busy_timeout(connection: &mut SqliteConnection, millis: u64) -> sqlx::Result<()> {
    raw_sql(AssertSqlSafe(format!("PRAGMA busy_timeout = {millis}"))).execute(connection).await.map(drop)
}

impl Database {
    async fn claim_in(
        &self,
        connection: &mut SqliteConnection,
        key: &RecordKey,
        request: &ClaimRequest,
        wait: Duration,
    ) -> StoreResult<ClaimOutcome> {
        const OFF: &str = "SQLite's foreign_keys is off: a call that is dropped could be committed half-done";
        let failed = |error| store_error(&error);
        if !check(connection).await.map_err(failed)? {
            return Err(StoreError::new(StoreErrorKind::Refused, OFF));
        }
        let own = busy_timeout(connection).await.map_err(failed)?;
        let mut now = own;
        let outcome = self.claim_by(connection, key, request, Instant::now() + wait, &mut now).await;
        if now != own {
            set_busy_timeout(connection, own).await.map_err(failed)?;
        }
        outcome
    }

    async fn claim_by(
        &self,
        connection: &mut SqliteConnection,
        key: &RecordKey,
        request: &ClaimRequest,
        deadline: Instant,
        busy_timeout: &mut u64,
    ) -> StoreResult<ClaimOutcome> {
        let mut tries = Tries::until(deadline);
        for _ in 0..CLAIM_TRIES {
            // It writes first: what is read before the lock is held could be outdated when it is.
            let claimed = loop {
                let left = deadline.saturating_duration_since(Instant::now()).as_millis();
                if let Ok(left) = u64::try_from(left)
                    && left < *busy_timeout
                {
                    set_busy_timeout(connection, left).await.map_err(|error| store_error(&error))?;
                    *busy_timeout = left;
                }
                match claim(&self.statements, key, request, true).fetch_all(&mut *connection).await {
                    Err(error) if is_busy(&error) && !is_outdated(&error) && tries.another().await => {}
                    answer => break answer.map_err(|error| store_error(&error))?,
                }
            };
            if let Some(row) = claimed.first() {
                return row::granted(row, request);
            }
            if let Some(outcome) = self.look_in(connection, key).await?.and_then(|found| found.settle(request)) {
                return Ok(outcome);
            }
        }
        Err(super::changing())
    }

    async fn look_in(&self, connection: &mut SqliteConnection, key: &RecordKey) -> StoreResult<Option<Stored>> {
        let found = named(&self.statements.look, key).fetch_all(connection).await;
        found.map_err(|error| store_error(&error))?.first().map(row::decode).transpose()
    }

    async fn complete_in(
        &self,
        connection: &mut SqliteConnection,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<()> {
        const GONE: &str = "the body ended the transaction that its record was to be written in";
        let rows = complete(&self.statements, key, token, outcome, ttl).fetch_all(connection).await;
        let completed = !rows.map_err(|error| store_error(&error))?.is_empty();
        if completed { Ok(()) } else { Err(StoreError::new(StoreErrorKind::Refused, GONE)) }
    }
}

impl Transactional for Database {
    fn savepoint<'a>(&'a self, connection: Connection<'a>) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(control(connection, SAVEPOINT))
    }

    fn claim<'a>(
        &'a self,
        connection: Connection<'a>,
        key: &'a RecordKey,
        request: &'a ClaimRequest,
        wait: Duration,
    ) -> BoxFuture<'a, StoreResult<ClaimOutcome>> {
        Box::pin(async move { self.claim_in(sqlite(connection)?, key, request, wait).await })
    }

    fn inspect<'a>(
        &'a self,
        connection: Connection<'a>,
        key: &'a RecordKey,
    ) -> BoxFuture<'a, StoreResult<Option<Record>>> {
        Box::pin(async move { Ok(self.look_in(sqlite(connection)?, key).await?.map(Stored::into_record)) })
    }

    fn complete<'a>(
        &'a self,
        connection: Connection<'a>,
        key: &'a RecordKey,
        token: &'a Token,
        outcome: &'a Outcome,
        ttl: Duration,
    ) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move { self.complete_in(sqlite(connection)?, key, token, outcome, ttl).await })
    }

    fn undo<'a>(&'a self, connection: Connection<'a>) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(control(connection, UNDO))
    }

    fn keep<'a>(&'a self, connection: Connection<'a>) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(control(connection, KEEP))
    }
}
