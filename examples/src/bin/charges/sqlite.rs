//! Charges in a SQLite file.

use std::str::FromStr as _;

use axum::{Router, routing::get};
use sqlx::{
    Sqlite, raw_sql,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::Failure;

#[path = "on_each_database/service.rs"]
mod service;

type Db = Sqlite;

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS charges (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        account TEXT NOT NULL,
        amount INTEGER NOT NULL,
        currency TEXT NOT NULL,
        description TEXT,
        authorization_code TEXT NOT NULL,
        created INTEGER NOT NULL DEFAULT (unixepoch())
    )";

pub(crate) async fn routes(url: &str) -> Result<Router, Failure> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // `FULL`: a committed charge survives a power cut.
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(8).connect_with(options).await?;
    raw_sql(TABLE).execute(&pool).await?;
    Ok(Router::new().route("/v1/charges", get(service::index).post(service::create)).with_state(pool))
}
