//! Every store keeps every rule, on its own and behind what it may be wrapped in.

use std::{sync::Arc, time::Duration};

use idempotent_runtime::{
    Idempotency, Store, conformance_suite,
    store::memory::MemoryStore,
    testing::{
        Fault, FaultyStore, ManualClock, Method,
        conformance::{Fixture, LETTER_RULES, RULES, Rule, TRANSACTION_RULES},
    },
};
use idempotent_tests::{backend::Backend, on_every_store};
use sqlx::PgPool;

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

/// Two stores on one backend, whose time is moved.
async fn moved(backend: Backend) -> Fixture {
    let backend = Arc::new(backend);
    let stores = [backend.store().await, backend.store().await];
    moved_with(backend, stores).await
}

async fn moved_with(backend: Arc<Backend>, [first, second]: [Arc<dyn Store>; 2]) -> Fixture {
    let fixture = Fixture::new(first, second).tick(backend.tick());
    let fixture = match &*backend {
        Backend::Postgres { database } => fixture.transactions(PgPool::connect(&database.url()).await.expect("a pool")),
        Backend::Sqlite { file } => fixture.transactions(file.pool(|options| options)),
        Backend::Memory { .. } | Backend::Cluster { .. } | Backend::Redis { .. } => fixture,
    };
    fixture.moved(move |by| {
        let backend = Arc::clone(&backend);
        Box::pin(async move { backend.advance(by).await })
    })
}

conformance_suite!(mod redis_store, async || moved(Backend::redis().await).await);

conformance_suite!(mod redis_store_on_valkey, async || moved(Backend::valkey().await).await);

conformance_suite!(mod postgres_store: Transactional + DeadLetters, async || moved(Backend::postgres().await).await);

conformance_suite!(mod sqlite_store: Transactional + DeadLetters, async || moved(Backend::sqlite().await).await);

/// A decorator hands on what the store behind it offers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decorators_keep_what_a_store_offers_beyond() {
    for rule in TRANSACTION_RULES.iter().chain(LETTER_RULES) {
        let backend = Arc::new(Backend::sqlite().await);
        let cached = Idempotency::builder().local_cache(16 << 20).build(backend.store().await);
        let stores = [Arc::clone(cached.store()), Arc::new(FaultyStore::new(backend.store().await)) as Arc<dyn Store>];
        rule.check(moved_with(backend, stores).await).await;
    }
}

/// Where the ends of records are not moved, the store's own clock comes to them.
async fn time_passes_by_itself(backend: Backend) {
    let backend = Arc::new(backend);
    for rule in ["lease_ends_when_it_says", "done_record_is_kept_for_its_ttl"] {
        let fixture = Fixture::new(backend.store().await, backend.store().await).tick(Duration::from_millis(500));
        Rule::named(rule).expect("a rule").check(fixture.keep(Arc::clone(&backend))).await;
    }
}

on_every_store!(without memory: time_passes_by_itself);

/// The store of a handle with a local cache, on a store that shows nothing without being asked.
fn cached(store: MemoryStore) -> Arc<dyn Store> {
    let store = FaultyStore::new(store);
    store.always(Method::Peek, Fault::LOST_REQUEST);
    Arc::clone(Idempotency::builder().local_cache(16 << 20).build(store).store())
}

// In real time: the cache does not go by a clock of the store's that is set by hand.
conformance_suite!(mod local_cache, async || {
    let store = cached(MemoryStore::new());
    Fixture::new(Arc::clone(&store), store).tick(Duration::from_millis(250))
});

/// All rules but one: what a cache shows after a `forget` elsewhere is not what the model has, for up to a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_local_caches_keep_the_rules() {
    let exempt = "random_steps_agree_with_the_model";
    let mut checks = tokio::task::JoinSet::new();
    for rule in RULES.iter().filter(|rule| rule.name() != exempt) {
        let store = MemoryStore::new();
        let fixture = Fixture::new(cached(store.clone()), cached(store)).tick(Duration::from_millis(250));
        checks.spawn(rule.check(fixture));
    }
    assert_eq!(checks.join_all().await.len(), RULES.len() - 1);
}
