//! The books in a SQLite file.

use std::str::FromStr as _;

use idempotent_runtime::{Idempotency, store::sqlite::SqliteStore};
use sqlx::{
    Pool, Sqlite,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::Failure;

#[path = "on_each_database/books.rs"]
mod books;
#[path = "on_each_database/service.rs"]
mod service;
#[path = "on_each_database/work.rs"]
mod work;

pub(crate) use self::work::run;

type Db = Sqlite;

const TABLES: &str = "
    CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance_cents INTEGER NOT NULL);
    CREATE TABLE ledger (
        id INTEGER PRIMARY KEY,
        transfer_id TEXT NOT NULL,
        account_id INTEGER NOT NULL REFERENCES accounts,
        cents INTEGER NOT NULL
    );
    CREATE INDEX ledger_transfer ON ledger (transfer_id)";

/// The records are kept in the file of the books, which is what `transaction` needs.
async fn open(url: &str) -> Result<(Pool<Db>, Idempotency), Failure> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // `FULL`: what was committed survives a power cut.
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(8).connect_with(options).await?;
    let store = SqliteStore::new(pool.clone());
    store.migrate().await?;
    Ok((pool, Idempotency::new(store)))
}
