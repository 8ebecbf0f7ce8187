//! The stock in a SQLite file.

use std::str::FromStr as _;

use idempotent_runtime::{Idempotency, store::sqlite::SqliteStore};
use sqlx::{
    Pool, Sqlite,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::Failure;

#[path = "../on_each_database/reserve.rs"]
mod reserve;

pub(crate) use self::reserve::Stock;

type Db = Sqlite;

const TABLES: &str = "
    CREATE TABLE stock (article INTEGER PRIMARY KEY, pieces INTEGER NOT NULL);
    CREATE TABLE reservations (
        id INTEGER PRIMARY KEY,
        order_id TEXT NOT NULL,
        article INTEGER NOT NULL REFERENCES stock,
        quantity INTEGER NOT NULL
    )";

async fn connect(url: &str) -> Result<(Pool<Db>, Idempotency), Failure> {
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
