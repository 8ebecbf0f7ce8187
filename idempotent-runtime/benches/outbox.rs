//! A relay that empties a table, with a publisher that confirms at once: messages a second, against the rate that a relay has
//! to keep.
//!
//! `cargo bench -p idempotent-runtime --features outbox,postgres,sqlite --bench outbox` (starts PostgreSQL servers of its own:
//! one that leaves it to the operating system when to write to disk, and one with the default settings; SQLite's file is in
//! the temporary folder)
#![expect(clippy::unwrap_used, reason = "a benchmark stops when it is wrong")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[allow(unreachable_pub, clippy::incompatible_msrv, reason = "written for tests, which need a later Rust")]
#[path = "../../tests/src/ports.rs"]
mod ports;
#[allow(dead_code, unreachable_pub, unfulfilled_lint_expectations, reason = "written for tests, which use the rest")]
#[path = "../../tests/src/postgres_server.rs"]
mod postgres_server;
#[allow(dead_code, unreachable_pub, unfulfilled_lint_expectations, reason = "written for tests, which use the rest")]
#[path = "../../tests/src/process.rs"]
mod process;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use idempotent_runtime::{
    outbox::{OutboxDatabase, OutboxMessage, PublishError, Publisher, Relay},
    store::{postgres::PostgresStore, sqlite::SqliteStore},
};
use postgres_server::PostgresServer;
use sqlx::{AssertSqlSafe, Pool, postgres::PgPool, sqlite::SqlitePool};
use support::{Bar, head, medians, row};
use tokio::{runtime::Runtime, sync::Notify};

const ROUNDS: usize = 5;
const MESSAGES: usize = 50_000;
/// The bar, in messages a second.
const LEAST: f64 = 20_000.0;

const FILL_POSTGRES: &str = "INSERT INTO idempotent_records_outbox (id, topic, key, payload, digest)
    SELECT gen_random_uuid(), 'orders', {key}, convert_to(repeat('x', 200), 'UTF8'), '' FROM generate_series(1, {count}) AS n";
const FILL_SQLITE: &str =
    "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
    INSERT INTO idempotent_records_outbox (id, topic, key, payload, digest, created_at)
    SELECT hex(randomblob(16)), 'orders', {key}, zeroblob(200), x'', 0 FROM numbers";

#[derive(Clone, Default)]
struct Counter(Arc<(AtomicUsize, Notify)>);

impl Publisher for Counter {
    async fn publish(&self, batch: &[OutboxMessage]) -> Vec<Result<(), PublishError>> {
        if self.0.0.fetch_add(batch.len(), Ordering::Relaxed) + batch.len() >= MESSAGES {
            self.0.1.notify_one();
        }
        batch.iter().map(|_| Ok(())).collect()
    }
}

/// Empties the table, and says how many messages a second that were.
fn relay<DB: OutboxDatabase>(runtime: &Runtime, pool: &Pool<DB>) -> f64 {
    let counter = Counter::default();
    let start = Instant::now();
    runtime.block_on(async {
        let relay = Relay::new(pool.clone(), counter.clone());
        // On its own task, as in a service.
        tokio::spawn(async move { relay.run(counter.0.1.notified()).await }).await.unwrap();
    });
    f64::from(u32::try_from(MESSAGES).unwrap()) / start.elapsed().as_secs_f64()
}

fn filled(sql: &str, key: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql.replace("{key}", key).replace("{count}", &MESSAGES.to_string()))
}

fn postgres(runtime: &Runtime, settings: &[&str], what: &str) {
    let server = runtime.block_on(PostgresServer::start_with(settings));
    let pool: PgPool = runtime.block_on(async {
        let builder = PostgresStore::builder().allow_data_loss(true);
        builder.connect(&server.url()).await.unwrap();
        PgPool::connect(&server.url()).await.unwrap()
    });
    for (key, keys) in [("NULL", "no keys"), ("(n % 1000)::text", "1,000 keys")] {
        let measure = || {
            runtime.block_on(sqlx::raw_sql(filled(FILL_POSTGRES, key)).execute(&pool)).unwrap();
            relay(runtime, &pool)
        };
        report(&format!("PostgreSQL, {what}, {keys}"), measure);
    }
}

fn sqlite(runtime: &Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("records.db").display());
    let pool = runtime.block_on(async {
        SqliteStore::connect(&url).await.unwrap();
        SqlitePool::connect(&url).await.unwrap()
    });
    for (key, keys) in [("NULL", "no keys"), ("n % 1000", "1,000 keys")] {
        let measure = || {
            runtime.block_on(sqlx::raw_sql(filled(FILL_SQLITE, key)).execute(&pool)).unwrap();
            relay(runtime, &pool)
        };
        report(&format!("SQLite, {keys}"), measure);
    }
}

fn report(what: &str, mut measure: impl FnMut() -> f64) {
    let [rate] = medians(ROUNDS, [&mut measure]);
    row(what, "/s", rate, "the bar", LEAST, Bar::AtLeast(1.0));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    head();
    postgres(&runtime, &["fsync=off", "full_page_writes=off"], "without fsync");
    postgres(&runtime, &[], "as installed");
    sqlite(&runtime);
}
