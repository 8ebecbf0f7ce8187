//! Through `PgBouncer`: nothing is set on a session that another client gets.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use idempotent_runtime::{
    Store, StoreErrorKind,
    store::{Appended, Suspension, Transition, postgres::PostgresStore},
};
use idempotent_tests::pgbouncer::PgBouncer;
use sqlx::{
    PgConnection, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{task::JoinSet, time::timeout};

use crate::{PostgresDatabase, PostgresServer, support::*, wait_for};

/// The settings that a store could have changed, as another client finds them.
async fn settings(client: &mut PgConnection) -> Vec<String> {
    let settings =
        "SELECT name || ' = ' || setting FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout',
        'enable_seqscan', 'synchronous_commit', 'default_transaction_isolation') ORDER BY name";
    let rows = sqlx::raw_sql(settings).fetch_all(client).await.expect("the settings");
    rows.iter().map(|row| row.get(0)).collect()
}

/// A whole life of records. Behind a pooler each statement may be another session's.
pub(crate) async fn use_all_of(store: &PostgresStore, name: &str) {
    let key = key(name);
    let token = claim(store, &key).await;
    assert!(store.fence(&key, &token).await.expect("a fence").is_some());
    let mut subscription = store.subscribe(&key).await.expect("a subscription");
    assert_eq!(store.renew(&key, &token, LEASE, TTL).await.expect("renew"), Transition::Applied);
    assert_eq!(store.complete(&key, &token, &outcome(), TTL).await.expect("complete"), Transition::Applied);
    timeout(Duration::from_secs(5), subscription.notified()).await.expect("woken");
    assert!(is_done(store, &key).await);
    assert!(store.forget(&key).await.expect("forget"));
    let token = claim(store, &key).await;
    assert_eq!(store.append(&key, &token, &step("a"), LEASE, TTL).await.expect("append"), Appended::Applied);
    assert_eq!(store.steps(&key, &token).await.expect("steps"), Some(vec![step("a")]));
    assert_eq!(abandon(store, &key, &token).await.expect("suspend"), Suspension::Applied);
    let token = claim(store, &key).await;
    assert_eq!(store.release(&key, &token, TTL).await.expect("release"), Transition::Applied);
}

const MODES: [&str; 2] = ["transaction", "statement"];

#[tokio::test]
async fn a_pooler_that_shares_sessions_is_refused_and_left_as_it_was() {
    let database = PostgresDatabase::create().await;
    connect(&database.url()).await;
    for mode in MODES {
        for more in ["", "server_round_robin = 1", "default_pool_size = 1", "server_reset_query_always = 1"] {
            let settings = format!("pool_mode = {mode}\nignore_startup_parameters = options\n{more}");
            let pooler = PgBouncer::start(database.address(), &settings).await;
            let before = self::settings(&mut pooler.client(database.name()).await).await;
            // Other clients have had the sessions of the pool, some at the same time.
            let (mut one, mut two) = (pooler.client(database.name()).await, pooler.client(database.name()).await);
            let sleep = || sqlx::raw_sql("SELECT pg_sleep(0.05)");
            let (one, two) = tokio::join!(sleep().execute(&mut one), sleep().execute(&mut two));
            one.and(two).expect("a pause");

            let error = builder().connect(&database.url_at(pooler.address())).await.expect_err("shared sessions");
            assert_eq!(kind(&error), StoreErrorKind::Refused, "{mode}, {more}");
            assert!(full_text(&error).contains("pool_mode = session"), "{mode}, {more}: {error:?}");
            for _ in 0..5 {
                assert_eq!(self::settings(&mut pooler.client(database.name()).await).await, before, "{mode}, {more}");
            }
        }
    }
}

