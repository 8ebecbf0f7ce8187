//! Whole annotated calls on PostgreSQL and SQLite, against the very statements that they consist of, from a bare sqlx
//! loop: the same text, prepared, with the same inputs, on the same pool or on as many connections with the same settings.
//!
//! `cargo bench -p idempotent-runtime --features postgres,sqlite --bench sql_calls` (starts a PostgreSQL server of its
//! own, which leaves it to the operating system when to write to disk, so that what is compared is work, not the disk;
//! SQLite's file is in the temporary folder, and is synced to disk as ever: where others use the disk, put the folder into
//! memory with `TMPDIR=/dev/shm`)
#![expect(clippy::unwrap_used, reason = "a benchmark stops when it is wrong")]

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
#[path = "../src/store/sqlite/times.rs"]
mod times;

use std::{ops::Range, sync::Arc, time::Duration};

use idempotent_runtime::{
    Error, Idempotency, idempotent,
    store::{Nonce, postgres::PostgresStore, sqlite::SqliteStore},
};
use postgres_server::PostgresServer;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgPool, Row as _, SqlSafeStr as _, SqlStr, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use support::{Bar, Order, Receipt, Side, head, medians, rate, row};
use tokio::runtime::Runtime;

const ROUNDS: usize = 11;
const CONNECTIONS: u32 = 10;
/// The number of callers at a time. The first is higher than the number of connections: their calls travel together. One
/// caller has no company, and waits for none.
const CONCURRENT: [usize; 2] = [64, 1];
const HITS: usize = 5_000;
const MISSES: usize = 2_500;
const SQLITE_HITS: usize = 4_000;
const SQLITE_MISSES: usize = 200;
const LEASE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Of a single caller.
const ALONE: Bar = Bar::AtLeast(0.95);

#[idempotent(key = order_id, store = store, skip(store))]
async fn charge(store: &Idempotency, order_id: &str, order: &Order) -> Result<Receipt, Error> {
    Ok(Receipt::of(order_id, order))
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    head();
    postgres(&runtime);
    sqlite(&runtime);
}

fn postgres(runtime: &Runtime) {
    let server = runtime.block_on(PostgresServer::start_with(&["fsync=off", "full_page_writes=off"]));
    let pool = runtime.block_on(async {
        let options = server.url().parse::<sqlx::postgres::PgConnectOptions>().unwrap().disable_statement_logging();
        let options =
            PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false).connect_with(options);
        options.await.unwrap()
    });
    let own = runtime.block_on(async {
        let builder = PostgresStore::builder().max_connections(CONNECTIONS).allow_data_loss(true);
        builder.connect(&server.url()).await.unwrap()
    });
    let own = Arc::new(Annotated::new(Idempotency::new(own)));
    let shared = Arc::new(Annotated::new(Idempotency::new(PostgresStore::new(pool.clone()).unwrap())));
    let bare = Arc::new(BarePostgres::new(pool));

    let next = Numbers::default();
    for (concurrent, kind) in rows() {
        let calls = calls(concurrent, if kind == "hit" { HITS } else { MISSES });
        let figures = medians(
            ROUNDS,
            [
                &mut || rate(runtime, &own, kind, next.calls(kind, calls), concurrent),
                &mut || rate(runtime, &shared, kind, next.calls(kind, calls), concurrent),
                &mut || rate(runtime, &bare, kind, next.calls(kind, calls), concurrent),
            ],
        );
        let [own, shared, bare] = figures;
        let bar = |bar| if concurrent == 1 { ALONE } else { bar };
        report(&format!("PostgreSQL, {kind}, {concurrent} at once"), own, bare, bar(Bar::AtLeast(2.0)));
        report("the same, on the same pool", shared, bare, bar(Bar::AtLeast(2.0)));
    }
}

/// The numbers of callers, and what they do.
fn rows() -> impl Iterator<Item = (usize, &'static str)> {
    CONCURRENT.into_iter().flat_map(|concurrent| ["hit", "miss"].map(|kind| (concurrent, kind)))
}

/// The number of calls of a round: a single caller makes fewer.
fn calls(concurrent: usize, calls: usize) -> usize {
    if concurrent == 1 { calls / 5 } else { calls }
}

fn sqlite(runtime: &Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let ours = runtime.block_on(SqliteStore::connect(&format!("sqlite://{}", path.display()))).unwrap();
    let ours = Arc::new(Annotated::new(Idempotency::new(ours)));
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging();
    let pool = |connections| {
        let options = options.clone();
        SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false).connect_lazy_with(options)
    };
    let _guard = runtime.enter();
    let alone = Arc::new(BareSqlite::new(pool(1)));
    let many = Arc::new(BareSqlite::new(pool(5)));

    let next = Numbers::default();
    for (concurrent, kind) in rows() {
        let calls = calls(concurrent, if kind == "hit" { SQLITE_HITS } else { SQLITE_MISSES });
        let figures = medians(
            ROUNDS,
            [
                &mut || rate(runtime, &ours, kind, next.calls(kind, calls), concurrent),
                &mut || rate(runtime, &many, kind, next.calls(kind, calls), concurrent),
                &mut || rate(runtime, &alone, kind, next.calls(kind, calls), concurrent),
            ],
        );
        let [ours, many, alone] = figures;
        let bar = match (concurrent, kind) {
            (1, _) => ALONE,
            (_, "miss") => Bar::AtLeast(8.0),
            _ => Bar::AtLeast(0.9),
        };
        report(&format!("SQLite, {kind}, {concurrent} at once, against 5 connections"), ours, many, bar);
        report("the same, against 1 connection", ours, alone, bar);
    }
}

