//! Records and effects in a PostgreSQL database.

use std::{str::FromStr as _, time::Duration};

use idempotent_runtime::Idempotency;
use sqlx::{
    Pool, Postgres,
    postgres::{PgConnectOptions, PgPoolOptions},
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

type Db = Postgres;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS done (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        endpoint text NOT NULL,
        event_id text NOT NULL,
        object text NOT NULL,
        status text NOT NULL
    );
    CREATE TABLE IF NOT EXISTS objects (id text PRIMARY KEY, status text NOT NULL, version bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS inbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        endpoint text NOT NULL,
        delivery_id text NOT NULL,
        body text NOT NULL,
        attempts bigint NOT NULL DEFAULT 0,
        due timestamptz NOT NULL DEFAULT clock_timestamp()
    )";

/// Takes the delivery that has waited longest, and counts the attempt. The next attempt is due some seconds later.
const TAKE: &str = "
    UPDATE inbox SET attempts = attempts + 1, due = clock_timestamp() + (attempts + 1) * interval '5 seconds'
    WHERE id = (SELECT id FROM inbox WHERE attempts < $1 AND due <= clock_timestamp() ORDER BY due, id LIMIT 1
        FOR UPDATE SKIP LOCKED)
    RETURNING id, endpoint, delivery_id, body";

/// The records are kept in the database of the effects, which is what `transaction` needs.
async fn open(url: &str) -> Result<(Pool<Db>, Idempotency), Failure> {
    // First, because `connect` reports a wrong URL at once, where a pool would go on trying.
    let idempotency = Idempotency::connect(url).await?;
    // sqlx's error text may quote the URL, and with it a password.
    let options = PgConnectOptions::from_str(url).map_err(|_| "--store is not a PostgreSQL URL")?;
    let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(5));
    let pool = pool.connect_with(options).await?;
    Ok((pool, idempotency))
}
