//! A store on a database, a pool as an application may have it, values read with the test's own eyes.

use std::time::Duration;

use idempotent_runtime::store::postgres::{PostgresStore, PostgresStoreBuilder};
pub(crate) use idempotent_tests::store_fixture::*;
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};

use crate::PostgresDatabase;

/// Short time-outs, so that lost answers cost little.
pub(crate) fn builder() -> PostgresStoreBuilder {
    PostgresStore::builder().timeout(Duration::from_millis(1500))
}

pub(crate) async fn connect(url: &str) -> PostgresStore {
    builder().connect(url).await.expect("a store")
}

/// A pool as an application may have it.
pub(crate) async fn pool(database: &PostgresDatabase) -> PgPool {
    PgPoolOptions::new().max_connections(8).connect(&database.url()).await.expect("a pool")
}

/// One value, read on a fresh connection.
pub(crate) async fn value<T>(database: &PostgresDatabase, sql: &str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
    query.fetch_one(&mut database.client().await).await.expect("a value")
}
