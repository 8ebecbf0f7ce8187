//! Everything in PostgreSQL.

use std::{str::FromStr as _, time::Duration};

use idempotent_runtime::{Idempotency, store::postgres::PostgresStore};
use sqlx::{
    Pool, Postgres,
    postgres::{PgConnectOptions, PgPoolOptions},
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

type Db = Postgres;

const TABLES: &str = "
    CREATE TABLE bookings (order_id text NOT NULL, cents bigint NOT NULL, attempt bigint NOT NULL);
    CREATE INDEX bookings_order ON bookings (order_id);
    CREATE TABLE payments (order_id text NOT NULL, cents bigint NOT NULL, attempt bigint NOT NULL);
    CREATE INDEX payments_order ON payments (order_id);
    CREATE TABLE sent (
        id text NOT NULL, fate text NOT NULL, cents bigint NOT NULL, copies bigint NOT NULL, PRIMARY KEY (id, fate)
    );
    CREATE TABLE queue (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        topic text NOT NULL,
        message_id text NOT NULL,
        payload bytea NOT NULL,
        deliveries bigint NOT NULL DEFAULT 0,
        visible_at timestamptz NOT NULL DEFAULT '-infinity',
        dead text
    );
    CREATE INDEX queue_next ON queue (topic, id) WHERE dead IS NULL";

/// Takes the next message of a topic, and hides it for a time in ms. Consumers pass over what others are taking.
const TAKE: &str = "
    UPDATE queue SET deliveries = deliveries + 1, visible_at = clock_timestamp() + $2 * interval '1 ms'
    WHERE id = (
        SELECT id FROM queue
        WHERE topic = $1 AND dead IS NULL AND visible_at <= clock_timestamp()
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, message_id, payload, deliveries";

/// Hides a message that is still ours for a time in ms.
const HIDE: &str =
    "UPDATE queue SET visible_at = clock_timestamp() + $3 * interval '1 ms' WHERE id = $1 AND deliveries = $2";

/// The records are kept in the database of the bookings, which is what `run_in` needs.
async fn open(url: &str) -> Result<(Pool<Db>, Idempotency), Failure> {
    // sqlx's error text may quote the URL, and with it a password.
    let options = PgConnectOptions::from_str(url).map_err(|_| "--store is not a PostgreSQL URL")?;
    let pool = PgPoolOptions::new().max_connections(32).acquire_timeout(Duration::from_secs(5));
    let pool = pool.connect_with(options).await?;
    let store = PostgresStore::new(pool.clone())?;
    store.migrate().await?;
    Ok((pool, Idempotency::new(store)))
}