/// A pooler stands between an application's own pool and the server. Nothing is asked of it before the first claims.
#[tokio::test]
async fn a_pool_of_the_callers_behind_one_that_shares_sessions_is_granted_no_claim() {
    let database = PostgresDatabase::create().await;
    connect(&database.url()).await;
    for more in ["default_pool_size = 1", "default_pool_size = 2", "server_round_robin = 1"] {
        let settings = format!("pool_mode = transaction\nignore_startup_parameters = extra_float_digits\n{more}");
        let pooler = PgBouncer::start(database.address(), &settings).await;
        let before = self::settings(&mut pooler.client(database.name()).await).await;
        let pool = PgPoolOptions::new().max_connections(3).connect(&database.url_at(pooler.address())).await;
        let store = builder().build(pool.expect("a pool")).expect("a store");
        let mut claims = JoinSet::new();
        for name in 0..10 {
            let store = store.clone();
            claims.spawn(async move { store.claim(&key(name), &request()).await });
        }
        for answer in claims.join_all().await {
            let error = answer.expect_err("shared sessions");
            assert_eq!(error.kind(), StoreErrorKind::Refused, "{more}: {error:?}");
            assert!(full_text(&error).contains("pool_mode = session"), "{more}: {error:?}");
        }
        let error = store.migrate().await.expect_err("shared sessions");
        assert_eq!(kind(&error), StoreErrorKind::Refused, "{more}");

        let mut subscription = store.subscribe(&key("k")).await.expect("a subscription");
        let channels = "SELECT count(*) FROM pg_listening_channels()";
        let mut client = pooler.client(database.name()).await;
        let listens = sqlx::raw_sql(channels).fetch_one(&mut client).await.expect("a count");
        assert_eq!(listens.get::<i64, _>(0), 0, "{more}: a session of others listens for us");
        assert!(timeout(Duration::from_millis(50), subscription.notified()).await.is_err());
        assert_eq!(self::settings(&mut pooler.client(database.name()).await).await, before, "{more}");
    }
    assert_eq!(value::<i64>(&database, "SELECT count(*) FROM idempotent_records").await, 0);
}

/// Other clients keep the sessions busy: which of them a connection gets next is a matter of luck.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_shares_sessions_is_refused_under_the_load_of_others() {
    let database = PostgresDatabase::create().await;
    connect(&database.url()).await;
    let pooler = "pool_mode = transaction\nignore_startup_parameters = extra_float_digits,options\n\
        server_round_robin = 1\ndefault_pool_size = 2";
    let pooler = PgBouncer::start(database.address(), pooler).await;
    let mut load = JoinSet::new();
    for _ in 0..2 {
        let mut client = pooler.client(database.name()).await;
        load.spawn(async move {
            loop {
                sqlx::raw_sql("SELECT pg_sleep(0.001)").execute(&mut client).await.expect("a pause");
            }
        });
    }
    let url = database.url_at(pooler.address());
    for round in 0..40 {
        let error = builder().connect(&url).await.expect_err("shared sessions");
        assert_eq!(kind(&error), StoreErrorKind::Refused, "{round}: {error:?}");
    }
}

/// A check that had no server says nothing: it is made again.
#[tokio::test]
async fn a_pool_is_looked_at_again_once_its_server_is_there() {
    let database = PostgresDatabase::create().await;
    connect(&database.url()).await;
    let proxy = crate::Proxy::start(database.address()).await;
    proxy.set(crate::Fault::Refuse);
    let options: PgConnectOptions = database.url_at(proxy.address()).parse().expect("a URL");
    let store = builder().build(PgPoolOptions::new().connect_lazy_with(options)).expect("a store");
    let error = store.claim(&key("k"), &request()).await.expect_err("no server");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    proxy.set(crate::Fault::None);
    wait_for("the server to be found", async || store.claim(&key("k"), &request()).await.is_ok()).await;
}

