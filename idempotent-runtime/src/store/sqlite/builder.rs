//! Settings of a [`SqliteStore`].

use std::time::Duration;

use sqlx::{
    ConnectOptions as _, Sqlite,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous},
};

use super::{SqliteStore, database::Database, statements::TableName};
use crate::{
    error::SetupError,
    store::{
        duration::bounded,
        sql::{connections::Connections, sweep},
    },
};

/// The number of connections that read, besides the one that writes. Each has a thread of its own.
const READERS: u32 = 4;

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of a [`SqliteStore`]; see [`SqliteStore::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteStoreBuilder {
    table: String,
    busy_timeout: Duration,
    sweep_interval: Duration,
}

impl SqliteStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            table: TableName::default().as_str().to_owned(),
            busy_timeout: BUSY_TIMEOUT,
            sweep_interval: sweep::INTERVAL,
        }
    }

    /// Sets the name of the table, `idempotent_records` by default: up to 48 ASCII letters, digits and underscores. The
    /// names of everything else in the schema begin with it.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Sets how long a step waits for other writers, in this process and in others: 5 s by default. It may wait for a free
    /// connection for as long again.
    ///
    /// Keep it well below the lease, so that a claim that was answered late can be asked again in time.
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = bounded(timeout);
        self
    }

    /// Sets how often a process removes expired rows: each minute by default, `Duration::MAX` for never. It does so in
    /// passing, after it was granted a claim, in batches that let other writers pass in between.
    pub const fn sweep_interval(mut self, interval: Duration) -> Self {
        self.sweep_interval = interval;
        self
    }

    /// Opens the file that the URL names, creates it where it is missing, and [migrates](SqliteStore::migrate).
    ///
    /// # Errors
    ///
    /// [`SetupError::Setting`] or [`SetupError::Url`] where a setting or the URL cannot be used, [`SetupError::Store`]
    /// where the file cannot be opened or has a newer schema.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: at most the file and its schema are left behind.
    pub async fn connect(self, url: &str) -> Result<SqliteStore, SetupError> {
        // No limits of age: a connection to a file does not break by itself.
        let options = options(url)?;
        let own = |limit| Connections::own(options.clone(), limit, self.busy_timeout, None);
        let connections = [own(1), own(READERS)];
        let store = self.store(connections)?;
        store.migrate().await?;
        Ok(store)
    }

    /// Makes a store on the caller's own pool. See [`SqliteStore::new`].
    ///
    /// # Errors
    ///
    /// [`SetupError::Setting`] where a setting cannot be used.
    pub fn build(self, pool: SqlitePool) -> Result<SqliteStore, SetupError> {
        let connections = of(pool, self.busy_timeout);
        self.store(connections)
    }

    fn store(self, connections: [Connections<Sqlite>; 2]) -> Result<SqliteStore, SetupError> {
        let table = TableName::new(&self.table)?;
        Ok(SqliteStore::with(connections, table, self.busy_timeout, self.sweep_interval))
    }
}

impl SqliteStore {
    pub(super) fn with_defaults(pool: SqlitePool) -> Self {
        Self::with(of(pool, BUSY_TIMEOUT), TableName::default(), BUSY_TIMEOUT, sweep::INTERVAL)
    }

    fn with(connections: [Connections<Sqlite>; 2], table: TableName, patience: Duration, sweep: Duration) -> Self {
        Self { database: Database::new(connections, table, patience, sweep) }
    }
}

/// One connection of the store's own writes, and those of the pool read: bodies may have all of the pool's for longer
/// than a lease.
fn of(pool: SqlitePool, patience: Duration) -> [Connections<Sqlite>; 2] {
    let options = (*pool.connect_options()).clone().busy_timeout(Duration::ZERO);
    [Connections::own(options, 1, patience, None), Connections::of(pool, patience, None)]
}

fn options(url: &str) -> Result<SqliteConnectOptions, SetupError> {
    let path = url.strip_prefix("sqlite:").ok_or(SetupError::Url("it does not begin with sqlite:"))?;
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.contains(":memory:") || path.starts_with("file:") || path.is_empty() {
        return Err(SetupError::Url("SQLite needs a path; records in memory are what memory: is for"));
    }
    if path.contains('?') {
        return Err(SetupError::Url("a SQLite URL has no parameters"));
    }
    let options: SqliteConnectOptions =
        url.parse().map_err(|_| SetupError::Url("its path is not percent-encoded UTF-8"))?;
    Ok(options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // On macOS `fsync` alone does not reach the disk. No effect elsewhere.
        .pragma("fullfsync", "ON")
        // The store itself waits for locks, and blocks no thread meanwhile.
        .busy_timeout(Duration::ZERO)
        .disable_statement_logging())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_file() {
        let paths = [
            ("sqlite://records.db", "records.db"),
            ("sqlite:///var/lib/app/records.db", "/var/lib/app/records.db"),
            ("sqlite:records.db", "records.db"),
            ("sqlite:///a%3Fb.db", "/a?b.db"),
        ];
        for (url, path) in paths {
            assert_eq!(options(url).expect("options").get_filename().to_str(), Some(path), "{url}");
        }
        for url in
            ["sqlite:", "sqlite://", "sqlite::memory:", "sqlite://:memory:", "sqlite://a?mode=ro", "sqlite:file:a"]
        {
            assert!(options(url).is_err(), "{url}");
        }
    }
}
