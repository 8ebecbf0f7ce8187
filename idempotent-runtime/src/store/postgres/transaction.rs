//! Takes the steps in a transaction that the caller has open, on the caller's connection.

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgRow, raw_sql};
use tokio::time::{Instant, timeout};

use super::{
    PostgresShared, contended,
    executor::Bound,
    fault::{is_gone, is_lock_timeout, store_error, timed_out, undecodable},
    parameters::{claim, complete, lock_timeout, of, owned},
    row,
    transitions::{RETRY_AFTER, TRIES},
};
use crate::store::{
    ClaimOutcome, ClaimRequest, Outcome, Record, RecordKey, StoreResult, Token,
    sql::{
        states::RowState,
        transaction::{self, CLAIM_GONE, connection_of},
    },
    transactional::{Connection, Transactional},
};

impl PostgresShared {
    async fn control(&self, connection: Connection<'_>, statement: String) -> StoreResult<()> {
        let connection = postgres(connection)?;
        self.in_time(Duration::ZERO, raw_sql(AssertSqlSafe(statement)).execute(connection))
            .await?
            .map_err(store_error)
            .map(drop)
    }

    async fn one(
        &self,
        connection: &mut PgConnection,
        wait: Duration,
        query: Bound<'_>,
    ) -> StoreResult<Result<Option<PgRow>, sqlx::Error>> {
        self.in_time(wait, query.fetch_optional(connection)).await
    }

    /// Bounds the time of a step. The server's own limits end a step earlier; this one is for a server that has gone.
    async fn in_time<T>(&self, wait: Duration, step: impl Future<Output = T>) -> StoreResult<T> {
        timeout(self.executor.timeout.saturating_add(wait), step).await.map_err(|_| timed_out())
    }

    async fn claim_in(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        request: &ClaimRequest,
        wait: Duration,
    ) -> StoreResult<ClaimOutcome> {
        let connection = postgres(connection)?;
        let asked = Instant::now();
        for _ in 0..TRIES {
            let left = wait.saturating_sub(asked.elapsed());
            let query = claim(sqlx::query(self.statements.claim_in_transaction.clone()), key, request, Some(left));
            let row = match self.one(connection, left, query).await? {
                Err(error) if is_lock_timeout(&error) => {
                    return Ok(ClaimOutcome::InFlight { retry_after: RETRY_AFTER });
                }
                answer => answer.map_err(store_error)?.ok_or_else(undecodable)?,
            };
            if row::asked_by(&row)?.is_some() {
                return row::claim_outcome(&row, request);
            }
        }
        Err(contended())
    }

    async fn inspect_in(&self, connection: Connection<'_>, key: &RecordKey) -> StoreResult<Option<Record>> {
        let query = of(sqlx::query(self.statements.inspect.clone()), key);
        let row = self.one(postgres(connection)?, Duration::ZERO, query).await?.map_err(store_error)?;
        row.as_ref().map(row::record).transpose()
    }

    async fn complete_in(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<()> {
        let query = sqlx::query(self.statements.complete_in_transaction.clone());
        let query = complete(query, key, token, outcome, ttl);
        let row = self.one(postgres(connection)?, Duration::ZERO, query).await?.map_err(store_error)?;
        row.map(drop).ok_or(CLAIM_GONE)
    }

    async fn end_in(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
        idle: Duration,
    ) -> StoreResult<bool> {
        let query =
            complete(sqlx::query(self.statements.end.clone()), key, token, outcome, ttl).bind(lock_timeout(idle));
        match self.one(postgres(connection)?, Duration::ZERO, query).await? {
            Ok(row) => Ok(row.is_some()),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(store_error(error)),
        }
    }

    async fn owns_in(&self, connection: Connection<'_>, key: &RecordKey, token: &Token) -> StoreResult<bool> {
        let query = owned(sqlx::query(self.statements.owner.clone()), key, token);
        let row = self.one(postgres(connection)?, Duration::ZERO, query).await?.map_err(store_error)?;
        let standing = row.as_ref().map(row::standing).transpose()?;
        Ok(standing.is_some_and(|standing| standing.is_ours_as(RowState::Running)))
    }
}

fn postgres(connection: Connection<'_>) -> StoreResult<&mut PgConnection> {
    connection_of(connection, "the store is PostgreSQL, but the transaction belongs to another database")
}

#[async_trait]
impl Transactional for PostgresShared {
    async fn savepoint(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        self.control(connection, transaction::savepoint(name)).await
    }

    async fn claim(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        request: &ClaimRequest,
        wait: Duration,
    ) -> StoreResult<ClaimOutcome> {
        let answer = self.claim_in(connection, key, request, wait).await;
        self.pass(&answer);
        answer
    }

    async fn inspect(&self, connection: Connection<'_>, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.inspect_in(connection, key).await
    }

    async fn complete(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<()> {
        self.complete_in(connection, key, token, outcome, ttl).await
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
        self.end_in(connection, key, token, outcome, ttl, idle).await
    }

    async fn owns(&self, connection: Connection<'_>, key: &RecordKey, token: &Token) -> StoreResult<bool> {
        self.owns_in(connection, key, token).await
    }

    async fn undo(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        self.control(connection, transaction::undo(name)).await
    }

    async fn keep(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        self.control(connection, transaction::keep(name)).await
    }
}
