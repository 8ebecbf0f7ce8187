//! A file, a store in it, and a table for effects.

use idempotent_runtime::{Idempotency, store::sqlite::SqliteStore};
use idempotent_tests::sqlite_file::SqliteFile;
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

pub(crate) type Db = Sqlite;
pub(crate) type Connection = sqlx::SqliteConnection;

pub(crate) struct Bank {
    pub(crate) idempotency: Idempotency,
    pub(crate) pool: SqlitePool,
    pub(crate) file: SqliteFile,
}

impl Bank {
    pub(crate) async fn open() -> Self {
        Self::with(|options| options).await
    }

    pub(crate) async fn with(change: impl FnOnce(SqliteConnectOptions) -> SqliteConnectOptions) -> Self {
        let file = SqliteFile::new();
        let pool = SqlitePoolOptions::new().max_connections(8).connect_lazy_with(change(file.options()));
        let store = SqliteStore::new(pool.clone());
        store.migrate().await.expect("a schema");
        file.execute("CREATE TABLE effects (name text NOT NULL, cents bigint NOT NULL)").await;
        Self { idempotency: Idempotency::new(store), pool, file }
    }

    /// A handle of its own, with a local cache.
    pub(crate) fn cached(&self) -> Idempotency {
        Idempotency::builder().local_cache(1 << 20).build(SqliteStore::new(self.pool.clone()))
    }

    pub(crate) async fn begin(&self) -> Transaction<'static, Db> {
        self.pool.begin().await.expect("a transaction")
    }
}
