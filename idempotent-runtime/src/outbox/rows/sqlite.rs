//! The rows in a SQLite file.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use sqlx::{
    Row as _, SqlStr, Sqlite, SqliteConnection, SqlitePool,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use super::{Lease, OutboxRow, Parked, Rows, read_headers, write_headers};
use crate::{
    SetupError,
    outbox::{OutboxMessage, Outgoing},
    store::{
        Nonce, StoreResult,
        sqlite::{fault::store_error, statements::TableName},
    },
};

pub(in crate::outbox) struct SqliteRows {
    pool: SqlitePool,
    table: TableName,
    statements: Statements,
}

/// The statement of each file, whose top documents the inputs.
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

impl SqliteRows {
    pub(super) fn new(pool: SqlitePool, table: TableName) -> Self {
        let statements = Statements {
            lease: table.fill(include_str!("../sqlite/lease.sql")),
            release: table.fill(include_str!("../sqlite/release.sql")),
            fetch: table.fill(include_str!("../sqlite/fetch.sql")),
            delete: table.fill(include_str!("../sqlite/delete.sql")),
            park: table.fill(include_str!("../sqlite/park.sql")),
            parked: table.fill(include_str!("../sqlite/parked.sql")),
            replay: table.fill(include_str!("../sqlite/replay.sql")),
            discard: table.fill(include_str!("../sqlite/discard.sql")),
        };
        Self { pool, table, statements }
    }

    /// Reads to the end: a statement that writes commits with its last step.
    async fn all(&self, query: Query<'_, Sqlite, SqliteArguments>) -> StoreResult<Vec<SqliteRow>> {
        query.fetch_all(&self.pool).await.map_err(|error| store_error(&error))
    }

    async fn change(&self, query: Query<'_, Sqlite, SqliteArguments>) -> StoreResult<u64> {
        Ok(query.execute(&self.pool).await.map_err(|error| store_error(&error))?.rows_affected())
    }
}

fn message(row: &SqliteRow) -> sqlx::Result<OutboxRow> {
    let message = OutboxMessage {
        id: row.try_get(1)?,
        topic: row.try_get(2)?,
        key: row.try_get(3)?,
        payload: row.try_get::<Vec<u8>, _>(4)?.into(),
        headers: read_headers(row.try_get(5)?),
    };
    Ok(OutboxRow { seq: row.try_get(0)?, message })
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

#[async_trait]
impl Rows for SqliteRows {
    fn name(&self) -> &str {
        self.table.as_str()
    }

    fn renamed(&self, table: &str) -> Result<Arc<dyn Rows>, SetupError> {
        Ok(Arc::new(Self::new(self.pool.clone(), TableName::new(table)?)))
    }

    async fn lease(&self, nonce: &Nonce, lease: Duration) -> StoreResult<Lease> {
        let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 2);
        let query = sqlx::query(self.statements.lease.clone()).bind(nonce.as_bytes().as_slice()).bind(lease);
        match self.all(query).await?.first() {
            None => Ok(Lease::Others),
            Some(row) => {
                let age = row.try_get::<Option<i64>, _>(0).map_err(|error| store_error(&error))?;
                Ok(Lease::Ours(age.map(millis)))
            }
        }
    }

    async fn release(&self, nonce: &Nonce) -> StoreResult<()> {
        let query = sqlx::query(self.statements.release.clone()).bind(nonce.as_bytes().as_slice());
        self.change(query).await.map(drop)
    }

    async fn fetch(&self, but_rows: &[i64], but_keys: &[String], limit: usize) -> StoreResult<Vec<OutboxRow>> {
        let query = sqlx::query(self.statements.fetch.clone())
            .bind(json!(but_rows).to_string())
            .bind(json!(but_keys).to_string())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.all(query).await?;
        rows.iter().map(message).collect::<sqlx::Result<_>>().map_err(|error| store_error(&error))
    }

    async fn delete(&self, rows: &[i64]) -> StoreResult<()> {
        self.change(sqlx::query(self.statements.delete.clone()).bind(json!(rows).to_string())).await.map(drop)
    }

    async fn park(&self, refused: &[(i64, String)]) -> StoreResult<()> {
        self.change(sqlx::query(self.statements.park.clone()).bind(json!(refused).to_string())).await.map(drop)
    }

    async fn parked(&self, limit: usize) -> StoreResult<Vec<Parked>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.all(sqlx::query(self.statements.parked.clone()).bind(limit)).await?;
        let parked = |row: &SqliteRow| {
            let error = row.try_get::<Option<String>, _>(6)?.unwrap_or_default();
            Ok(Parked { message: message(row)?.message, error, age: millis(row.try_get(7)?) })
        };
        rows.iter().map(parked).collect::<sqlx::Result<_>>().map_err(|error| store_error(&error))
    }

    async fn replay(&self, id: &str) -> StoreResult<bool> {
        Ok(self.change(sqlx::query(self.statements.replay.clone()).bind(id)).await? > 0)
    }

    async fn discard(&self, id: &str) -> StoreResult<bool> {
        Ok(self.change(sqlx::query(self.statements.discard.clone()).bind(id)).await? > 0)
    }
}

/// The statements of a publisher.
#[derive(Clone, Debug)]
pub(in crate::outbox) struct SqliteInsert {
    publish: SqlStr,
    taken_back: SqlStr,
}

impl SqliteInsert {
    pub(in crate::outbox) fn new(table: &TableName) -> Self {
        Self {
            publish: table.fill(include_str!("../sqlite/publish.sql")),
            taken_back: table.fill(include_str!("../sqlite/taken_back.sql")),
        }
    }

    /// Inserts a message, and says in which row.
    pub(in crate::outbox) async fn publish(
        &self,
        connection: &mut SqliteConnection,
        id: Uuid,
        outgoing: &Outgoing<'_>,
        digest: &[u8; 32],
    ) -> StoreResult<i64> {
        let query = sqlx::query(self.publish.clone())
            .bind(id.to_string())
            .bind(outgoing.topic)
            .bind(outgoing.key)
            .bind(outgoing.payload)
            .bind(write_headers(outgoing.headers))
            .bind(digest.as_slice());
        let failed = |error| store_error(&error);
        let rows = query.fetch_all(connection).await.map_err(failed)?;
        let row = rows.first().ok_or(crate::outbox::CONFLICT)?;
        if row.try_get::<Option<i64>, _>(1).map_err(failed)?.is_some() {
            return Err(crate::outbox::CONFLICT);
        }
        row.try_get(0).map_err(failed)
    }

    /// Looks which of these messages was rolled back: its place.
    pub(in crate::outbox) async fn taken_back(
        &self,
        connection: &mut SqliteConnection,
        sent: &[(i64, String)],
    ) -> StoreResult<Option<usize>> {
        let query = sqlx::query(self.taken_back.clone()).bind(json!(sent).to_string());
        let rows = query.fetch_all(connection).await.map_err(|error| store_error(&error))?;
        let place = rows.first().map(|row| row.try_get::<i64, _>(0)).transpose();
        Ok(place.map_err(|error| store_error(&error))?.and_then(|place| usize::try_from(place - 1).ok()))
    }
}
