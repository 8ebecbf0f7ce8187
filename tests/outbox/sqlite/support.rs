//! A file with a store and an outbox.

use idempotent_runtime::{Idempotency, store::sqlite::SqliteStore};
use idempotent_tests::sqlite_file::SqliteFile;
use sqlx::{AssertSqlSafe, Sqlite, SqlitePool, Transaction, sqlite::SqlitePoolOptions};

pub(crate) type Db = Sqlite;

/// SQLite refuses the commit.
pub(crate) const COMMITS_A_CONFLICT: bool = false;

pub(crate) struct Target {
    pub(crate) pool: SqlitePool,
    pub(crate) idempotency: Idempotency,
    _file: SqliteFile,
}

impl Target {
    pub(crate) async fn create() -> Self {
        Self::with_table("idempotent_records").await
    }

    pub(crate) async fn with_table(table: &str) -> Self {
        let file = SqliteFile::new();
        let store = SqliteStore::builder().table(table).connect(&file.url()).await.unwrap();
        let pool = SqlitePoolOptions::new().max_connections(12).connect_lazy_with(file.options());
        Self { pool, idempotency: Idempotency::new(store), _file: file }
    }

    pub(crate) async fn begin(&self) -> Transaction<'static, Db> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.unwrap()
    }
}

/// A nonce that is nobody's, and a time that is an hour from now.
pub(crate) const TAKE_THE_LEASE: &str = "UPDATE idempotent_records_relay
    SET nonce = x'00', leased_at = unixepoch() * 1000, lease_until = unixepoch() * 1000 + 3600000";
