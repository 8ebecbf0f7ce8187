//! Connections that are cut, servers that are killed, slow, full or read-only, transactions that conflict.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use idempotent_runtime::{
    Store, StoreErrorKind,
    store::{ClaimOutcome, StoreResult, Transition, postgres::PostgresStore},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{task::JoinSet, time::Instant};

use crate::{Fault, PostgresDatabase, PostgresServer, Proxy, support::*, wait_for};

const CUTS: [Fault; 3] = [Fault::CutBeforeRequest, Fault::CutAfterRequest, Fault::CutBeforeReply];

/// A server, a store with one connection, through a proxy, and a store without faults.
struct Fixture {
    _database: PostgresDatabase,
    proxy: Proxy,
    pool: PgPool,
    ours: PostgresStore,
    direct: PostgresStore,
}

impl Fixture {
    async fn start() -> Self {
        let database = PostgresDatabase::create().await;
        let proxy = Proxy::start(database.address()).await;
        let url = database.url_at(proxy.address());
        let direct = connect(&database.url()).await;
        let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false).connect(&url).await;
        let pool = pool.expect("a pool");
        let ours = builder().build(pool.clone()).expect("a store");
        Self { _database: database, proxy, pool, ours, direct }
    }

    /// Has the next request be the step's: it is prepared, and the pool has its connection back.
    async fn prepare(&self, step: impl AsyncFn(&PostgresStore) -> bool) {
        wait_for("the step to be prepared", async || step(&self.ours).await).await;
        wait_for("the pool to rest", async || self.pool.num_idle() == 1).await;
    }

    /// Repeats a step until the connection is back: a store does not repeat by itself.
    async fn again<T>(&self, step: impl AsyncFn(&PostgresStore) -> StoreResult<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match step(&self.ours).await {
                Ok(answer) => return answer,
                Err(error) => {
                    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
                    assert!(Instant::now() < deadline, "not back in time: {error:?}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_claim_cut_anywhere_is_recognised_when_repeated() {
    let fixture = Fixture::start().await;
    for fault in CUTS {
        let key = key(format_args!("claim-{fault:?}"));
        let request = request();
        fixture.prepare(async |store| store.claim(&self::key("other"), &self::request()).await.is_ok()).await;
        fixture.proxy.set(fault);
        let error = fixture.ours.claim(&key, &request).await.expect_err("cut");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_eq!(fixture.proxy.fault(), Fault::None, "the fault happened");
        if fault == Fault::CutBeforeReply {
            let other = fixture.direct.claim(&key, &self::request()).await;
            assert!(matches!(other, Ok(ClaimOutcome::InFlight { .. })), "it was applied: {other:?}");
        }
        let answer = fixture.again(async |store| store.claim(&key, &request).await).await;
        assert!(matches!(answer, ClaimOutcome::Claimed { attempt: 1, .. }), "{fault:?}: {answer:?}");
        let token = granted(Ok(answer));
        assert_eq!(
            fixture.direct.complete(&key, &token, &outcome(), TTL).await.expect("complete"),
            Transition::Applied
        );
    }
}

#[tokio::test]
async fn a_completion_cut_anywhere_is_applied_once_when_repeated() {
    let fixture = Fixture::start().await;
    for fault in CUTS {
        let key = key(format_args!("complete-{fault:?}"));
        let token = claim(&fixture.direct, &key).await;
        let other = self::key("other");
        fixture.prepare(async |store| store.complete(&other, &token, &outcome(), TTL).await.is_ok()).await;
        fixture.proxy.set(fault);
        fixture.ours.complete(&key, &token, &outcome(), TTL).await.expect_err("cut");
        assert_eq!(fixture.proxy.fault(), Fault::None, "the fault happened");
        let answer = fixture.again(async |store| store.complete(&key, &token, &outcome(), TTL).await).await;
        assert_eq!(answer, Transition::Applied, "{fault:?}");
        assert!(is_done(&fixture.direct, &key).await);
    }
}

/// Connections whose answers do not come are replaced: the pool does not run dry.
#[tokio::test]
async fn half_open_connections_are_given_up() {
    let fixture = Fixture::start().await;
    let key = key("half-open");
    let token = claim(&fixture.ours, &key).await;
    for fault in [Fault::LoseRequests, Fault::LoseReplies] {
        fixture.proxy.set(fault);
        for _ in 0..2 {
            let error = fixture.ours.renew(&key, &token, LEASE, TTL).await.expect_err("no answer");
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        }
        fixture.proxy.set(Fault::None);
        let answer = fixture.again(async |store| store.renew(&key, &token, LEASE, TTL).await).await;
        assert_eq!(answer, Transition::Applied);
    }
}

/// The store closes each half-open connection of its own in time, and the next call has a fresh one.
#[tokio::test]
async fn half_open_connections_of_our_own_are_given_up() {
    let database = PostgresDatabase::create().await;
    let proxy = Proxy::start(database.address()).await;
    let url = database.url_at(proxy.address());
    let store = builder().max_connections(1).connect(&url).await.expect("a store");
    let key = key("half-open");
    let token = claim(&store, &key).await;
    for fault in [Fault::LoseRequests, Fault::LoseReplies] {
        // At once after an answer: nothing else is asked on the connection that could get lost.
        proxy.set(fault);
        let error = store.renew(&key, &token, LEASE, TTL).await.expect_err("no answer");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        proxy.set(Fault::None);
        assert_eq!(store.renew(&key, &token, LEASE, TTL).await.expect("renew"), Transition::Applied);
    }
    // One that was idle for longer than it is trusted is asked first, and replaced within the time of the same call.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    proxy.set(Fault::CutBeforeReply);
    assert_eq!(store.renew(&key, &token, LEASE, TTL).await.expect("renew"), Transition::Applied);
    assert_eq!(proxy.fault(), Fault::None, "the fault happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded_and_used_again() {
    let database = PostgresDatabase::create().await;
    let store = builder().max_connections(3).timeout(Duration::from_secs(20)).connect(&database.url()).await;
    let store = store.expect("a store");
    let sessions = "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let many = async |round: u32| {
        let mut claims = JoinSet::new();
        for number in 0..100 {
            let (store, key) = (store.clone(), key(format_args!("{round}-{number}")));
            claims.spawn(async move { claim(&store, &key).await });
        }
        claims.join_all().await;
        value::<Vec<i32>>(&database, sessions).await
    };
    let first = many(1).await;
    assert!((1..=3).contains(&first.len()), "{first:?}");
    let second = many(2).await;
    assert!(first.iter().all(|pid| second.contains(pid)), "{first:?} became {second:?}");
    assert!(second.len() <= 3, "{second:?}");
}

/// Calls that their callers give up at any moment leave pool and record whole.
#[tokio::test]
async fn dropped_calls_leave_the_store_working() {
    let database = PostgresDatabase::create().await;
    let store = builder().max_connections(2).connect(&database.url()).await.expect("a store");
    for round in 0..100_u64 {
        // A key each: a claim that was given up may reach the server after its repeat was released.
        let key = key(format_args!("dropped-{round}"));
        let request = request();
        let claiming = tokio::time::timeout(Duration::from_micros(round * 20), store.claim(&key, &request)).await;
        let answer = match claiming {
            Ok(answer) => answer,
            // Given up or not, the same claim again knows.
            Err(_) => store.claim(&key, &request).await,
        };
        let token = granted(answer);
        let _ = tokio::time::timeout(Duration::from_micros(round * 10), store.release(&key, &token, TTL)).await;
        assert_eq!(store.release(&key, &token, TTL).await.expect("release"), Transition::Applied);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_keeps_what_it_acknowledged() {
    let mut database = PostgresDatabase::on_its_own_server().await;
    let store = connect(&database.url()).await;
    let done = Arc::new(Mutex::new(Vec::new()));
    for round in 0..3 {
        let mut workers = JoinSet::new();
        for worker in 0..4 {
            let (store, done) = (store.clone(), Arc::clone(&done));
            workers.spawn(async move {
                for number in 0.. {
                    let key = key(format_args!("{round}-{worker}-{number}"));
                    let Ok(ClaimOutcome::Claimed { token, .. }) = store.claim(&key, &request()).await else { return };
                    let Ok(Transition::Applied) = store.complete(&key, &token, &outcome(), TTL).await else { return };
                    done.lock().expect("a lock").push(key);
                }
            });
        }
        let before = done.lock().expect("a lock").len();
        wait_for("some runs", async || done.lock().expect("a lock").len() > before + 100).await;
        database.server().kill();
        workers.join_all().await;
        database.server().restart().await;
    }
    wait_for("the store to be back", async || store.inspect(&key("k")).await.is_ok()).await;
    let done = done.lock().expect("a lock").clone();
    for key in &done {
        assert!(is_done(&store, key).await, "an acknowledged result of {} is gone", done.len());
    }
}

/// A shutdown ends sessions in the midst of their statements, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_shut_down_is_unavailable_until_it_is_back() {
    let mut database = PostgresDatabase::on_its_own_server().await;
    let store = connect(&database.url()).await;
    let mut workers = JoinSet::new();
    for worker in 0..4 {
        let store = store.clone();
        workers.spawn(async move {
            let mut done = Vec::new();
            for number in 0.. {
                let key = key(format_args!("{worker}-{number}"));
                let token = match store.claim(&key, &request()).await {
                    Ok(answer) => granted(Ok(answer)),
                    Err(error) => return (done, error.kind()),
                };
                match store.complete(&key, &token, &outcome(), TTL).await {
                    Ok(applied) => assert_eq!(applied, Transition::Applied),
                    Err(error) => return (done, error.kind()),
                }
                done.push(key);
            }
            unreachable!("the numbers do not end")
        });
    }
    wait_for("some runs", async || {
        value::<i64>(&database, "SELECT count(*) FROM idempotent_records WHERE state = 'ok'").await > 50
    })
    .await;
    database.server().shut_down();
    let ends = workers.join_all().await;
    assert_eq!(fault(&store, &key("shut-down")).await, StoreErrorKind::Unavailable);
    database.server().restart().await;
    wait_for("the store to be back", async || store.inspect(&key("k")).await.is_ok()).await;
    for (done, kind) in ends {
        assert_eq!(kind, StoreErrorKind::Unavailable);
        for key in done {
            assert!(is_done(&store, &key).await, "an acknowledged result is gone");
        }
    }
}

#[tokio::test]
async fn a_restarted_server_costs_no_error_after_a_pause() {
    let mut database = PostgresDatabase::on_its_own_server().await;
    let store = connect(&database.url()).await;
    finish(&store, &key("k")).await;
    database.server().restart().await;
    // Longer than an idle connection is trusted.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(is_done(&store, &key("k")).await);
}

#[tokio::test]
async fn ended_sessions_are_replaced() {
    let database = PostgresDatabase::create().await;
    let store = builder().max_connections(1).connect(&database.url()).await.expect("a store");
    database
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )
        .await;
    let error = store.claim(&key("k"), &request()).await.expect_err("the session was ended");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    claim(&store, &key("k")).await;
}

#[tokio::test]
async fn what_is_locked_or_exhausted_is_unavailable_in_time() {
    let database = PostgresDatabase::create().await;
    let store = builder()
        .max_connections(2)
        .timeout(Duration::from_millis(300))
        .connect(&database.url())
        .await
        .expect("a store");
    let mut client = database.client().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE idempotent_records").execute(&mut client).await.expect("a lock");
    let started = Instant::now();
    let mut claims = JoinSet::new();
    for number in 0..6 {
        let (store, key) = (store.clone(), key(format_args!("locked-{number}")));
        // Two wait for the lock, the others for a connection.
        claims.spawn(async move { fault(&store, &key).await });
    }
    for kind in claims.join_all().await {
        assert_eq!(kind, StoreErrorKind::Unavailable);
    }
    assert!(started.elapsed() < Duration::from_secs(3), "took {:?}", started.elapsed());
    drop(client);
    wait_for("the store to be back", async || store.inspect(&key("k")).await.is_ok()).await;
    claim(&store, &key("k")).await;
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_unavailable() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    finish(&store, &key("k")).await;
    let name = database.name();
    database.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let store = connect(&database.url()).await;
    assert_eq!(fault(&store, &key("written")).await, StoreErrorKind::Unavailable);
}

/// On a pool whose transactions may fail for a conflict, nobody sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_of_stricter_transactions_are_tried_again() {
    for level in ["repeatable read", "serializable"] {
        let database = PostgresDatabase::create().await;
        let name = database.name();
        database.execute(&format!("ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")).await;
        let pool = PgPoolOptions::new().max_connections(8).connect(&database.url()).await.expect("a pool");
        let store = PostgresStore::new(pool).expect("a store");
        store.migrate().await.expect("a schema");
        for round in 0..20 {
            let mut claims = JoinSet::new();
            for _ in 0..8 {
                let store = store.clone();
                claims.spawn(async move { store.claim(&key(round), &request()).await });
            }
            let mut granted = 0;
            for answer in claims.join_all().await {
                match answer.expect("an answer") {
                    ClaimOutcome::Claimed { .. } => granted += 1,
                    ClaimOutcome::InFlight { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(granted, 1, "{level}");
        }
    }
}

/// The server chooses our statement as the victim: it is asked again once the other transaction is through.
#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let database = PostgresDatabase::from(PostgresServer::start_with(&["deadlock_timeout=2s"]).await);
    let store = builder().timeout(Duration::from_secs(20)).connect(&database.url()).await.expect("a store");
    let token = claim(&store, &key("k")).await;
    // Once it has the row, whoever ends the run waits for the lock that the other transaction has.
    database
        .execute(
            "CREATE SEQUENCE updates;
             CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM nextval('updates'), pg_advisory_xact_lock(1); RETURN NULL; END $$;
             CREATE TRIGGER wait AFTER UPDATE ON idempotent_records FOR EACH ROW EXECUTE FUNCTION wait();",
        )
        .await;
    let mut client = database.client().await;
    let begin = "SET deadlock_timeout = '1min'; BEGIN; SELECT pg_advisory_xact_lock(1)";
    sqlx::raw_sql(begin).execute(&mut client).await.expect("a lock");
    let ending = tokio::spawn({
        let store = store.clone();
        async move { store.complete(&key("k"), &token, &outcome(), TTL).await }
    });
    wait_for("the ending to wait", async || {
        value::<i64>(&database, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await == 1
    })
    .await;
    let cross = "UPDATE idempotent_records SET attempt = attempt; COMMIT";
    sqlx::raw_sql(cross).execute(&mut client).await.expect("we are not the victim");
    assert_eq!(ending.await.expect("a task").expect("complete"), Transition::Applied);
    assert!(is_done(&store, &key("k")).await);
    // A sequence keeps what is rolled back: ours, the other one's, ours again.
    assert_eq!(value::<i64>(&database, "SELECT last_value FROM updates").await, 3);
}

/// The server's own limit, on a pool of the caller's: it ends the statement, not the session.
#[tokio::test]
async fn a_statement_that_the_server_cancels_is_unavailable() {
    let database = PostgresDatabase::create().await;
    connect(&database.url()).await;
    let name = database.name();
    database.execute(&format!("ALTER DATABASE {name} SET statement_timeout = '100ms'")).await;
    let pool = PgPoolOptions::new().max_connections(1).connect(&database.url()).await.expect("a pool");
    let store = builder().timeout(Duration::from_secs(20)).build(pool.clone()).expect("a store");
    let session = async || sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()").fetch_one(&pool).await;
    // The first claim takes a session out of the pool.
    finish(&store, &key("first")).await;
    let before = session().await.expect("a session");
    let mut client = database.client().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE idempotent_records").execute(&mut client).await.expect("a lock");
    let started = Instant::now();
    assert_eq!(fault(&store, &key("cancelled")).await, StoreErrorKind::Unavailable);
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
    drop(client);
    assert_eq!(session().await.expect("a session"), before);
}

/// A trigger answers like a server with a full disk. (To fill a real disk, the test would need root, to mount one.)
#[tokio::test]
async fn a_full_disk_refuses_claims_and_still_replays() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    finish(&store, &key("done")).await;
    database
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON idempotent_records FOR EACH ROW EXECUTE FUNCTION refuse();",
        )
        .await;
    assert_eq!(fault(&store, &key("new")).await, StoreErrorKind::Full);
    assert!(is_done(&store, &key("done")).await);
}

#[tokio::test]
async fn our_own_sessions_are_safe_whatever_the_defaults_are() {
    let database = PostgresDatabase::from(
        PostgresServer::start_with(&["synchronous_commit=off", "default_transaction_isolation=serializable"]).await,
    );
    let store = connect(&database.url()).await;
    // What a session runs with shows in what it does: with an asynchronous commit, the log's end is not yet on disk.
    finish(&store, &key("k")).await;
    let behind: bool = value(&database, "SELECT pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()").await;
    assert!(!behind, "an acknowledged result is not on disk");
}

#[tokio::test]
async fn a_timeout_may_be_for_ever() {
    let database = PostgresDatabase::create().await;
    let builder = PostgresStore::builder().timeout(Duration::MAX);
    let store = builder.clone().connect(&database.url()).await.expect("a store");
    finish(&store, &key("connected")).await;
    let store = builder.build(PgPoolOptions::new().connect_lazy(&database.url()).expect("a pool")).expect("a store");
    finish(&store, &key("built")).await;
}
