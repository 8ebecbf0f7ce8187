//! Takes the steps in a transaction that the caller has open, on the caller's connection.

use std::{
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection, query_scalar, raw_sql};
use tokio::time::Instant;

use super::{
    database::{Database, Tries},
    fault::{is_busy, is_outdated, store_error},
    inputs::{claim, complete, named, now},
    row::{self, SqliteRecord, SqliteState},
    transitions::TRIES,
};
use crate::store::{
    ClaimOutcome, ClaimRequest, Outcome, Record, RecordKey, StoreError, StoreErrorKind, StoreResult, Token,
    sql::transaction::{self, CLAIM_GONE, connection_of},
    transactional::{Connection, Transactional, Turn},
};

async fn control(connection: Connection<'_>, statement: String) -> StoreResult<()> {
    let connection = sqlite(connection)?;
    if !connection.is_in_transaction() {
        // `SAVEPOINT` outside a transaction begins one, and its `RELEASE` commits it.
        const NONE: &str = "the connection that `transaction` names is not in a transaction begun by sqlx";
        return Err(StoreError::new(StoreErrorKind::Refused, NONE));
    }
    raw_sql(AssertSqlSafe(statement)).execute(connection).await.map_err(|error| store_error(&error)).map(drop)
}

fn sqlite(connection: Connection<'_>) -> StoreResult<&mut SqliteConnection> {
    connection_of(connection, "the store is SQLite, but the transaction belongs to another database")
}

/// Begins the transaction of a run. The savepoint shows at the end that it is still the same one.
pub(crate) const BEGIN_RUN: &str = "BEGIN IMMEDIATE; SAVEPOINT idempotent_run";
const RELEASE_RUN: &str = "RELEASE SAVEPOINT idempotent_run";

/// Tells whether `foreign_keys` is on. A claim in a transaction refers to a row that never exists, until the call ends:
/// with `foreign_keys`, an earlier commit fails.
async fn check(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    query_scalar("PRAGMA foreign_keys").fetch_one(connection).await
}

/// The pause before a caller is to ask again whether the owner of a run has renewed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The caller's connection with a `busy_timeout` no longer than what is left of the claim's wait.
struct Patient<'c> {
    connection: &'c mut SqliteConnection,
    /// Its `busy_timeout` in ms, now and before the claim.
    now: u64,
    own: u64,
}

impl<'c> Patient<'c> {
    async fn new(connection: &'c mut SqliteConnection) -> sqlx::Result<Self> {
        let own: i64 = query_scalar("PRAGMA busy_timeout").fetch_one(&mut *connection).await?;
        let own = u64::try_from(own).unwrap_or_default();
        Ok(Self { connection, now: own, own })
    }

    async fn at_most(&mut self, left: Duration) -> sqlx::Result<()> {
        match u64::try_from(left.as_millis()) {
            Ok(left) if left < self.now => self.set(left).await,
            _ => Ok(()),
        }
    }

    async fn restore(mut self) -> sqlx::Result<()> {
        if self.now == self.own { Ok(()) } else { self.set(self.own).await }
    }

    async fn set(&mut self, millis: u64) -> sqlx::Result<()> {
        let statement = raw_sql(AssertSqlSafe(format!("PRAGMA busy_timeout = {millis}")));
        // Remembers the value before it awaits the statement. If this future is dropped in the await, the statement may
        // have taken effect, and `Drop` restores the old value.
        self.now = millis;
        statement.execute(&mut *self.connection).await.map(drop)
    }
}

