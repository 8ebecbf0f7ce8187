//! The four stores, Redis on two servers: a test is written once, and runs on each of them.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::unused_async,
    reason = "a harness that cannot do its work fails the test; all stores are opened alike"
)]

use std::{future::Future, sync::Arc, time::Duration};

use idempotent_runtime::{
    Idempotency, IdempotencyBuilder, RecordKey, Store, StoreErrorKind,
    store::{memory::MemoryStore, postgres::PostgresStore, redis::RedisStore, sqlite::SqliteStore},
    testing::{Fault, FaultyStore, ManualClock, Method},
};

use crate::{
    caller::Caller,
    postgres_database::PostgresDatabase,
    redis_server::{RedisCluster, RedisProgram, RedisServer},
    sqlite_file::SqliteFile,
};

/// Makes a test of each `async fn(Backend)` on each store: `s01_…::memory`, `s01_…::postgres`, and so on.
///
/// `only redis:` before the names leaves the other stores out, and `without memory:` leaves that one out; `with a cluster:`
/// adds one of Redis. `one_thread:`
/// makes tests on the memory store and on Redis whose runtime has one thread, so that its time can be stopped.
#[macro_export]
macro_rules! on_every_store {
    (@ $name:ident $store:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $store() {
            $crate::backend::in_time(super::$name($crate::backend::Backend::$store().await)).await;
        }
    };
    (only $store:ident: $($name:ident),* $(,)?) => {$(
        mod $name {
            $crate::on_every_store!(@ $name $store);
        }
    )*};
    (without memory, with a cluster: $($name:ident),* $(,)?) => {$(
        mod $name {
            $crate::on_every_store!(@ $name cluster);
            $crate::on_every_store!(@ $name postgres);
            $crate::on_every_store!(@ $name redis);
            $crate::on_every_store!(@ $name sqlite);
            $crate::on_every_store!(@ $name valkey);
        }
    )*};
    (without memory: $($name:ident),* $(,)?) => {$(
        mod $name {
            $crate::on_every_store!(@ $name postgres);
            $crate::on_every_store!(@ $name redis);
            $crate::on_every_store!(@ $name sqlite);
            $crate::on_every_store!(@ $name valkey);
        }
    )*};
    (one_thread: $($name:ident),* $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn memory() {
                super::$name($crate::backend::Backend::memory().await).await;
            }

            #[tokio::test]
            async fn redis() {
                super::$name($crate::backend::Backend::redis().await).await;
            }
        }
    )*};
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            $crate::on_every_store!(@ $name memory);
            $crate::on_every_store!(@ $name postgres);
            $crate::on_every_store!(@ $name redis);
            $crate::on_every_store!(@ $name sqlite);
            $crate::on_every_store!(@ $name valkey);
        }
    )*};
}

/// Fails a test that waits for what does not come, instead of letting it hang.
///
/// # Panics
///
/// After a minute.
pub async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_mins(1), test).await.expect("the test ends");
}

/// Storage of one kind, empty, with a clock that can be moved ahead.
#[derive(Debug)]
pub enum Backend {
    /// In this process.
    Memory {
        /// The store, with its records.
        store: MemoryStore,
        /// Its clock, set by hand.
        clock: ManualClock,
    },
    /// A database on the shared server.
    Postgres {
        /// The database.
        database: PostgresDatabase,
    },
    /// A cluster of Redis.
    Cluster {
        /// The cluster.
        cluster: RedisCluster,
    },
    /// A server of Redis or Valkey that writes every acknowledged change to disk first.
    Redis {
        /// The server.
        server: RedisServer,
    },
    /// A file.
    Sqlite {
        /// The file.
        file: SqliteFile,
    },
}

impl Backend {
    /// The memory store.
    pub async fn memory() -> Self {
        let clock = ManualClock::new();
        Self::Memory { store: MemoryStore::builder().clock(&clock).build(), clock }
    }

    /// PostgreSQL.
    pub async fn postgres() -> Self {
        Self::Postgres { database: PostgresDatabase::create().await }
    }

    /// A cluster of Redis.
    pub async fn cluster() -> Self {
        Self::Cluster { cluster: RedisCluster::start(RedisProgram::Redis).await }
    }

    /// Redis.
    pub async fn redis() -> Self {
        Self::Redis { server: RedisProgram::Redis.start_durable().await }
    }