#[tokio::test]
async fn a_pooler_with_a_session_for_each_client_serves_and_is_left_as_it_was() {
    let database = PostgresDatabase::create().await;
    let pooler = "pool_mode = session\nignore_startup_parameters = extra_float_digits,options";
    let pooler = PgBouncer::start(database.address(), pooler).await;
    let before = settings(&mut pooler.client(database.name()).await).await;
    let url = database.url_at(pooler.address());
    let pool = PgPoolOptions::new().max_connections(2).connect(&url).await.expect("a pool");
    for store in [connect(&url).await, builder().build(pool).expect("a store")] {
        use_all_of(&store, "whole").await;
        drop(store);
    }
    for _ in 0..5 {
        assert_eq!(settings(&mut pooler.client(database.name()).await).await, before);
    }
}

/// Without a reset of sessions, the next client gets what the last one has left there.
#[tokio::test]
async fn a_session_that_is_not_reset_has_nothing_of_ours() {
    let database = PostgresDatabase::create().await;
    let pooler =
        "pool_mode = session\nignore_startup_parameters = options\nserver_reset_query =\ndefault_pool_size = 4";
    let pooler = PgBouncer::start(database.address(), pooler).await;
    let before = settings(&mut pooler.client(database.name()).await).await;
    let store = connect(&database.url_at(pooler.address())).await;
    finish(&store, &key("k")).await;
    drop(store);
    for _ in 0..5 {
        assert_eq!(settings(&mut pooler.client(database.name()).await).await, before);
    }
}

/// A pooler that drops what we ask for at the start of a session: an acknowledged record is on disk all the same.
#[tokio::test]
async fn what_is_acknowledged_through_a_pooler_is_on_disk() {
    let database = PostgresDatabase::from(PostgresServer::start_with(&["synchronous_commit=off"]).await);
    let pooler = "pool_mode = session\nignore_startup_parameters = extra_float_digits,options";
    let pooler = PgBouncer::start(database.address(), pooler).await;
    let url = database.url_at(pooler.address());
    let pool = PgPoolOptions::new().max_connections(2).connect(&url).await.expect("a pool");
    for store in [connect(&url).await, builder().build(pool).expect("a store")] {
        acknowledged_is_on_disk(&database, &store).await;
    }
}

/// On a pool of the caller's, whose sessions have `synchronous_commit=off`.
#[tokio::test]
async fn what_is_acknowledged_on_a_pool_of_the_callers_is_on_disk() {
    let database = PostgresDatabase::from(PostgresServer::start_with(&["synchronous_commit=off"]).await);
    connect(&database.url()).await;
    let store = builder().build(pool(&database).await).expect("a store");
    acknowledged_is_on_disk(&database, &store).await;
}

/// After each step, since a later one would write the log of those before it as well.
async fn acknowledged_is_on_disk(database: &PostgresDatabase, store: &PostgresStore) {
    let mut client = database.client().await;
    let mut on_disk = async |step: &str| {
        let behind = "SELECT pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()";
        let behind: bool = sqlx::query_scalar(behind).fetch_one(&mut client).await.expect("an answer");
        assert!(!behind, "{step} is not on disk");
    };
    let key = key("k");
    for end in ["complete", "abandon", "release", "forget"] {
        let token = claim(store, &key).await;
        on_disk("a claim").await;
        assert!(store.fence(&key, &token).await.expect("a fence").is_some());
        on_disk("a fence").await;
        assert_eq!(store.renew(&key, &token, LEASE, TTL).await.expect("renew"), Transition::Applied);
        on_disk("a renewal").await;
        match end {
            "complete" => {
                assert_eq!(store.complete(&key, &token, &outcome(), TTL).await.expect("complete"), Transition::Applied);
                on_disk(end).await;
                assert!(store.forget(&key).await.expect("forget"));
            }
            "abandon" => {
                assert_eq!(abandon(store, &key, &token).await.expect("suspend"), Suspension::Applied);
            }
            "release" => assert_eq!(store.release(&key, &token, TTL).await.expect("release"), Transition::Applied),
            _ => assert!(store.forget(&key).await.expect("forget")),
        }
        on_disk(end).await;
    }
}

