//! Everything in a SQLite file.

use std::{str::FromStr as _, time::Duration};

use idempotent_runtime::{Idempotency, store::sqlite::SqliteStore};
use sqlx::{
    Pool, Sqlite,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::Failure;

#[path = "on_each_database/broker.rs"]
mod broker;
#[path = "on_each_database/consume.rs"]
mod consume;
#[path = "on_each_database/queue.rs"]
mod queue;
#[path = "on_each_database/run.rs"]
mod run;
#[path = "on_each_database/service.rs"]
mod service;

pub(crate) use self::{consume::consume, run::run};

type Db = Sqlite;

const TABLES: &str = "
    CREATE TABLE bookings (order_id TEXT NOT NULL, cents INTEGER NOT NULL, attempt INTEGER NOT NULL);
    CREATE INDEX bookings_order ON bookings (order_id);
    CREATE TABLE payments (order_id TEXT NOT NULL, cents INTEGER NOT NULL, attempt INTEGER NOT NULL);
    CREATE INDEX payments_order ON payments (order_id);
    CREATE TABLE sent (
        id TEXT NOT NULL, fate TEXT NOT NULL, cents INTEGER NOT NULL, copies INTEGER NOT NULL, PRIMARY KEY (id, fate)
    );
    CREATE TABLE queue (
        id INTEGER PRIMARY KEY,
        topic TEXT NOT NULL,
        message_id TEXT NOT NULL,
        payload BLOB NOT NULL,
        deliveries INTEGER NOT NULL DEFAULT 0,
        visible_at INTEGER NOT NULL DEFAULT 0,
        dead TEXT
    );
    CREATE INDEX queue_next ON queue (topic, id) WHERE dead IS NULL";

/// Takes the next message of a topic, and hides it for a time in ms. SQLite has one writer at a time.
const TAKE: &str = "
    UPDATE queue SET deliveries = deliveries + 1, visible_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) + $2
    WHERE id = (
        SELECT id FROM queue
        WHERE topic = $1 AND dead IS NULL AND visible_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER)
        ORDER BY id LIMIT 1)
    RETURNING id, message_id, payload, deliveries";

/// Hides a message that is still ours for a time in ms.
const HIDE: &str = "
    UPDATE queue SET visible_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) + $3 WHERE id = $1 AND deliveries = $2";

/// The records are kept in the file of the bookings, which is what `run_in` needs.
async fn open(url: &str) -> Result<(Pool<Db>, Idempotency), Failure> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .busy_timeout(Duration::from_secs(20))
        .journal_mode(SqliteJournalMode::Wal)
        // `FULL`: what was committed survives a power cut.
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(32).connect_with(options).await?;
    let store = SqliteStore::new(pool.clone());
    store.migrate().await?;
    Ok((pool, Idempotency::new(store)))
}
