//! Settings of a [`PostgresStore`].

use std::{str::FromStr, sync::Arc, time::Duration};

use sqlx::{ConnectOptions, PgConnection, PgPool, Postgres, postgres::PgConnectOptions};

use super::{
    PostgresShared, PostgresStore,
    executor::Executor,
    listener::Listener,
    statements::{Statements, Table},
};
use crate::{
    error::SetupError,
    store::sql::connections::{Aging, Connections},
};

const AGING: Aging = Aging { trusted_idle: Duration::from_secs(1), lifetime: Duration::from_secs(30 * 60) };

/// Settings of a [`PostgresStore`]; see [`PostgresStore::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PostgresStoreBuilder {
    table: String,
    max_connections: u32,
    timeout: Duration,
    allow_data_loss: bool,
}

impl PostgresStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            table: "idempotent_records".to_owned(),
            max_connections: 10,
            timeout: Duration::from_secs(3),
            allow_data_loss: false,
        }
    }

    /// Sets the name of the table of the records, `idempotent_records` by default; the names of the other objects begin with
    /// it. The server looks for it along the connection's `search_path`.
    ///
    /// The name has up to 48 lower-case ASCII letters, digits and underscores.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Sets the most connections that [`connect`](Self::connect) may open, besides one for wake-ups: 10 by default.
    pub const fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// Sets how long to wait for a connection, and then for an answer: 3 s each by default. On connections that
    /// [`connect`](Self::connect) opens, the server also gives up on a statement after this time.
    ///
    /// Keep it well below the lease, so that a claim whose answer is lost can be asked again in time.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Accepts a server that runs with `fsync=off` or `full_page_writes=off`, and so may lose acknowledged records when its
    /// machine crashes; `false` by default. `full_page_writes=off` is safe where the file system writes pages whole.
    pub const fn allow_data_loss(mut self, allow: bool) -> Self {
        self.allow_data_loss = allow;
        self
    }

    /// Connects, and brings the schema up to date. The [module](crate::store::postgres) lists the URLs.
    ///
    /// # Errors
    ///
    /// [`SetupError::Setting`] or [`SetupError::Url`] where a setting or the URL cannot be used, [`SetupError::Store`]
    /// where the server cannot be reached, refuses the login, is older than PostgreSQL 14, a standby, or one that
    /// [may lose records](Self::allow_data_loss), or has a schema that is newer than this library or cannot be brought
    /// up to date.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the schema is at one version or the next.
    pub async fn connect(self, url: &str) -> Result<PostgresStore, SetupError> {
        // The text of the error may quote the URL, and with it a password.
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| SetupError::Url("expected postgres://[user[:password]@]host[:port]/database"))?;
        let options = options.disable_statement_logging();
        let limit = self.timeout;
        let connections = Connections::own(options, self.max_connections, limit, Some(AGING), |connection, limit| {
            Box::pin(set_up(connection, limit))
        });
        let store = self.store(connections)?;
        store.migrate().await?;
        Ok(store)
    }

    /// Makes a store on the caller's own pool. It asks nothing of the server, and leaves the schema as it is.
    ///
    /// # Errors
    ///
    /// [`SetupError::Setting`] where a setting cannot be used.
    pub fn build(self, pool: PgPool) -> Result<PostgresStore, SetupError> {
        let connections = Connections::of(pool, self.timeout);
        self.store(connections)
    }

    fn store(self, connections: Connections<Postgres>) -> Result<PostgresStore, SetupError> {
        let table = Table::parse(&self.table)?;
        let listener = Listener::new(connections.options().into(), table.name(), self.timeout);
        let statements = Statements::new(&table);
        let executor = Executor { connections, timeout: self.timeout };
        Ok(PostgresStore {
            shared: Arc::new(PostgresShared {
                table,
                statements,
                executor,
                listener,
                allow_data_loss: self.allow_data_loss,
            }),
        })
    }
}

/// Sets up a connection of our own, whatever the defaults of server, database and role are.
///
/// `synchronous_commit`: what is acknowledged is on disk. `read committed`: a statement sees what was committed before it
/// began. `statement_timeout`: a statement that nobody waits for any more ends. `enable_seqscan`: a plan that was made for a
/// small table still uses the index when the table has grown.
async fn set_up(connection: &mut PgConnection, limit: Duration) -> Result<(), sqlx::Error> {
    const SETTINGS: &str = "SELECT
        CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END,
        set_config('default_transaction_isolation', 'read committed', false),
        set_config('statement_timeout', $1, false),
        set_config('enable_seqscan', 'off', false)";
    let limit_ms = limit.as_millis().clamp(1, 86_400_000).to_string();
    sqlx::query(SETTINGS).bind(limit_ms).execute(connection).await?;
    Ok(())
}
