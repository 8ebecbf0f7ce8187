//! The books in PostgreSQL.

use std::{str::FromStr as _, time::Duration};

use idempotent_runtime::{Idempotency, store::postgres::PostgresStore};
use sqlx::{
    Pool, Postgres,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::Failure;

#[path = "on_each_database/books.rs"]
mod books;
#[path = "on_each_database/service.rs"]
mod service;
#[path = "on_each_database/work.rs"]
mod work;

pub(crate) use self::work::run;

type Db = Postgres;

const TABLES: &str = "
    CREATE TABLE accounts (id bigint PRIMARY KEY, balance_cents bigint NOT NULL);
    CREATE TABLE ledger (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        transfer_id text NOT NULL,
        account_id bigint NOT NULL REFERENCES accounts,
        cents bigint NOT NULL
    );
    CREATE INDEX ledger_transfer ON ledger (transfer_id)";

/// The records are kept in the database of the books, which is what `transaction` needs.
async fn open(url: &str) -> Result<(Pool<Db>, Idempotency), Failure> {
    // sqlx's error text may quote the URL, and with it a password.
    let options = PgConnectOptions::from_str(url).map_err(|_| "--store is not a PostgreSQL URL")?;
    let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(5));
    let pool = pool.connect_with(options).await?;
    let store = PostgresStore::new(pool.clone())?;
    store.migrate().await?;
    Ok((pool, Idempotency::new(store)))
}
