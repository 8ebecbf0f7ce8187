//! Records and effects in a SQLite file.

use std::str::FromStr as _;

use idempotent_runtime::Idempotency;
use sqlx::{
    Pool, Sqlite,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::Failure;

#[path = "on_each_database/books.rs"]
mod books;
#[path = "on_each_database/handlers.rs"]
mod handlers;
#[path = "on_each_database/inbox.rs"]
mod inbox;
#[path = "on_each_database/server.rs"]
mod server;
#[path = "on_each_database/service.rs"]
mod service;

pub(crate) use self::server::run;

type Db = Sqlite;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS done (
        id INTEGER PRIMARY KEY,
        endpoint TEXT NOT NULL,
        event_id TEXT NOT NULL,
        object TEXT NOT NULL,
        status TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS objects (id TEXT PRIMARY KEY, status TEXT NOT NULL, version INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS inbox (
        id INTEGER PRIMARY KEY,
        endpoint TEXT NOT NULL,
        delivery_id TEXT NOT NULL,
        body TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        due INTEGER NOT NULL DEFAULT 0
    )";

/// Takes the delivery that has waited longest, and counts the attempt. The next attempt is due some seconds later.
const TAKE: &str = "
    UPDATE inbox SET attempts = attempts + 1, due = unixepoch() + 5 * (attempts + 1)
    WHERE id = (SELECT id FROM inbox WHERE attempts < $1 AND due <= unixepoch() ORDER BY due, id LIMIT 1)
    RETURNING id, endpoint, delivery_id, body";

/// The records are kept in the file of the effects, which is what `transaction` needs.
async fn open(url: &str) -> Result<(Pool<Db>, Idempotency), Failure> {
    let idempotency = Idempotency::connect(url).await?;
    let options = SqliteConnectOptions::from_str(url)?
        .journal_mode(SqliteJournalMode::Wal)
        // `FULL`: what was committed survives a power cut.
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(8).connect_with(options).await?;
    Ok((pool, idempotency))
}
