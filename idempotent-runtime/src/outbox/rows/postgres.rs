//! The rows on PostgreSQL.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{
    PgConnection, PgPool, Postgres, Row as _, SqlStr,
    error::DatabaseError,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Lease, OutboxRow, Parked, Rows, read_headers, write_headers};
use crate::{
    SetupError,
    outbox::{OutboxMessage, Outgoing},
    store::{
        Nonce, StoreError, StoreErrorKind, StoreResult,
        postgres::{fault::store_error, statements::Table},
    },
};

/// The time within which the server has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(in crate::outbox) struct PostgresRows {
    pool: PgPool,
    table: Table,
    statements: Statements,
}

/// The statement of each file, whose top documents the parameters.
struct Statements {
    lease: SqlStr,
    release: SqlStr,
    fetch: SqlStr,
    delete: SqlStr,
    park: SqlStr,
    parked: SqlStr,
    replay: SqlStr,
    discard: SqlStr,
}

impl PostgresRows {
    pub(super) fn new(pool: PgPool, table: Table) -> Self {
        let statements = Statements {
            lease: table.fill(include_str!("../postgres/lease.sql")),
            release: table.fill(include_str!("../postgres/release.sql")),
            fetch: table.fill(include_str!("../postgres/fetch.sql")),
            delete: table.fill(include_str!("../postgres/delete.sql")),
            park: table.fill(include_str!("../postgres/park.sql")),
            parked: table.fill(include_str!("../postgres/parked.sql")),
            replay: table.fill(include_str!("../postgres/replay.sql")),
            discard: table.fill(include_str!("../postgres/discard.sql")),
        };
        Self { pool, table, statements }
    }

    async fn all(&self, query: Query<'_, Postgres, PgArguments>) -> StoreResult<Vec<PgRow>> {
        in_time(query.fetch_all(&self.pool)).await
    }

    async fn change(&self, query: Query<'_, Postgres, PgArguments>) -> StoreResult<u64> {
        Ok(in_time(query.execute(&self.pool)).await?.rows_affected())
    }
}

async fn in_time<T>(answer: impl Future<Output = sqlx::Result<T>>) -> StoreResult<T> {
    const LATE: StoreError = StoreError::new(StoreErrorKind::Unavailable, "PostgreSQL did not answer in time");
    timeout(ANSWER_WITHIN, answer).await.map_err(|_| LATE)?.map_err(store_error)
}

fn message(row: &PgRow) -> sqlx::Result<OutboxRow> {
    let message = OutboxMessage {
        id: row.try_get(1)?,
        topic: row.try_get(2)?,
        key: row.try_get(3)?,
        payload: row.try_get::<Vec<u8>, _>(4)?.into(),
        headers: read_headers(row.try_get(5)?),
    };
    Ok(OutboxRow { seq: row.try_get(0)?, message })
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

#[async_trait]
impl Rows for PostgresRows {
    fn name(&self) -> &str {
        self.table.name()
    }

    fn renamed(&self, table: &str) -> Result<Arc<dyn Rows>, SetupError> {
        Ok(Arc::new(Self::new(self.pool.clone(), Table::parse(table)?)))
    }

    async fn lease(&self, nonce: &Nonce, lease: Duration) -> StoreResult<Lease> {
        let lease = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
        let query = sqlx::query(self.statements.lease.clone()).bind(nonce.as_bytes().as_slice()).bind(lease);
        match self.all(query).await?.first() {
            None => Ok(Lease::Others),
            Some(row) => Ok(Lease::Ours(row.try_get::<Option<i64>, _>(0).map_err(store_error)?.map(micros))),
        }
    }

    async fn release(&self, nonce: &Nonce) -> StoreResult<()> {
        let query = sqlx::query(self.statements.release.clone()).bind(nonce.as_bytes().as_slice());
        self.change(query).await.map(drop)
    }

    async fn fetch(&self, but_rows: &[i64], but_keys: &[String], limit: usize) -> StoreResult<Vec<OutboxRow>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = sqlx::query(self.statements.fetch.clone()).bind(but_rows).bind(but_keys).bind(limit);
        self.all(query).await?.iter().map(message).collect::<sqlx::Result<_>>().map_err(store_error)
    }

    async fn delete(&self, rows: &[i64]) -> StoreResult<()> {
        self.change(sqlx::query(self.statements.delete.clone()).bind(rows)).await.map(drop)
    }

    async fn park(&self, refused: &[(i64, String)]) -> StoreResult<()> {
        let (rows, errors): (Vec<i64>, Vec<&str>) = refused.iter().map(|(row, error)| (row, error.as_str())).unzip();
        self.change(sqlx::query(self.statements.park.clone()).bind(rows).bind(errors)).await.map(drop)
    }

    async fn parked(&self, limit: usize) -> StoreResult<Vec<Parked>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.all(sqlx::query(self.statements.parked.clone()).bind(limit)).await?;
        let parked = |row: &PgRow| {
            let error = row.try_get::<Option<String>, _>(6)?.unwrap_or_default();
            Ok(Parked { message: message(row)?.message, error, age: micros(row.try_get(7)?) })
        };
        rows.iter().map(parked).collect::<sqlx::Result<_>>().map_err(store_error)
    }

    async fn replay(&self, id: &str) -> StoreResult<bool> {
        let Ok(id) = id.parse::<Uuid>() else { return Ok(false) };
        Ok(self.change(sqlx::query(self.statements.replay.clone()).bind(id.to_string())).await? > 0)
    }

    async fn discard(&self, id: &str) -> StoreResult<bool> {
        let Ok(id) = id.parse::<Uuid>() else { return Ok(false) };
        Ok(self.change(sqlx::query(self.statements.discard.clone()).bind(id.to_string())).await? > 0)
    }
}

/// The statements of a publisher.
#[derive(Clone, Debug)]
pub(in crate::outbox) struct PostgresInsert {
    publish: SqlStr,
    taken_back: SqlStr,
}

impl PostgresInsert {
    pub(in crate::outbox) fn new(table: &Table) -> Self {
        Self {
            publish: table.fill(include_str!("../postgres/publish.sql")),
            taken_back: table.fill(include_str!("../postgres/taken_back.sql")),
        }
    }

    /// Inserts a message, and says in which transaction.
    pub(in crate::outbox) async fn publish(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
        outgoing: &Outgoing<'_>,
        digest: &[u8; 32],
    ) -> StoreResult<String> {
        let query = sqlx::query(self.publish.clone())
            .bind(id.to_string())
            .bind(outgoing.topic)
            .bind(outgoing.key)
            .bind(outgoing.payload)
            .bind(write_headers(outgoing.headers))
            .bind(digest.as_slice());
        let row = query.fetch_one(connection).await.map_err(|error| {
            let code = error.as_database_error().and_then(DatabaseError::code);
            if code.as_deref() == Some("23514") { crate::outbox::CONFLICT } else { store_error(error) }
        })?;
        row.try_get(0).map_err(store_error)
    }

    /// Looks which of these messages was rolled back: its place, `Some(None)` if none was so far.
    pub(in crate::outbox) async fn taken_back(
        &self,
        connection: &mut PgConnection,
        ids: &[String],
        transactions: &[String],
    ) -> StoreResult<Option<Option<usize>>> {
        let query = sqlx::query(self.taken_back.clone()).bind(ids).bind(transactions);
        let Some(row) = query.fetch_optional(connection).await.map_err(store_error)? else { return Ok(None) };
        let place: Option<i64> = row.try_get(0).map_err(store_error)?;
        Ok(Some(place.and_then(|place| usize::try_from(place - 1).ok())))
    }
}
