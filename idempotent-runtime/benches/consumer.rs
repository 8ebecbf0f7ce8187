//! Messages that are worked off exactly once in PostgreSQL, 16 at a time, against the same statements by hand: messages a second,
//! and the statements that the server has run for each.
//!
//! `cargo bench -p idempotent-runtime --features consumer,postgres --bench consumer` (starts PostgreSQL servers of its own: one that leaves it
//! to the operating system when to write to disk, and one with the default settings)
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

use std::{ops::Range, time::Instant};

use futures_util::stream;
use idempotent_runtime::{
    Idempotency,
    consumer::{BoxError, Dead, Delivery, Inbox, Limits, Message},
    store::{Nonce, postgres::PostgresStore},
};
use postgres_server::PostgresServer;
use sqlx::{ConnectOptions as _, postgres::PgPool, postgres::PgPoolOptions};
use support::{Bar, head, medians, row};
use tokio::{runtime::Runtime, task::JoinSet};

const ROUNDS: usize = 5;
const MESSAGES: u32 = 4_000;
const AT_ONCE: usize = 16;

const TABLES: &str = "CREATE TABLE booked (id text PRIMARY KEY, amount bigint NOT NULL);
    CREATE TABLE by_hand (
        id text PRIMARY KEY, state text NOT NULL, fingerprint bytea NOT NULL, nonce bytea NOT NULL,
        lease_until timestamptz, expires_at timestamptz NOT NULL, result bytea
    );
    CREATE INDEX by_hand_expiry ON by_hand (expires_at);
    CREATE EXTENSION pg_stat_statements";

const CLAIM: &str = "INSERT INTO by_hand AS record (id, state, fingerprint, nonce, lease_until, expires_at)
    VALUES ($1, 'running', $2, $3, now() + interval '30 seconds', now() + interval '1 day')
    ON CONFLICT (id) DO UPDATE SET nonce = excluded.nonce, lease_until = excluded.lease_until
    WHERE record.state = 'running' AND record.lease_until <= now() AND record.fingerprint = excluded.fingerprint
    RETURNING nonce";
const EFFECT: &str = "INSERT INTO booked (id, amount) VALUES ($1, 1)";
const END: &str =
    "UPDATE by_hand SET state = 'ok', result = 'null', lease_until = NULL, expires_at = now() + interval '1 day'
    WHERE id = $1 AND nonce = $2 AND state = 'running' RETURNING id";

/// A delivery whose broker answers at once.
struct Given(String);

impl Delivery for Given {
    fn message(&self) -> Message<'_> {
        Message::new(Some(&self.0), b"{\"amount\":1}")
    }

    async fn ack(self) -> Result<(), BoxError> {
        Ok(())
    }

    async fn retry(self, _: std::time::Duration) -> Result<(), BoxError> {
        Err("nothing fails here".into())
    }

    async fn reject(self, _: &Dead) -> Result<(), BoxError> {
        Err("nothing fails here".into())
    }
}

async fn inbox(inbox: &Inbox<sqlx::Error>, pool: &PgPool, numbers: Range<u32>) {
    let deliveries = stream::iter(numbers.map(|number| Given(format!("message-{number}"))));
    let limits = Limits::new(AT_ONCE);
    let book = inbox.run_in(pool, deliveries, limits, std::future::pending(), |tx, message, _| {
        Box::pin(async move {
            sqlx::query(EFFECT).bind(message.id.unwrap_or_default()).execute(&mut **tx.0).await.map(drop)
        })
    });
    assert_eq!(book.await.done, u64::from(MESSAGES));
}

async fn by_hand(pool: &PgPool, numbers: Range<u32>) {
    let mut tasks = JoinSet::new();
    for task in 0..AT_ONCE {
        let (pool, numbers) = (pool.clone(), numbers.clone());
        tasks.spawn(async move {
            for number in numbers.skip(task).step_by(AT_ONCE) {
                let (id, nonce) = (format!("hand-{number}"), *Nonce::random().as_bytes());
                let claim = sqlx::query(CLAIM).bind(&id).bind([7_u8; 32].as_slice()).bind(nonce.as_slice());
                claim.fetch_one(&pool).await.unwrap();
                let mut transaction = pool.begin().await.unwrap();
                sqlx::query(EFFECT).bind(&id).execute(&mut *transaction).await.unwrap();
                sqlx::query(END).bind(&id).bind(nonce.as_slice()).fetch_one(&mut *transaction).await.unwrap();
                transaction.commit().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

fn measure(runtime: &Runtime, settings: &[&str], what: &str) {
    let settings = [settings, &["shared_preload_libraries=pg_stat_statements"]].concat();
    let server = runtime.block_on(PostgresServer::start_with(&settings));
    let (pool, ours) = runtime.block_on(async {
        let options = server.url().parse::<sqlx::postgres::PgConnectOptions>().unwrap().disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(u32::try_from(AT_ONCE).unwrap())
            .test_before_acquire(false)
            .connect_with(options);
        let pool = pool.await.unwrap();
        sqlx::raw_sql(TABLES).execute(&pool).await.unwrap();
        let store = PostgresStore::builder().allow_data_loss(true).connect(&server.url()).await.unwrap();
        let ours = Inbox::<sqlx::Error>::builder(Idempotency::new(store), "billing", "book").build().unwrap();
        (pool, ours)
    });
    let (mut inboxes, mut hands) = (Rounds::default(), Rounds::default());
    let [ours, bare] = medians(
        ROUNDS,
        [&mut || inboxes.round(runtime, &pool, async |numbers| inbox(&ours, &pool, numbers).await), &mut || {
            hands.round(runtime, &pool, async |numbers| by_hand(&pool, numbers).await)
        }],
    );
    row(&format!("messages, {what}"), "/s", ours, "by hand", bare, Bar::AtLeast(0.9));
    row("statements of 100 messages", "", inboxes.statements, "by hand", hands.statements, Bar::None);
}

/// The rounds of one side, each with fresh messages.
#[derive(Default)]
struct Rounds {
    next: u32,
    /// Of 100 messages in the last round.
    statements: f64,
}

impl Rounds {
    /// Messages a second.
    fn round(&mut self, runtime: &Runtime, pool: &PgPool, work_off: impl AsyncFnOnce(Range<u32>)) -> f64 {
        let numbers = self.next..self.next + MESSAGES;
        self.next = numbers.end;
        runtime.block_on(async {
            let before = count(pool).await;
            let start = Instant::now();
            work_off(numbers).await;
            let rate = f64::from(MESSAGES) / start.elapsed().as_secs_f64();
            self.statements = 100.0 * (count(pool).await - before) / f64::from(MESSAGES);
            rate
        })
    }
}

/// The statements that the server has run.
async fn count(pool: &PgPool) -> f64 {
    let sum = "SELECT coalesce(sum(calls), 0)::float8 FROM pg_stat_statements";
    sqlx::query_scalar(sum).fetch_one(pool).await.unwrap()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    head();
    measure(&runtime, &["fsync=off", "full_page_writes=off"], "without fsync");
    measure(&runtime, &[], "as installed");
}
