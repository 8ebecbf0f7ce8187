//! The connections in reserve for the owners of runs: on a pool of the application's, whose bodies have all of it.

use std::time::Duration;

use idempotent_runtime::{
    RecordKey, Store,
    store::{Token, Transition, postgres::PostgresStore},
};
use sqlx::{
    Executor as _, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{task::JoinSet, time::Instant};

use crate::{Fault, PostgresDatabase, Proxy, support::*};

/// A run whose body has the only connection of the pool.
async fn run_that_has_the_pool(store: &PostgresStore, pool: &PgPool) -> (RecordKey, Token, PoolConnection<Postgres>) {
    let key = key(rand::random::<u64>());
    let token = claim(store, &key).await;
    (key, token, pool.acquire().await.expect("the connection"))
}

/// Ends all connections but this one and those of the test itself: the store has to open others.
async fn end_others(database: &PostgresDatabase, held: &mut PoolConnection<Postgres>) {
    let held: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut **held).await.expect("a process");
    let end = format!(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
         WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), {held})"
    );
    database.execute(&end).await;
}

async fn renews(store: &PostgresStore, key: &RecordKey, token: &Token) -> bool {
    // A connection that has ended fails its next statement, and the engine tries again.
    let answer = match store.renew(key, token, LEASE, TTL).await {
        Err(_) => store.renew(key, token, LEASE, TTL).await,
        answer => answer,
    };
    answer.expect("renew") == Transition::Applied
}

/// The table is found along the `search_path` that a hook of the pool sets, by a role that it sets.
#[tokio::test]
async fn the_reserve_is_as_the_hooks_of_the_pool_make_connections() {
    let database = PostgresDatabase::on_its_own_server().await;
    database
        .execute(
            "CREATE ROLE app; CREATE ROLE login LOGIN NOINHERIT IN ROLE app; CREATE SCHEMA tenant AUTHORIZATION app",
        )
        .await;
    let hook = "SET ROLE app; SET search_path TO tenant";
    let options: PgConnectOptions = database.url().parse().expect("a URL");
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .after_connect(move |connection, _| Box::pin(async move { connection.execute(hook).await.map(drop) }))
        .connect_with(options.username("login"))
        .await
        .expect("a pool");
    // A table of the same name is where those who do not run the hook look.
    connect(&database.url()).await;
    let store = builder().build(pool.clone()).expect("a store");
    store.migrate().await.expect("a schema");
    let (key, token, mut held) = run_that_has_the_pool(&store, &pool).await;
    assert!(renews(&store, &key, &token).await);
    end_others(&database, &mut held).await;
    assert!(renews(&store, &key, &token).await, "the next one is like the first");
}

#[tokio::test]
async fn the_reserve_has_the_present_credentials_of_the_pool() {
    let database = PostgresDatabase::on_its_own_server().await;
    database.execute("CREATE ROLE old SUPERUSER LOGIN; CREATE ROLE new SUPERUSER LOGIN").await;
    let options: PgConnectOptions = database.url().parse().expect("a URL");
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options.clone().username("old")).await;
    let pool = pool.expect("a pool");
    let store = builder().build(pool.clone()).expect("a store");
    store.migrate().await.expect("a schema");
    pool.set_connect_options(options.username("new"));
    database.execute("ALTER ROLE old NOLOGIN").await;
    let (key, token, mut held) = run_that_has_the_pool(&store, &pool).await;
    assert!(renews(&store, &key, &token).await);
    end_others(&database, &mut held).await;
    assert!(renews(&store, &key, &token).await);
}

/// The role may have as many connections as the pool: the pool lacks one then, and owners do not.
#[tokio::test]
async fn the_reserve_is_there_before_the_pool_has_all_that_the_role_may_have() {
    let database = PostgresDatabase::on_its_own_server().await;
    database.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 2").await;
    let options: PgConnectOptions = database.url().parse().expect("a URL");
    let pool = PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_millis(500))
        .connect_with(options.username("limited"))
        .await
        .expect("a pool");
    connect(&database.url()).await;
    database.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO limited").await;
    let store = builder().build(pool.clone()).expect("a store");
    let key = key("k");
    let token = claim(&store, &key).await;
    // All that the pool can have. An `acquire` may fail here, as the role has no more to give.
    let _held = (pool.acquire().await, pool.acquire().await);
    assert!(renews(&store, &key, &token).await);
}

/// Claims of other keys wait for the pool, and want to know whether the server is there.
#[tokio::test]
async fn owners_do_not_wait_for_those_who_ask_whether_the_server_is_there() {
    let database = PostgresDatabase::create().await;
    connect(&database.url()).await;
    let proxy = Proxy::start(database.address()).await;
    let pool = PgPoolOptions::new().max_connections(1).connect(&database.url_at(proxy.address())).await;
    let pool = pool.expect("a pool");
    let store = PostgresStore::builder().timeout(Duration::from_secs(10)).build(pool.clone()).expect("a store");
    let (key, token, _held) = run_that_has_the_pool(&store, &pool).await;
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    let mut waiting = JoinSet::new();
    for other in 0..200 {
        let store = store.clone();
        waiting.spawn(async move { store.claim(&self::key(other), &request()).await });
    }
    // All of them wait for the pool by the second renewal.
    let asked = Instant::now();
    for _ in 0..10 {
        assert!(renews(&store, &key, &token).await);
    }
    assert!(asked.elapsed() < Duration::from_secs(3), "took {:?}", asked.elapsed());
    assert_eq!(waiting.len(), 200);
}

/// More renewals at a time than one connection can carry through a network of 10 ms each way.
#[tokio::test]
async fn the_reserve_grows_with_the_number_of_owners() {
    const RUNS: u32 = 400;
    let database = PostgresDatabase::create().await;
    let direct = connect(&database.url()).await;
    let proxy = Proxy::start(database.address()).await;
    let pool = PgPoolOptions::new().max_connections(1).connect(&database.url_at(proxy.address())).await;
    let pool = pool.expect("a pool");
    // One connection would need 8 s for them.
    let store = PostgresStore::builder().timeout(Duration::from_millis(7_500)).build(pool.clone()).expect("a store");
    let (_, _, _held) = run_that_has_the_pool(&store, &pool).await;
    let mut runs = Vec::new();
    for run in 0..RUNS {
        runs.push((key(run), claim(&direct, &key(run)).await));
    }
    proxy.set(Fault::Delay(Duration::from_millis(10)));
    let mut renewals = JoinSet::new();
    for (key, token) in runs {
        let store = store.clone();
        renewals.spawn(async move { store.renew(&key, &token, LEASE, TTL).await });
    }
    let answers = renewals.join_all().await;
    let late = answers.iter().filter(|answer| !matches!(answer, Ok(Transition::Applied))).count();
    assert_eq!(late, 0, "renewals that came too late");
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", database.name());
    let sessions = value::<i64>(&database, &sessions).await;
    // Those of `direct`, the pool, four, and this one.
    assert!(sessions <= 10, "{sessions} sessions");
}
