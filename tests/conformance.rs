//! Every store keeps every rule, on its own and behind what it may be wrapped in.

use std::{sync::Arc, time::Duration};

use idempotent_runtime::{
    Store, conformance_suite,
    store::{memory::MemoryStore, postgres::PostgresStore, redis::RedisStore, sqlite::SqliteStore},
    testing::{FaultyStore, ManualClock, conformance::Fixture},
};
use idempotent_tests::{postgres_server::PostgresServer, redis_server::RedisServer, sqlite_file::SqliteFile};

fn memory() -> (MemoryStore, ManualClock) {
    let clock = ManualClock::new();
    (MemoryStore::builder().clock(&clock).build(), clock)
}

conformance_suite!(mod memory_store, async || {
    let (store, clock) = memory();
    Fixture::new(store.clone(), store).clock(clock)
});

conformance_suite!(mod memory_store_in_real_time, async || {
    let store = MemoryStore::new();
    // Edges to the nanosecond are tested with the clock set by hand; here, what a busy machine can tell apart.
    Fixture::new(store.clone(), store).tick(Duration::from_millis(250))
});

conformance_suite!(mod pointers, async || {
    let (store, clock) = memory();
    let (arc, boxed): (Arc<dyn Store>, Box<dyn Store>) = (Arc::new(store.clone()), Box::new(store));
    Fixture::new(arc, boxed).clock(clock)
});

conformance_suite!(mod decorators, async || {
    let (store, clock) = memory();
    Fixture::new(FaultyStore::new(Box::new(store.clone())), FaultyStore::new(Arc::new(store))).clock(clock)
});

conformance_suite!(mod redis_store, async || {
    let server = RedisServer::start().await;
    let url = server.url();
    let connect = async || RedisStore::connect(&url).await.expect("a store");
    Fixture::new(connect().await, connect().await).tick(Duration::from_millis(250)).keep(server)
});

conformance_suite!(mod postgres_store, async || {
    let server = PostgresServer::start().await;
    let url = server.url();
    let connect = async || PostgresStore::connect(&url).await.expect("a store");
    Fixture::new(connect().await, connect().await).tick(Duration::from_millis(250)).keep(server)
});

conformance_suite!(mod sqlite_store, async || {
    let file = SqliteFile::new();
    let connect = async || SqliteStore::connect(&file.url()).await.expect("a store");
    Fixture::new(connect().await, connect().await).tick(Duration::from_millis(250)).keep(file)
});