    /// Redis's store on Valkey.
    pub async fn valkey() -> Self {
        Self::Redis { server: RedisProgram::Valkey.start_durable().await }
    }

    /// SQLite.
    pub async fn sqlite() -> Self {
        Self::Sqlite { file: SqliteFile::new() }
    }

    /// The server of a test that only runs on Redis.
    #[must_use]
    pub fn server(&self) -> &RedisServer {
        match self {
            Self::Redis { server } => server,
            _ => panic!("the store has no Redis server"),
        }
    }

    /// The server of a test that only runs on Redis, to kill and restart it.
    pub fn server_mut(&mut self) -> &mut RedisServer {
        match self {
            Self::Redis { server } => server,
            _ => panic!("the store has no Redis server"),
        }
    }

    /// A store of its own connection, without faults.
    pub async fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory { store, .. } => Arc::new(store.clone()),
            Self::Postgres { database } => Arc::new(PostgresStore::connect(&database.url()).await.expect("a store")),
            Self::Cluster { cluster } => Arc::new(RedisStore::connect(&cluster.url()).await.expect("a store")),
            Self::Redis { server } => Arc::new(RedisStore::connect(&server.url()).await.expect("a store")),
            Self::Sqlite { file } => Arc::new(SqliteStore::connect(&file.url()).await.expect("a store")),
        }
    }

    /// The URL with which another process connects.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Memory { .. } => panic!("the memory store is of one process"),
            Self::Postgres { database } => database.url(),
            Self::Cluster { cluster } => cluster.url(),
            Self::Redis { server } => server.url(),
            Self::Sqlite { file } => file.url(),
        }
    }

    /// A caller that is a process of its own, as far as the engine can tell.
    pub async fn caller(&self) -> Caller {
        self.caller_with(Idempotency::builder()).await
    }

    /// A caller with other limits.
    pub async fn caller_with(&self, builder: IdempotencyBuilder) -> Caller {
        let store = FaultyStore::new(self.store().await);
        Caller { idempotency: builder.build(store.clone()), store }
    }

    /// A caller with a local cache, on a store that shows nothing without being asked.
    pub async fn caching_caller(&self) -> Caller {
        self.caller_with(Idempotency::builder().local_cache(1 << 20)).await.without_peeking()
    }

    /// Lets the store's time pass, and nobody else's.
    pub async fn advance(&self, by: Duration) {
        match self {
            Self::Memory { clock, .. } => clock.advance(by),
            Self::Postgres { database } => database.advance(by).await,
            Self::Cluster { cluster } => {
                for node in &cluster.nodes[..3] {
                    node.advance(by).await;
                }
            }
            Self::Redis { server } => server.advance(by).await,
            Self::Sqlite { file } => file.advance(by).await,
        }
    }

    /// A time that is short to the store and longer than a test takes between two steps.
    #[must_use]
    pub const fn tick(&self) -> Duration {
        match self {
            Self::Memory { .. } => Duration::from_nanos(1),
            _ => Duration::from_secs(2),
        }
    }

    /// Makes what is stored under a key unreadable.
    pub async fn corrupt(&self, caller: &Caller, key: &RecordKey) {
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
                       (operation, key, state, fingerprint, nonce, attempt, expires_at, life_began_at)
                     VALUES ('{operation}', '{key}', 'x', '', '', 1, 'infinity', now())
                     ON CONFLICT (operation, key) DO UPDATE SET state = 'x'"
                );
                database.execute(&sql).await;
            }
            Self::Cluster { .. } => panic!("no test of a cluster has records that cannot be read"),
            Self::Redis { server } => {
                server.command::<()>(&["SET", &redis_key(key), "not a record", "PX", "600000"]).await;
            }
            Self::Sqlite { file } => {
                let (operation, key) = (key.operation(), key.key());
                let sql = format!(
                    "INSERT INTO idempotent_records
                       (operation, key, state, fingerprint, nonce, fence, attempt, expires_at, life_began_at)
                     VALUES ('{operation}', '{key}', 'ok', x'00', x'00', 1, 1, 1e15, 0)
                     ON CONFLICT DO UPDATE SET fingerprint = x'00'"
                );
                file.execute(&sql).await;
            }
        }
    }
}

/// The key of a record on a Redis server.
#[must_use]
pub fn redis_key(key: &RecordKey) -> String {
    format!("idempotent:{}", key.as_str())
}
