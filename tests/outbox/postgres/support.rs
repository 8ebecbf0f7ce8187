//! A database with a store and an outbox.

use idempotent_runtime::{Idempotency, store::postgres::PostgresStore};
use idempotent_tests::postgres_database::PostgresDatabase;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction, postgres::PgPoolOptions};

pub(crate) type Db = Postgres;

/// PostgreSQL goes on with nothing in the transaction.
pub(crate) const COMMITS_A_CONFLICT: bool = true;

pub(crate) struct Target {
    pub(crate) pool: PgPool,
    pub(crate) idempotency: Idempotency,
    pub(crate) database: PostgresDatabase,
}

impl Target {
    pub(crate) async fn create() -> Self {
        Self::on(PostgresDatabase::create().await, "idempotent_records").await
    }

    pub(crate) async fn with_table(table: &str) -> Self {
        Self::on(PostgresDatabase::create().await, table).await
    }

    pub(crate) async fn on(database: PostgresDatabase, table: &str) -> Self {
        let store = PostgresStore::builder().table(table).connect(&database.url()).await.unwrap();
        let pool = PgPoolOptions::new().max_connections(12).connect(&database.url()).await.unwrap();
        Self { pool, idempotency: Idempotency::new(store), database }
    }

    pub(crate) async fn begin(&self) -> Transaction<'static, Db> {
        self.pool.begin().await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.unwrap()
    }
}

/// A nonce that is nobody's, and a time that is an hour from now.
pub(crate) const TAKE_THE_LEASE: &str = r"UPDATE idempotent_records_relay
    SET nonce = '\x00', leased_at = now(), lease_until = now() + interval '1 hour'";
