//! The rows of an outbox, as a relay and an operator see them: what PostgreSQL and SQLite have in common.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::Pool;

use super::OutboxMessage;
#[cfg(feature = "postgres")]
use crate::store::postgres::statements::Table;
#[cfg(feature = "sqlite")]
use crate::store::sqlite::statements::TableName;
use crate::{
    SetupError, TransactionDatabase,
    store::{Nonce, StoreResult},
};

#[cfg(feature = "postgres")]
pub(super) mod postgres;
#[cfg(feature = "sqlite")]
pub(super) mod sqlite;

/// A message with its place in the order of insertion.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    pub(super) seq: i64,
    pub(super) message: OutboxMessage,
}

/// A message that the broker will never take, kept for an operator.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parked {
    /// The message.
    pub message: OutboxMessage,
    /// The text of the publisher's error, 4 KiB at most.
    pub error: String,
    /// The time since it was published.
    pub age: Duration,
}

/// The answer to a relay that asks for the lease.
#[derive(Debug)]
pub enum Lease {
    /// It is ours, and the first message that waits is that old.
    Ours(Option<Duration>),
    /// Another relay has it.
    Others,
}

/// The statements of a relay and of an operator, on one table.
#[async_trait]
pub trait Rows: Send + Sync {
    /// The name of the records' table.
    fn name(&self) -> &str;
    /// Takes another table of this database.
    fn renamed(&self, table: &str) -> Result<Arc<dyn Rows>, SetupError>;
    /// Takes or renews the lease.
    async fn lease(&self, nonce: &Nonce, lease: Duration) -> StoreResult<Lease>;
    /// Gives it back.
    async fn release(&self, nonce: &Nonce) -> StoreResult<()>;
    /// The first messages that wait, but for these rows and keys.
    async fn fetch(&self, but_rows: &[i64], but_keys: &[String], limit: usize) -> StoreResult<Vec<OutboxRow>>;
    /// Removes what was confirmed.
    async fn delete(&self, rows: &[i64]) -> StoreResult<()>;
    /// Parks what was refused, with the error of each.
    async fn park(&self, refused: &[(i64, String)]) -> StoreResult<()>;
    /// The parked messages, the oldest first.
    async fn parked(&self, limit: usize) -> StoreResult<Vec<Parked>>;
    /// Has a parked message published again.
    async fn replay(&self, id: &str) -> StoreResult<bool>;
    /// Removes a parked message.
    async fn discard(&self, id: &str) -> StoreResult<bool>;
}

/// A database that can have an outbox: PostgreSQL and SQLite.
pub trait OutboxDatabase: TransactionDatabase {
    #[doc(hidden)]
    fn rows(pool: Pool<Self>) -> Arc<dyn Rows>;
}

#[cfg(feature = "postgres")]
impl OutboxDatabase for sqlx::Postgres {
    fn rows(pool: Pool<Self>) -> Arc<dyn Rows> {
        Arc::new(postgres::PostgresRows::new(pool, Table::default()))
    }
}

#[cfg(feature = "sqlite")]
impl OutboxDatabase for sqlx::Sqlite {
    fn rows(pool: Pool<Self>) -> Arc<dyn Rows> {
        Arc::new(sqlite::SqliteRows::new(pool, TableName::default()))
    }
}

/// The headers as they are stored; `None` where there are none.
pub(super) fn write_headers(headers: &[(String, String)]) -> Option<String> {
    // Pairs of texts can always be written.
    if headers.is_empty() { None } else { serde_json::to_string(headers).ok() }
}

/// Reads headers; none where the row was not written by this library.
fn read_headers(headers: Option<&str>) -> Vec<(String, String)> {
    headers.and_then(|headers| serde_json::from_str(headers).ok()).unwrap_or_default()
}
