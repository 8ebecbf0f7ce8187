//! A SQLite file in a temporary folder.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};
use tempfile::TempDir;

/// A path in a folder of its own, which is removed when this and its clones are dropped.
#[derive(Clone, Debug)]
pub struct SqliteFile {
    dir: Arc<TempDir>,
}

impl Default for SqliteFile {
    fn default() -> Self {
        Self::new()
    }
}

impl SqliteFile {
    /// A path at which there is no file yet.
    ///
    /// # Panics
    ///
    /// Where there is no room for temporary folders.
    #[must_use]
    pub fn new() -> Self {
        Self { dir: Arc::new(tempfile::tempdir().expect("a temporary folder")) }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("records.db")
    }

    /// The URL of a store in it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    /// The settings that a store wants.
    #[must_use]
    pub fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(self.path())
            .create_if_missing(true)
            .busy_timeout(Duration::from_secs(20))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
    }

    /// A pool with other settings than those.
    #[must_use]
    pub fn pool(&self, change: impl FnOnce(SqliteConnectOptions) -> SqliteConnectOptions) -> SqlitePool {
        SqlitePoolOptions::new().max_connections(2).connect_lazy_with(change(self.options()))
    }

    /// A connection beside those of the store.
    pub async fn connection(&self) -> SqliteConnection {
        SqliteConnection::connect_with(&self.options()).await.expect("a connection")
    }

    /// Runs statements on a connection of its own.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.connection().await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("statements that can be run");
        connection.close().await.expect("the end of the connection");
    }

    /// Lets the time of the records in it pass.
    pub async fn advance(&self, by: Duration) {
        let by = by.as_millis();
        let sql = format!(
            "UPDATE idempotent_records SET
                lease_until = lease_until - {by}, expires_at = expires_at - {by}, since = since - {by},
                not_before = not_before - {by}"
        );
        self.execute(&sql).await;
    }
}
