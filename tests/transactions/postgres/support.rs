//! A database, a store on it, and a table for effects.

use std::time::Duration;

use idempotent_runtime::{Idempotency, store::postgres::PostgresStore};
use idempotent_tests::postgres_database::PostgresDatabase;
use sqlx::{PgPool, Postgres, Transaction, postgres::PgPoolOptions};

pub(crate) type Db = Postgres;
pub(crate) type Connection = sqlx::PgConnection;

pub(crate) struct Bank {
    pub(crate) idempotency: Idempotency,
    pub(crate) pool: PgPool,
    pub(crate) database: PostgresDatabase,
}

impl Bank {
    pub(crate) async fn open() -> Self {
        Self::on(PostgresDatabase::create().await).await
    }

    pub(crate) async fn on(database: PostgresDatabase) -> Self {
        let pool = PgPoolOptions::new().max_connections(8).connect(&database.url()).await.expect("a pool");
        let store = PostgresStore::builder().timeout(Duration::from_secs(20)).build(pool.clone()).expect("a store");
        store.migrate().await.expect("a schema");
        database.execute("CREATE TABLE effects (name text NOT NULL, cents bigint NOT NULL)").await;
        Self { idempotency: Idempotency::new(store), pool, database }
    }

    /// A handle of its own, with a local cache.
    pub(crate) fn cached(&self) -> Idempotency {
        Idempotency::builder().local_cache(1 << 20).build(PostgresStore::new(self.pool.clone()).expect("a store"))
    }

    pub(crate) async fn begin(&self) -> Transaction<'static, Db> {
        self.pool.begin().await.expect("a transaction")
    }
}
