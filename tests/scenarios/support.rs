//! What the scenarios share: a store of each kind, handles on it, its time, effects, processes.
//!
//! A scenario is written once and runs on every store that [`scenarios!`](crate::scenarios) lists.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use idempotent_runtime::{
    Error, Execution, Idempotency, IdempotencyBuilder, Operation, RecordKey, Store, StoreErrorKind,
    store::{memory::MemoryStore, postgres::PostgresStore, redis::RedisStore, sqlite::SqliteStore},
    testing::{Fault, FaultyStore, Gate, ManualClock, Method},
};
use idempotent_tests::{postgres_database::PostgresDatabase, redis_server::RedisServer, sqlite_file::SqliteFile};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_secs(3600);

/// Makes a test of each scenario on each store: `s01_…::memory`, `s01_…::postgres`, and so on.
///
/// A scenario is an `async fn(Backend)`. `only redis` before the names leaves the other stores out.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use $crate::support::Backend;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn memory() {
                $crate::support::in_time(super::$name(Backend::memory())).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                $crate::support::in_time(super::$name(Backend::postgres().await)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn redis() {
                $crate::support::in_time(super::$name(Backend::redis().await)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                $crate::support::in_time(super::$name(Backend::sqlite())).await;
            }
        }
    )*};
    (only redis: $($name:ident),* $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn redis() {
                $crate::support::in_time(super::$name($crate::support::Backend::redis().await)).await;
            }
        }
    )*};
}

/// A scenario that waits for what does not come fails, instead of hanging.
pub(crate) async fn in_time(scenario: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), scenario).await.expect("the scenario ends");
}

/// Storage of one kind, empty, with a clock that can be moved ahead.
pub(crate) enum Backend {
    Memory { store: MemoryStore, clock: ManualClock },
    Postgres { database: PostgresDatabase },
    Redis { server: RedisServer },
    Sqlite { file: SqliteFile },
}

impl Backend {
    pub(crate) fn memory() -> Self {
        let clock = ManualClock::new();
        Self::Memory { store: MemoryStore::builder().clock(&clock).build(), clock }
    }

    pub(crate) async fn postgres() -> Self {
        Self::Postgres { database: PostgresDatabase::create().await }
    }

    pub(crate) async fn redis() -> Self {
        Self::Redis { server: RedisServer::start_durable().await }
    }

    pub(crate) fn sqlite() -> Self {
        Self::Sqlite { file: SqliteFile::new() }
    }

    /// The server, for scenarios that are only Redis's.
    pub(crate) fn server(&self) -> &RedisServer {
        match self {
            Self::Redis { server } => server,
            _ => panic!("the store has no Redis server"),
        }
    }

    /// The same, to kill and restart it.
    pub(crate) fn server_mut(&mut self) -> &mut RedisServer {
        match self {
            Self::Redis { server } => server,
            _ => panic!("the store has no Redis server"),
        }
    }

