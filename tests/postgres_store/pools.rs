//! Stores on a pool of the application's, whose bodies need its connections, too; and locks that others hold.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use idempotent_runtime::{
    Error, Idempotency, Operation, Store, StoreErrorKind,
    store::{Appended, ClaimOutcome, Suspension, Transition, postgres::PostgresStore},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::time::{Instant, sleep};

use crate::{PostgresDatabase, Proxy, support::*, wait_for};

async fn small_pool(database: &PostgresDatabase) -> (PgPool, PostgresStore) {
    let pool = PgPoolOptions::new().max_connections(1).connect(&database.url()).await.expect("a pool");
    let store = PostgresStore::new(pool.clone()).expect("a store");
    store.migrate().await.expect("a schema");
    (pool, store)
}

/// The body has the only connection of the pool for longer than its lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_renewed_while_bodies_have_the_whole_pool() {
    let database = PostgresDatabase::create().await;
    let (pool, store) = small_pool(&database).await;
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let operation = || Operation::new("starved").lease(Duration::from_secs(2)).wait(Duration::from_secs(20));
    let run = |pool: Option<PgPool>| {
        let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
        async move {
            most.fetch_max(at_once.fetch_add(1, SeqCst) + 1, SeqCst);
            let held = match &pool {
                Some(pool) => Some(pool.acquire().await.expect("the connection")),
                None => None,
            };
            sleep(Duration::from_secs(5)).await; // a long query
            drop(held);
            at_once.fetch_sub(1, SeqCst);
            Ok::<u32, Error>(1)
        }
    };
    let one = tokio::spawn({
        let (idempotency, body) = (Idempotency::new(store), run(Some(pool)));
        async move { Box::pin(idempotency.call(operation()).key("k").arguments(&1).run(body)).await }
    });
    wait_for("the body to begin", async || most.load(SeqCst) == 1).await;
    let other = Idempotency::connect(&database.url()).await.expect("another process");
    assert_eq!(Box::pin(other.call(operation()).key("k").arguments(&1).run(run(None))).await.expect("a result"), 1);
    assert_eq!(one.await.expect("a task").expect("a result"), 1);
    assert_eq!(most.load(SeqCst), 1, "two bodies of one key at a time");
}

/// Every step of an owner, while nobody gets a connection of the pool.
#[tokio::test]
async fn owners_do_not_wait_for_the_pool() {
    let database = PostgresDatabase::create().await;
    let (pool, store) = small_pool(&database).await;
    let names = ["complete", "release", "abandon"];
    let mut tokens = Vec::new();
    for name in names {
        tokens.push(claim(&store, &key(name)).await);
    }
    let _held = pool.acquire().await.expect("the connection");
    let asked = Instant::now();
    for (name, token) in names.iter().zip(&tokens) {
        assert_eq!(store.renew(&key(name), token, LEASE, TTL).await.expect("renew"), Transition::Applied);
        assert!(store.fence(&key(name), token).await.expect("a fence").is_some());
    }
    let (suspended, owner) = (&key(names[2]), &tokens[2]);
    let appended = store.append(suspended, owner, &step("a"), LEASE, TTL).await;
    assert_eq!(appended.expect("append"), Appended::Applied);
    assert_eq!(store.steps(suspended, owner).await.expect("steps"), Some(vec![step("a")]));
    let ends = [
        store.complete(&key(names[0]), &tokens[0], &outcome(), TTL).await,
        store.release(&key(names[1]), &tokens[1], TTL).await,
    ];
    for end in ends {
        assert_eq!(end.expect("an end"), Transition::Applied);
    }
    assert_eq!(abandon(&store, suspended, owner).await.expect("an end"), Suspension::Applied);
    assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
    // A claim does wait, and is told so in time.
    assert_eq!(fault(&store, &key("new")).await, StoreErrorKind::Unavailable);
}

