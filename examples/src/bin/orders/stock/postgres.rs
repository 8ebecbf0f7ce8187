//! The stock in PostgreSQL.

use std::{str::FromStr as _, time::Duration};

use idempotent_runtime::{Idempotency, store::postgres::PostgresStore};
use sqlx::{
    Pool, Postgres,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::Failure;

#[path = "../on_each_database/reserve.rs"]
mod reserve;

pub(crate) use self::reserve::Stock;

type Db = Postgres;

const TABLES: &str = "
    CREATE TABLE stock (article bigint PRIMARY KEY, pieces bigint NOT NULL);
    CREATE TABLE reservations (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        order_id text NOT NULL,
        article bigint NOT NULL REFERENCES stock,
        quantity bigint NOT NULL
    )";

async fn connect(url: &str) -> Result<(Pool<Db>, Idempotency), Failure> {
    // sqlx's error text may quote the URL, and with it a password.
    let options = PgConnectOptions::from_str(url).map_err(|_| "not a PostgreSQL URL")?;
    let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(5));
    let pool = pool.connect_with(options).await?;
    let store = PostgresStore::new(pool.clone())?;
    store.migrate().await?;
    Ok((pool, Idempotency::new(store)))
}