    /// A store of its own connection, without faults.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory { store, .. } => Arc::new(store.clone()),
            Self::Postgres { database } => Arc::new(PostgresStore::connect(database.url()).await.expect("a store")),
            Self::Redis { server } => Arc::new(RedisStore::connect(&server.url()).await.expect("a store")),
            Self::Sqlite { file } => Arc::new(SqliteStore::connect(&file.url()).await.expect("a store")),
        }
    }

    /// Somebody who calls: a process of its own, as far as the engine can tell.
    pub(crate) async fn caller(&self) -> Caller {
        self.caller_with(Idempotency::builder()).await
    }

    /// The same with other limits.
    pub(crate) async fn caller_with(&self, builder: IdempotencyBuilder) -> Caller {
        let store = FaultyStore::new(self.store().await);
        Caller { idempotency: builder.build(store.clone()), store }
    }

    /// Somebody with a local cache, on a store that shows nothing without being asked.
    pub(crate) async fn caching_caller(&self) -> Caller {
        self.caller_with(Idempotency::builder().local_cache(1 << 20)).await.without_peeking()
    }

    /// Lets the store's time pass, and nobody else's.
    pub(crate) async fn advance(&self, by: Duration) {
        match self {
            Self::Memory { clock, .. } => clock.advance(by),
            Self::Postgres { database } => {
                let by = by.as_micros();
                let sql = format!(
                    "UPDATE idempotent_records SET
                        lease_until = lease_until - {by} * interval '1 microsecond',
                        expires_at = expires_at - {by} * interval '1 microsecond'"
                );
                database.execute(&sql).await;
            }
            Self::Redis { server } => {
                let script = "for _, key in ipairs(redis.call('KEYS', 'idempotent:*')) do
                    redis.call('PEXPIRE', key, redis.call('PTTL', key) - ARGV[1]) end";
                server.command::<()>(&["EVAL", script, "0", &by.as_millis().to_string()]).await;
            }
            Self::Sqlite { file } => {
                let by = by.as_millis();
                let sql = format!(
                    "UPDATE idempotent_records SET lease_until = lease_until - {by}, expires_at = expires_at - {by}"
                );
                file.execute(&sql).await;
            }
        }
    }

    /// A time that is short to the store and longer than a test takes between two steps.
    pub(crate) const fn tick(&self) -> Duration {
        match self {
            Self::Memory { .. } => Duration::from_nanos(1),
            _ => Duration::from_secs(2),
        }
    }

    /// Makes what is stored under a key unreadable.
    pub(crate) async fn corrupt(&self, caller: &Caller, key: &RecordKey) {
        match self {
            Self::Memory { .. } => {
                for method in [Method::Claim, Method::Inspect, Method::Peek] {
                    caller.store.always(method, Fault::FailBefore(StoreErrorKind::Corrupt));
                }
            }
            Self::Postgres { database } => {
                let (operation, key) = (key.operation(), key.key());
                let sql = format!(
                    "INSERT INTO idempotent_records
                       (operation, key, state, fingerprint, nonce, attempt, expires_at, first_claimed_at)
                     VALUES ('{operation}', '{key}', 'x', '', '', 1, 'infinity', now())
                     ON CONFLICT (operation, key) DO UPDATE SET state = 'x'"
                );
                database.execute(&sql).await;
            }
            Self::Redis { server } => {
                server.command::<()>(&["SET", &redis_key(key), "not a record", "PX", "600000"]).await;
            }
            Self::Sqlite { file } => {
                let (operation, key) = (key.operation(), key.key());
                let sql = format!(
                    "INSERT INTO idempotent_records
                       (operation, key, state, fingerprint, nonce, fence, attempt, expires_at, first_claimed_at)
                     VALUES ('{operation}', '{key}', 'ok', x'00', x'00', 1, 1, 1e15, 0)
                     ON CONFLICT DO UPDATE SET fingerprint = x'00'"
                );
                file.execute(&sql).await;
            }
        }
    }
}

/// The key of a record on the server.
pub(crate) fn redis_key(key: &RecordKey) -> String {
    format!("idempotent:{}", key.as_str())
}

/// The record of an operation and a key that are written as they are stored.
pub(crate) fn record_key(operation: &str, key: &str) -> RecordKey {
    format!("{operation}|{key}").parse::<RecordKey>().expect("a record key")
}

/// A handle, and its own view of the store, which can be made to fail.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) idempotency: Idempotency,
    pub(crate) store: FaultyStore<Arc<dyn Store>>,
}

impl Caller {
    /// Has every call ask the store, also where it could answer without.
    pub(crate) fn without_peeking(self) -> Self {
        self.store.always(Method::Peek, Fault::LOST_REQUEST);
        self
    }

    /// How often the store was asked for anything.
    pub(crate) fn calls(&self) -> usize {
        use Method::{Abandon, Claim, Complete, Fence, Forget, Inspect, List, PurgeExpired, Release, Renew, Subscribe};
        let asking = [Claim, Renew, Complete, Release, Abandon, Fence, Forget, Inspect, List, PurgeExpired, Subscribe];
        asking.map(|method| self.store.calls(method)).into_iter().sum()
    }
}

/// What a body did outside: a ledger that only counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects(Arc<AtomicU64>);

impl Effects {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One more; says which it is, from 1.
    pub(crate) fn happen(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Starts a run whose body waits at the gate, and answers when it has come there. Its result is its attempt.
///
/// The key is also its only argument.
pub(crate) async fn running(
    caller: &Caller,
    operation: Operation,
    key: &'static str,
    gate: &Gate,
) -> JoinHandle<Result<u32, Error>> {
    let (idempotency, held) = (caller.idempotency.clone(), gate.clone());
    let mut run = tokio::spawn(async move {
        let body = async {
            held.pass().await;
            Ok(Execution::current().expect("an execution").attempt())
        };
        idempotency.call(operation).key(key).arguments(key).run(body).await
    });
    tokio::select! {
        () = gate.reached(1) => run,
        ended = &mut run => panic!("the body did not run: {ended:?}"),
    }
}

/// An error of a body, or the library's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// For good: the predicates of these tests keep it.
    Declined { code: i64 },
    /// For now.
    Unreachable,
    #[serde(skip)]
    Idempotency(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

impl Failure {
    /// Whether the error will be the same next time.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::Declined { .. })
    }
}

/// Polls once: how far a call comes without being woken.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Where what is random comes from: printed, and repeated with `SCENARIO_SEED=<seed>`.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("SCENARIO_SEED").ok();
    let seed = given.map_or_else(rand::random, |seed| seed.parse().expect("a number in SCENARIO_SEED"));
    eprintln!("SCENARIO_SEED={seed}");
    seed
}
