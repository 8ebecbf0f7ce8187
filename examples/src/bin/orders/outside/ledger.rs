//! The books of the outside world: a SQLite file of its own, in which an answered request survives a power cut.

use std::{path::Path, time::Duration};

use sqlx::{
    FromRow, Pool, Sqlite, query_as, query_scalar, raw_sql,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// Neither table keeps an order from being charged twice under two keys, or from getting two mails.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS charges (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        order_id TEXT NOT NULL,
        cents INTEGER NOT NULL,
        requests INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS mails (id INTEGER PRIMARY KEY, order_id TEXT NOT NULL, charge INTEGER NOT NULL);
    CREATE INDEX IF NOT EXISTS mails_order ON mails (order_id)";
const CHARGE: &str = "INSERT INTO charges (key, order_id, cents, requests) VALUES ($1, $2, $3, 1)
    ON CONFLICT (key) DO UPDATE SET requests = requests + 1 RETURNING id, requests";

pub(crate) struct Ledger(Pool<Sqlite>);

#[derive(FromRow)]
pub(crate) struct Charge {
    pub(crate) id: i64,
    pub(crate) order_id: String,
    pub(crate) cents: i64,
}

#[derive(FromRow)]
pub(crate) struct Mail {
    pub(crate) id: i64,
    pub(crate) order_id: String,
    pub(crate) charge: i64,
}

impl Ledger {
    pub(crate) async fn open(path: &Path) -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .busy_timeout(Duration::from_secs(20))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(Duration::from_mins(1));
        let ledger = Self(pool.connect_with(options).await?);
        raw_sql(TABLES).execute(&ledger.0).await?;
        Ok(ledger)
    }

    /// The number of the charge with this key, and how often it was asked for.
    pub(super) async fn charge(&self, key: &str, order_id: &str, cents: i64) -> sqlx::Result<(i64, i64)> {
        // `fetch_all`, because SQLite commits after the last row.
        let charge = query_as(CHARGE).bind(key).bind(order_id).bind(cents).fetch_all(&self.0).await?;
        charge.into_iter().next().ok_or(sqlx::Error::RowNotFound)
    }

    pub(super) async fn find_charge(&self, key: &str) -> sqlx::Result<Option<i64>> {
        query_scalar("SELECT id FROM charges WHERE key = $1").bind(key).fetch_optional(&self.0).await
    }

    pub(super) async fn send_mail(&self, order_id: &str, charge: i64) -> sqlx::Result<i64> {
        let mail = query_scalar("INSERT INTO mails (order_id, charge) VALUES ($1, $2) RETURNING id");
        let numbers = mail.bind(order_id).bind(charge).fetch_all(&self.0).await?;
        numbers.into_iter().next().ok_or(sqlx::Error::RowNotFound)
    }

    pub(super) async fn find_mail(&self, order_id: &str) -> sqlx::Result<Option<i64>> {
        let find = query_scalar("SELECT id FROM mails WHERE order_id = $1 LIMIT 1");
        find.bind(order_id).fetch_optional(&self.0).await
    }

    pub(crate) async fn charges(&self) -> sqlx::Result<Vec<Charge>> {
        query_as("SELECT id, order_id, cents FROM charges").fetch_all(&self.0).await
    }

    pub(crate) async fn mails(&self) -> sqlx::Result<Vec<Mail>> {
        query_as("SELECT id, order_id, charge FROM mails").fetch_all(&self.0).await
    }
}
