//! Settings of a [`PostgresStore`].

use std::{
    str::FromStr,
    sync::{Arc, Weak},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection as _, PgPool, Postgres,
    postgres::{PgConnectOptions, PgSslMode},
};

use tokio::{sync::OnceCell, time::timeout};

use super::{
    PostgresShared, PostgresStore,
    batches::Batches,
    executor::Executor,
    fault::{refuses_parameters, store_error, timed_out},
    listener::Listener,
    statements::{Statements, Table},
};
use crate::{
    error::SetupError,
    store::{
        StoreResult,
        duration::bounded,
        sql::{
            connections::{Aging, Connections},
            sweep::{self, Sweep},
        },
        tls::TlsFiles,
    },
};

const AGING: Aging = Aging { trusted_idle: Duration::from_secs(1), lifetime: Duration::from_secs(30 * 60) };

/// Settings of a [`PostgresStore`]; see [`PostgresStore::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PostgresStoreBuilder {
    table: String,
    max_connections: u32,
    timeout: Duration,
    sweep_interval: Duration,
    allow_data_loss: bool,
    tls: TlsFiles,
}

impl PostgresStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            table: "idempotent_records".to_owned(),
            max_connections: 10,
            timeout: Duration::from_secs(3),
            sweep_interval: sweep::INTERVAL,
            allow_data_loss: false,
            tls: TlsFiles::default(),
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

    /// Sets the most connections that [`connect`](Self::connect) may open, besides one for wake-ups and up to four in
    /// reserve for the owners of runs: 10 by default.
    pub const fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// Sets how long to wait for a connection, and then for an answer: 3 s each by default. On connections that
    /// [`connect`](Self::connect) opens, the server also gives up on a statement after this time.
    ///
    /// Keep it well below the lease, so that a claim whose answer is lost can be asked again in time.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = bounded(timeout);
        self
    }

    /// Sets how often a process removes expired rows: each minute by default, `Duration::MAX` for never. It does so in
    /// passing, after it was granted a claim, in small batches, and leaves them to a process that is at it already.
    pub const fn sweep_interval(mut self, interval: Duration) -> Self {
        self.sweep_interval = interval;
        self
    }

    /// Trusts these authorities, one or more certificates as PEM, besides those of the system, and verifies the server's
    /// certificate and name (`sslmode=verify-full`, unless the URL has another). The URL's `?sslrootcert=` names a file
    /// of them.
    #[cfg(feature = "postgres-tls")]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.root = Some(pem.into());
        self
    }

    /// Shows the server this certificate, with its chain, and proves it with this key, both as PEM. The URL's
    /// `?sslcert=` and `?sslkey=` name a file of each.
    #[cfg(feature = "postgres-tls")]
    pub fn client_certificate(mut self, pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.tls.client = Some((pem.into(), key_pem.into()));
        self
    }

    /// Accepts a server that may lose what it acknowledged when it or its machine crashes, since it runs with `fsync=off`
    /// or `full_page_writes=off`; `false` by default. The latter is safe where the file system writes pages whole.
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
        let options = self.tls(url, options(url)?);
        let options = options.extra_float_digits(None).disable_statement_logging();
        let options = fitting(options, self.timeout).await?;
        let connections = Connections::own(options, self.max_connections, self.timeout, Some(AGING));
        let store = self.store(connections)?;
        store.migrate().await?;
        Ok(store)
    }

    /// A store on the caller's own pool. Nothing is asked of the server before the first claim, the schema is left as it
    /// is. Besides the pool's connections there are up to five more: see [connections](super#connections).
    ///
    /// # Errors
    ///
    /// [`SetupError::Setting`] where a setting cannot be used.
    pub fn build(self, pool: PgPool) -> Result<PostgresStore, SetupError> {
        let connections = Connections::of(pool, self.timeout, Some(AGING));
        self.store(connections)
    }

    /// Adds the certificates. Those who name whom they trust want the server's certificate to be verified.
    fn tls(&self, url: &str, mut options: PgConnectOptions) -> PgConnectOptions {
        let TlsFiles { root, client } = &self.tls;
        if let Some(root) = root {
            options = options.ssl_root_cert_from_pem(root.clone());
        }
        if let Some((certificate, key)) = client {
            options = options.ssl_client_cert_from_pem(certificate).ssl_client_key_from_pem(key);
        }
        let names_root =
            root.is_some() || ["sslrootcert=", "ssl-root-cert=", "ssl-ca="].iter().any(|name| url.contains(name));
        let is_default = matches!(options.get_ssl_mode(), PgSslMode::Prefer);
        if names_root && is_default { options.ssl_mode(PgSslMode::VerifyFull) } else { options }
    }

    fn store(self, connections: Connections<Postgres>) -> Result<PostgresStore, SetupError> {
        let table = Table::parse(&self.table)?;
        let listener = Listener::new(connections.opener(), table.name(), self.timeout);
        let statements = Statements::new(&table, self.timeout);
        let executor = Executor { connections, timeout: self.timeout };
        let shared = Arc::new_cyclic(|this| PostgresShared {
            table,
            statements,
            executor,
            listener,
            batches: Batches::new(this),
            sweep: Sweep::every(self.sweep_interval),
            allow_data_loss: self.allow_data_loss,
            sessions: OnceCell::new(),
            this: Weak::clone(this),
        });
        Ok(PostgresStore { shared })
    }
}

/// Reads the URL.
fn options(url: &str) -> Result<PgConnectOptions, SetupError> {
    // The text of the error may quote the URL, and with it a password.
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| SetupError::Url("expected postgres://[user[:password]@]host[:port]/database"))?;
    // A URL has brackets around an IPv6 address. sqlx keeps them (0.9), and would look for a host of that name.
    let address = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned);
    Ok(match address {
        Some(address) => options.host(&address),
        None => options,
    })
}

/// The options with our settings, or without, where a pooler refuses those.
async fn fitting(plain: PgConnectOptions, limit: Duration) -> StoreResult<PgConnectOptions> {
    let ours = with_settings(plain.clone(), limit);
    match timeout(limit, ours.connect()).await.map_err(|_| timed_out())? {
        Ok(connection) => {
            // Its end is not waited for longer than its answers.
            let _ = timeout(limit, connection.close()).await;
            Ok(ours)
        }
        Err(error) if refuses_parameters(&error) => Ok(plain),
        Err(error) => Err(store_error(error)),
    }
}

/// Adds the settings of our own connections, whatever the defaults of server, database and role are: statements see what
/// was committed before they began; one that nobody waits for any more ends; and a plan that was made for a small table
/// is not kept for one that has grown.
///
/// With parameters of the connection's start, which a pooler does not pass on to a session that others get, as it does
/// with `SET`: a pooler ignores them, or refuses the connection. Nothing that is promised rests on them: what does is
/// set by each statement for itself (`settings.sql`). A default `PgBouncer` refuses sqlx's own `extra_float_digits`, too,
/// which is left out.
fn with_settings(options: PgConnectOptions, timeout: Duration) -> PgConnectOptions {
    let timeout_ms = timeout.as_millis().clamp(1, 86_400_000).to_string();
    options.options([
        ("default_transaction_isolation", "read committed"),
        ("statement_timeout", &*timeout_ms),
        ("enable_seqscan", "off"),
    ])
}