/// Claims that take long have all connections that claims may have: on our own connections, and on a pool.
#[tokio::test]
async fn owners_do_not_wait_for_claims() {
    let database = PostgresDatabase::create().await;
    let ours = builder().timeout(Duration::from_secs(5)).max_connections(1).connect(&database.url()).await;
    let (_pool, theirs) = small_pool(&database).await;
    for (name, store) in [("ours", ours.expect("a store")), ("theirs", theirs)] {
        let token = claim(&store, &key(name)).await;
        database
            .execute(
                "CREATE OR REPLACE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN PERFORM pg_sleep(2); RETURN NEW; END $$;
                 CREATE TRIGGER pause BEFORE INSERT ON idempotent_records FOR EACH ROW EXECUTE FUNCTION pause();",
            )
            .await;
        let slow = tokio::spawn({
            let (store, key) = (store.clone(), key(format_args!("slow-{name}")));
            async move { claim(&store, &key).await }
        });
        wait_for("the claim to be slow", async || {
            value::<i64>(&database, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").await == 1
        })
        .await;
        assert_eq!(store.renew(&key(name), &token, LEASE, TTL).await.expect("renew"), Transition::Applied);
        let end = store.complete(&key(name), &token, &outcome(), TTL).await.expect("complete");
        assert_eq!(end, Transition::Applied);
        assert!(!slow.is_finished(), "{name}: the owner waited for the claim");
        slow.await.expect("a claim");
        database.execute("DROP TRIGGER pause ON idempotent_records").await;
    }
}

/// A row that a transaction has: as it is when that runs the same key.
#[tokio::test]
async fn a_claim_waits_a_moment_for_a_row_and_is_in_flight_then() {
    let database = PostgresDatabase::create().await;
    let ours = connect(&database.url()).await;
    let (_pool, theirs) = small_pool(&database).await;
    claim(&ours, &key("lapsed")).await;
    finish(&ours, &key("expired")).await;
    database.execute("UPDATE idempotent_records SET lease_until = now() WHERE key = 'lapsed'").await;
    database.execute("UPDATE idempotent_records SET expires_at = now() WHERE key = 'expired'").await;
    let mut client = database.client().await;
    let locks = "BEGIN;
        SELECT FROM idempotent_records FOR UPDATE;
        INSERT INTO idempotent_records (operation, key, state, fingerprint, nonce, attempt, expires_at, life_began_at)
        VALUES ('tests.operation', 'new', 'ok', '', '', 1, now(), now())";
    sqlx::raw_sql(locks).execute(&mut client).await.expect("the rows");
    for store in [&ours, &theirs] {
        for name in ["lapsed", "expired", "new"] {
            let asked = Instant::now();
            let answer = store.claim(&key(name), &request()).await;
            assert!(matches!(answer, Ok(ClaimOutcome::InFlight { .. })), "{name}: {answer:?}");
            let took = asked.elapsed();
            assert!((Duration::from_millis(90)..Duration::from_millis(1400)).contains(&took), "{name}: {took:?}");
        }
    }
    // Whoever waits for the end of a run does not wait for its row either.
    let asked = Instant::now();
    ours.subscribe(&key("lapsed")).await.expect("a subscription");
    assert!(asked.elapsed() < Duration::from_secs(1), "took {:?}", asked.elapsed());
    sqlx::raw_sql("ROLLBACK").execute(&mut client).await.expect("the end");
    claim(&theirs, &key("lapsed")).await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_as_soon_on_a_pool() {
    let database = PostgresDatabase::create().await;
    let proxy = Proxy::start(database.address()).await;
    let url = database.url_at(proxy.address());
    let ours = builder().timeout(Duration::from_secs(3)).connect(&url).await.expect("a store");
    let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.expect("a pool");
    let theirs = PostgresStore::new(pool).expect("a store");
    finish(&theirs, &key("k")).await;
    drop(proxy);
    for (name, store) in [("ours", ours), ("theirs", theirs)] {
        let idempotency = Idempotency::new(store);
        for round in 0..3 {
            let asked = Instant::now();
            let body = async { Ok::<_, Error>(1) };
            let answer = Box::pin(idempotency.call("down").key(round).run(body)).await;
            let Err(Error::Store(error)) = answer else { panic!("{name}: {answer:?}") };
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
            assert!(asked.elapsed() < Duration::from_millis(2500), "{name}, {round}: {:?}", asked.elapsed());
        }
    }
}