/// Restores the `busy_timeout` after a claim that was dropped: the connection lives on, and another caller may get it next.
impl Drop for Patient<'_> {
    fn drop(&mut self) {
        if self.now != self.own {
            // The first poll sends the statement to the connection's thread, which runs it after its current statement.
            let restored = std::pin::pin!(self.set(self.own));
            let _ = restored.poll(&mut Context::from_waker(Waker::noop()));
        }
    }
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
        let mut patient = Patient::new(connection).await.map_err(failed)?;
        let outcome = self.claim_by(&mut patient, key, request, Instant::now() + wait).await;
        patient.restore().await.map_err(failed)?;
        outcome
    }

    async fn claim_by(
        &self,
        patient: &mut Patient<'_>,
        key: &RecordKey,
        request: &ClaimRequest,
        deadline: Instant,
    ) -> StoreResult<ClaimOutcome> {
        let mut tries = Tries::until(deadline);
        let mut asked = now();
        for _ in 0..TRIES {
            // The claim writes before it reads. If it read first, another writer could commit between the read and the
            // lock. SQLite would then refuse the write for ever (BUSY_SNAPSHOT), since this transaction's snapshot is
            // older than the file.
            let claimed = loop {
                let left = deadline.saturating_duration_since(Instant::now());
                patient.at_most(left).await.map_err(|error| store_error(&error))?;
                match claim(&self.statements, key, request, true, asked).fetch_all(&mut *patient.connection).await {
                    Err(error) if is_busy(&error) && !is_outdated(&error) && tries.another().await => {}
                    answer => break answer.map_err(|error| store_error(&error))?,
                }
            };
            if let Some(row) = claimed.first() {
                return row::granted(row, request);
            }
            let found = self.look_in(&mut *patient.connection, key).await?;
            let has_lapsed = found.as_ref().is_some_and(SqliteRecord::has_lapsed);
            match found.and_then(|stored| stored.answer(request)) {
                Some(outcome) => return Ok(outcome),
                // It lapsed while this claim waited for the lock, which its owner now waits for.
                None if has_lapsed => return Ok(ClaimOutcome::in_flight(request.lease.min(RETRY_AFTER))),
                // A pause that ended meanwhile.
                None => asked = now(),
            }
        }
        Err(super::changing())
    }

    async fn look_in(&self, connection: &mut SqliteConnection, key: &RecordKey) -> StoreResult<Option<SqliteRecord>> {
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
        let rows = complete(&self.statements, key, token, outcome, ttl).fetch_all(connection).await;
        let completed = !rows.map_err(|error| store_error(&error))?.is_empty();
        if completed { Ok(()) } else { Err(CLAIM_GONE) }
    }

    async fn end_in(
        &self,
        connection: &mut SqliteConnection,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<bool> {
        // A body that has ended the transaction, and maybe begun another one, has taken the savepoint with it.
        if raw_sql(RELEASE_RUN).execute(&mut *connection).await.is_ok() {
            let rows = complete(&self.statements, key, token, outcome, ttl).fetch_all(&mut *connection).await;
            if !rows.map_err(|error| store_error(&error))?.is_empty() {
                return Ok(true);
            }
        }
        // Whatever the client does next, nothing of what the body wrote is committed. sqlx still counts one transaction, and ends
        // the empty one. The first statement fails if the body has left none.
        for statement in ["ROLLBACK", "BEGIN"] {
            let _ = raw_sql(statement).execute(&mut *connection).await;
        }
        Ok(false)
    }
}

#[async_trait]
impl Transactional for Database {
    async fn savepoint(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        control(connection, transaction::savepoint(name)).await
    }

    async fn claim(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        request: &ClaimRequest,
        wait: Duration,
    ) -> StoreResult<ClaimOutcome> {
        let answer = self.claim_in(sqlite(connection)?, key, request, wait).await;
        self.pass(&answer);
        answer
    }

    async fn inspect(&self, connection: Connection<'_>, key: &RecordKey) -> StoreResult<Option<Record>> {
        Ok(self.look_in(sqlite(connection)?, key).await?.map(SqliteRecord::into_record))
    }

    async fn complete(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<()> {
        self.complete_in(sqlite(connection)?, key, token, outcome, ttl).await
    }

    async fn end(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
        _: Duration,
    ) -> StoreResult<bool> {
        self.end_in(sqlite(connection)?, key, token, outcome, ttl).await
    }

    async fn owns(&self, connection: Connection<'_>, key: &RecordKey, token: &Token) -> StoreResult<bool> {
        let found = self.look_in(sqlite(connection)?, key).await?;
        let is_running = |stored: &SqliteRecord| matches!(stored.state, SqliteState::Running(_));
        Ok(found.is_some_and(|stored| stored.nonce == token.nonce && is_running(&stored)))
    }

    fn committed(&self, key: &RecordKey) {
        self.listener.ended(key);
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    async fn turn(&self) -> Turn {
        Turn::new(Arc::clone(&self.runs).lock_owned().await)
    }

    async fn undo(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        control(connection, transaction::undo(name)).await
    }

    async fn keep(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        control(connection, transaction::keep(name)).await
    }
}