fn report(what: &str, ours: f64, bare: f64, bar: Bar) {
    row(what, "/s", ours, "the same statements", bare, bar);
}

/// Numbers of keys: the same again for hits, fresh ones for misses.
#[derive(Default)]
struct Numbers(std::cell::Cell<usize>);

impl Numbers {
    fn calls(&self, kind: &str, calls: usize) -> Range<usize> {
        if kind == "hit" {
            return 0..calls;
        }
        let first = self.0.get();
        self.0.set(first + calls);
        first..first + calls
    }
}

/// The annotated function.
struct Annotated {
    idempotency: Idempotency,
    order: Order,
}

impl Annotated {
    fn new(idempotency: Idempotency) -> Self {
        Self { idempotency, order: Order::of_size(100) }
    }
}

impl Side for Annotated {
    async fn call(&self, key: &str) -> Receipt {
        charge(&self.idempotency, key, &self.order).await.unwrap()
    }
}

/// The text of a statement as the stores fill it in.
macro_rules! statement {
    ($file:literal) => {
        filled(include_str!(concat!("../src/store/", $file)))
    };
}

fn filled(sql: &str) -> SqlStr {
    let settings = include_str!("../src/store/postgres/settings.sql").replace("{lock_timeout}", "3000");
    let asked = if sql.contains("standing AS") {
        include_str!("../src/store/postgres/asked/claim.sql")
    } else {
        include_str!("../src/store/postgres/asked/completion.sql")
    };
    let sql =
        sql.replace("{settings}", &settings).replace("{asked}", asked).replace("{answer}", "SELECT * FROM answer");
    AssertSqlSafe(times::fill(&sql).replace("{table}", "idempotent_records")).into_sql_str()
}

const OPERATION: &str = "bare";
const FINGERPRINT: [u8; 32] = [7; 32];

/// So that any abandoned or lapsed record may be taken over.
const LONGEST_REST: i64 = i64::MAX >> 10;

/// A text as long as the payload with which the PostgreSQL store notifies waiters.
const PAYLOAD: &str = "0123456789abcdef0123456789abcdef";

struct BarePostgres {
    pool: PgPool,
    claim: SqlStr,
    complete: SqlStr,
    order: Order,
}

impl BarePostgres {
    fn new(pool: PgPool) -> Self {
        let (claim, complete) = (statement!("postgres/claim.sql"), statement!("postgres/complete.sql"));
        Self { pool, claim, complete, order: Order::of_size(100) }
    }
}

impl Side for BarePostgres {
    async fn call(&self, key: &str) -> Receipt {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap();
        let nonce = Nonce::random();
        let claim = sqlx::query(self.claim.clone())
            .bind(OPERATION)
            .bind(key)
            .bind(FINGERPRINT.as_slice())
            .bind(nonce.as_bytes().as_slice())
            .bind(micros(LEASE))
            .bind(micros(TTL))
            .bind(LONGEST_REST)
            .bind(None::<&[u8]>)
            .bind(None::<&str>);
        let row = claim.fetch_one(&self.pool).await.unwrap();
        if !row.get::<bool, _>(1) {
            return serde_json::from_slice(row.get(16)).unwrap();
        }
        let receipt = Receipt::of(key, &self.order);
        let complete = sqlx::query(self.complete.clone())
            .bind(OPERATION)
            .bind(key)
            .bind(nonce.as_bytes().as_slice())
            .bind("ok")
            .bind(serde_json::to_vec(&receipt).unwrap())
            .bind(None::<&str>)
            .bind(micros(TTL))
            .bind(PAYLOAD);
        complete.fetch_one(&self.pool).await.unwrap();
        receipt
    }
}

struct BareSqlite {
    pool: SqlitePool,
    look: SqlStr,
    claim: SqlStr,
    complete: SqlStr,
    order: Order,
}

impl BareSqlite {
    fn new(pool: SqlitePool) -> Self {
        let look = statement!("sqlite/look.sql");
        let (claim, complete) = (statement!("sqlite/claim.sql"), statement!("sqlite/complete.sql"));
        Self { pool, look, claim, complete, order: Order::of_size(100) }
    }
}

impl Side for BareSqlite {
    async fn call(&self, key: &str) -> Receipt {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap();
        let look = sqlx::query(self.look.clone()).bind(OPERATION).bind(key);
        if let Some(row) = look.fetch_optional(&self.pool).await.unwrap() {
            return serde_json::from_slice(row.get(7)).unwrap();
        }
        let nonce = Nonce::random();
        let claim = sqlx::query(self.claim.clone())
            .bind(OPERATION)
            .bind(key)
            .bind(FINGERPRINT.as_slice())
            .bind(nonce.as_bytes().as_slice())
            .bind(millis(LEASE))
            .bind(millis(TTL))
            .bind(LONGEST_REST)
            .bind(None::<&str>)
            .bind(None::<&[u8]>);
        // To the end: a statement that writes commits with its last step.
        assert_eq!(claim.fetch_all(&self.pool).await.unwrap().len(), 1);
        let receipt = Receipt::of(key, &self.order);
        let complete = sqlx::query(self.complete.clone())
            .bind(OPERATION)
            .bind(key)
            .bind(nonce.as_bytes().as_slice())
            .bind("ok")
            .bind(serde_json::to_vec(&receipt).unwrap())
            .bind(None::<&str>)
            .bind(millis(TTL));
        assert_eq!(complete.fetch_all(&self.pool).await.unwrap().len(), 1);
        receipt
    }
}
