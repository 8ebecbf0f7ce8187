//! Opens the store of the URL, and leaves its schema as it is.

use std::time::Duration;

use idempotent_runtime::{
    Idempotency,
    store::{postgres::PostgresStore, redis::RedisStore, sqlite::SqliteStore},
};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::timeout;

use crate::{arguments::Arguments, failure::Failure};

/// The kinds of stores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Postgres,
    Sqlite,
}

/// The URL, and the kind of store that it names.
pub(crate) fn url(arguments: &Arguments) -> Result<(&str, Kind), Failure> {
    let Some(url) = arguments.store.as_deref() else {
        return Err(Failure::Usage("no store: write --store URL, or set IDEMPOTENT_STORE".to_owned()));
    };
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "postgres" | "postgresql" => Ok((url, Kind::Postgres)),
        "sqlite" => Ok((url, Kind::Sqlite)),
        "unix" => Ok((url, Kind::Redis)),
        _ if scheme.starts_with("redis") => Ok((url, Kind::Redis)),
        "memory" => Err(Failure::Store("the records of memory: are seen by their own process alone".to_owned())),
        _ => Err(Failure::Store(
            "the URL names no store: expected redis://, rediss://, redis+cluster://, redis+sentinel://, postgres:// or \
             sqlite://"
                .to_owned(),
        )),
    }
}

pub(crate) async fn open(arguments: &Arguments) -> Result<Idempotency, Failure> {
    let (url, kind) = url(arguments)?;
    match kind {
        Kind::Redis => {
            // Records can be looked at on a server that may drop them: `doctor` says that it may.
            let store = RedisStore::builder().prefix(&arguments.prefix).allow_eviction(true).connect(url).await?;
            Ok(Idempotency::new(store))
        }
        Kind::Postgres => {
            let store = PostgresStore::builder().table(&arguments.table).build(postgres_pool(url).await?)?;
            store.check_schema().await?;
            Ok(Idempotency::new(store))
        }
        Kind::Sqlite => {
            let store = SqliteStore::builder().table(&arguments.table).build(sqlite_pool(url).await?)?;
            Ok(Idempotency::new(store))
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn postgres_pool(url: &str) -> Result<sqlx::PgPool, Failure> {
    let options: PgConnectOptions = url.parse().map_err(|_| {
        // The driver's text may quote the URL, and with it a password.
        Failure::Store(
            "the URL is not understood: expected postgres://[user[:password]@]host[:port]/database".to_owned(),
        )
    })?;
    let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(PATIENCE);
    // As the store's own connections: a default PgBouncer refuses `extra_float_digits`, and sqlx keeps the brackets of IPv6.
    let address = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned);
    let options = address.map_or_else(|| options.clone(), |address| options.clone().host(&address));
    let options = options.application_name("idempotent").extra_float_digits(None).disable_statement_logging();
    // A pool tries again until its patience ends, and then does not say why: the first connection is opened apart.
    let first = timeout(PATIENCE, options.connect()).await;
    match first {
        Ok(Ok(connection)) => drop(connection),
        Ok(Err(error)) => return Err(Failure::store(&error)),
        Err(_) => return Err(Failure::Store("the PostgreSQL server does not answer".to_owned())),
    }
    Ok(pool.connect_lazy_with(options))
}

pub(crate) async fn sqlite_pool(url: &str) -> Result<sqlx::SqlitePool, Failure> {
    let options: SqliteConnectOptions =
        url.parse().map_err(|_| Failure::Store("the URL is not understood: expected sqlite://path".to_owned()))?;
    let options = options
        .create_if_missing(false)
        .synchronous(SqliteSynchronous::Full)
        // The store waits for its own locks; the pool opens connections while other processes open or close the file.
        .busy_timeout(PATIENCE)
        .disable_statement_logging();
    if !options.get_filename().exists() {
        return Err(Failure::Store("there is no such SQLite file: `migrate` creates it".to_owned()));
    }
    let pool = SqlitePoolOptions::new().max_connections(2).acquire_timeout(PATIENCE);
    pool.connect_with(options).await.map_err(|error| Failure::store(&error))
}