/// As it is installed: it takes no parameters that it does not know.
#[tokio::test]
async fn a_default_pooler_serves_or_is_told_what_to_change() {
    let database = PostgresDatabase::create().await;
    let pooler = PgBouncer::start(database.address(), "").await;
    let url = database.url_at(pooler.address());
    use_all_of(&connect(&url).await, "whole").await;
    // sqlx's own parameter, on a pool of the caller's.
    let options: PgConnectOptions = url.parse().expect("a URL");
    let store = PostgresStore::new(PgPoolOptions::new().connect_lazy_with(options)).expect("a store");
    let error = store.claim(&key("refused-by-a-pooler"), &request()).await.expect_err("a parameter");
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert!(full_text(&error).contains("ignore_startup_parameters"), "{error:?}");

    let pooler = PgBouncer::start(database.address(), "pool_mode = transaction").await;
    let error = builder().connect(&database.url_at(pooler.address())).await.expect_err("shared sessions");
    assert_eq!(kind(&error), StoreErrorKind::Refused);
    assert!(full_text(&error).contains("pool_mode = session"), "{error:?}");
}

/// It tells so with the code of a protocol violation. That passes, and is to be tried again.
#[tokio::test]
async fn a_pooler_whose_server_is_gone_or_busy_is_unavailable() {
    let mut database = PostgresDatabase::on_its_own_server().await;
    let pooler = "pool_mode = session\nignore_startup_parameters = options\ndefault_pool_size = 4\n\
        query_wait_timeout = 1\nserver_login_retry = 1";
    let pooler = PgBouncer::start(database.address(), pooler).await;
    let url = database.url_at(pooler.address());
    let store = builder().timeout(Duration::from_secs(3)).max_connections(2).connect(&url).await.expect("a store");
    finish(&store, &key("done")).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(pooler.client(database.name()).await);
        sqlx::raw_sql("SELECT 1").execute(others.last_mut().expect("a client")).await.expect("a session");
    }
    // One session is left to the store, which has it. A second one has to wait.
    let (one, other) = (key("one-of-both"), key("other-of-both"));
    let (request, second) = (request(), self::request());
    let both = tokio::join!(store.claim(&one, &request), store.claim(&other, &second));
    let errors: Vec<_> = [both.0, both.1].into_iter().filter_map(Result::err).collect();
    assert!(errors.iter().all(|error| error.kind() == StoreErrorKind::Unavailable), "{errors:?}");
    drop(others);
    database.server().kill();
    let faults = AtomicU32::new(0);
    // The server's children live on until they notice.
    wait_for("the server to be gone", async || {
        let answer = store.claim(&key(rand::random::<u64>()), &self::request()).await;
        if let Err(error) = answer {
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
            faults.fetch_add(1, Ordering::Relaxed);
        }
        faults.load(Ordering::Relaxed) >= 5
    })
    .await;
    database.server().restart().await;
    wait_for("the store to be back", async || store.inspect(&key("done")).await.is_ok()).await;
}

/// As ever: what a statement needs is set within it.
#[tokio::test]
async fn a_step_is_one_round_trip() {
    let database = PostgresDatabase::create().await;
    let proxy = crate::Proxy::start(database.address()).await;
    let store = connect(&database.url_at(proxy.address())).await;
    let warm = async |name: &str| {
        let key = key(name);
        let token = claim(&store, &key).await;
        assert_eq!(store.renew(&key, &token, LEASE, TTL).await.expect("renew"), Transition::Applied);
        assert_eq!(store.complete(&key, &token, &outcome(), TTL).await.expect("complete"), Transition::Applied);
        assert!(is_done(&store, &key).await);
    };
    // Each statement is prepared once.
    warm("warm").await;
    let before = proxy.requests();
    warm("hot").await;
    assert_eq!(proxy.requests() - before, 4, "a claim, a renewal, an end, a hit");
    wait_for("nothing else", async || proxy.requests() - before == 4).await;
}
