//! Creating the schema, using it with as few privileges as possible, looking into it.

use std::time::Duration;

use idempotent_runtime::{
    Error, Idempotency, IdempotencyBuilder, SetupError, Store, StoreErrorKind,
    store::{Appended, ClaimOutcome, Nonce, State, Suspension, Token, Transition, Why, postgres::PostgresStore},
};
use idempotent_tests::captured_events::CapturedEvents;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;

use crate::{PostgresDatabase, PostgresServer, poolers::use_all_of, support::*, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_migrate_at_once() {
    let database = PostgresDatabase::create().await;
    let mut migrations = JoinSet::new();
    for number in 0..16 {
        let url = database.url();
        migrations.spawn(async move {
            // Pools of their own: as many sessions as processes would have.
            let store = PostgresStore::connect(&url).await.expect("a store");
            finish(&store, &key(number)).await;
        });
    }
    migrations.join_all().await;
    let version: i32 = value(&database, "SELECT version FROM idempotent_records_schema").await;
    assert_eq!(version, 6);
    assert_eq!(value::<i64>(&database, "SELECT count(*) FROM idempotent_records_schema").await, 1);
    assert_eq!(value::<i64>(&database, "SELECT count(*) FROM idempotent_records").await, 16);
}

/// A database of the release before, with records in it.
async fn version_1() -> PostgresDatabase {
    let database = PostgresDatabase::on_its_own_server().await;
    let schema = include_str!("../../idempotent-runtime/src/store/postgres/schema_1.sql");
    database.execute(&schema.replace("{table}", "idempotent_records")).await;
    database
        .execute(
            "CREATE TABLE idempotent_records_schema (version integer NOT NULL);
             INSERT INTO idempotent_records_schema (version) VALUES (1);
             INSERT INTO idempotent_records
                 (operation, key, state, fingerprint, nonce, fence, attempt, lease_until, expires_at, created_at, result)
             SELECT 'tests.operation', key, state, decode(repeat('07', 32), 'hex'), decode(repeat('01', 16), 'hex'),
                 fence, 1, lease_until, now() + interval '1 hour', now(), result
             FROM (VALUES
                 ('done', 'ok', 5, NULL, convert_to('{\"b\": 1.0, \"a\": \"é\"}', 'UTF8')),
                 ('abandoned', 'abandoned', NULL, NULL, NULL),
                 ('running', 'running', 7, now() + interval '1 minute', NULL),
                 ('lapsed', 'running', NULL, now() - interval '1 minute', NULL)
             ) AS old (key, state, fence, lease_until, result);
             SELECT setval('idempotent_records_fence', 7);
             CREATE ROLE auditor;
             GRANT SELECT ON idempotent_records_view TO auditor;",
        )
        .await;
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_upgrade_an_older_schema_at_once() {
    let database = version_1().await;
    let old = PostgresStore::new(pool(&database).await).expect("a store");
    assert_eq!(fault(&old, &key("done")).await, StoreErrorKind::Refused, "not migrated yet");
    let mut migrations = JoinSet::new();
    for number in 0..16 {
        let url = database.url();
        migrations.spawn(async move {
            let store = PostgresStore::connect(&url).await.expect("a store");
            assert!(is_done(&store, &key("done")).await, "{number}: an old record is replayed");
            let token = granted(store.claim(&key(number), &recording()).await);
            assert_eq!(
                store.complete(&key(number), &token, &outcome(), TTL).await.expect("complete"),
                Transition::Applied
            );
        });
    }
    migrations.join_all().await;
    assert_eq!(value::<i32>(&database, "SELECT version FROM idempotent_records_schema").await, 6);
    assert_eq!(value::<i64>(&database, "SELECT count(*) FROM idempotent_records_schema").await, 1);

    let store = connect(&database.url()).await;
    for (name, state) in [("abandoned", State::Abandoned), ("lapsed", State::Lapsed)] {
        let record = store.inspect(&key(name)).await.expect("inspect").expect("a record");
        assert_eq!((record.state, record.arguments), (state, None), "{name}");
        let token = granted(store.claim(&key(name), &recording()).await);
        assert!(store.fence(&key(name), &token).await.expect("a fence") > Some(7));
        let record = store.inspect(&key(name)).await.expect("inspect").expect("a record");
        assert_eq!((record.attempt, record.arguments), (2, recording().arguments), "{name}");
    }
    let owner = Token::new(Nonce::from_bytes([1; 16]));
    assert_eq!(store.fence(&key("running"), &owner).await.expect("a fence"), Some(7));
    let applied = store.complete(&key("running"), &owner, &outcome(), TTL).await.expect("complete");
    assert_eq!(applied, Transition::Applied, "its owner is still its owner");
    let listed = store.list(None, None, 100).await.expect("a page").records;
    assert_eq!(listed.iter().filter(|record| record.arguments.is_some()).count(), 18);
    assert_eq!(listed.len(), 20);
    // Who could read the view can do so still.
    let amounts = "SET ROLE auditor; SELECT DISTINCT arguments ->> 'amount' FROM idempotent_records_view";
    database.execute(amounts).await;
}

/// Somebody reads for long. An upgrade that waits for that must not keep everybody else from the table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_waits_lets_others_pass() {
    let database = version_1().await;
    let mut reader = database.client().await;
    let read = "BEGIN; SELECT count(*) FROM idempotent_records";
    sqlx::raw_sql(read).execute(&mut reader).await.expect("a long transaction");
    let url = database.url();
    let upgrade = tokio::spawn(async move { PostgresStore::connect(&url).await.expect("a store") });
    for _ in 0..20 {
        let others = "SET statement_timeout = '1s'; UPDATE idempotent_records SET waiters = true WHERE key = 'running'";
        database.execute(others).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(!upgrade.is_finished());
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.expect("its end");
    let store = upgrade.await.expect("an upgrade");
    assert!(is_done(&store, &key("done")).await);
    assert_eq!(value::<i32>(&database, "SELECT version FROM idempotent_records_schema").await, 6);
}

/// The sessions of this database that wait for an advisory lock.
const WAITING: &str = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";

/// One process fails in the midst of its migration, while others wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_fails_leaves_the_others_to_it() {
    let database = PostgresDatabase::create().await;
    let mut client = database.client().await;
    let half_way = "BEGIN;
        SELECT pg_advisory_xact_lock(hashtextextended('idempotent schema of idempotent_records', 0));
        CREATE TABLE idempotent_records_schema (version integer NOT NULL);
        INSERT INTO idempotent_records_schema VALUES (0);
        CREATE TABLE idempotent_records (half integer)";
    sqlx::raw_sql(half_way).execute(&mut client).await.expect("half a migration");
    let mut migrations = JoinSet::new();
    for number in 0..4 {
        let url = database.url();
        migrations.spawn(async move { finish(&connect(&url).await, &key(number)).await });
    }
    wait_for("the others to wait", async || value::<i64>(&database, WAITING).await == 4).await;
    drop(client);
    migrations.join_all().await;
    assert_eq!(value::<i64>(&database, "SELECT count(*) FROM idempotent_records").await, 4);
}

#[tokio::test]
async fn servers_that_may_lose_records_are_refused_unless_allowed() {
    for setting in ["fsync=off", "full_page_writes=off"] {
        let database = PostgresDatabase::from(PostgresServer::start_with(&[setting]).await);
        let error = PostgresStore::connect(&database.url()).await.expect_err("not durable");
        assert_eq!(kind(&error), StoreErrorKind::Refused, "{setting}");
        let store = PostgresStore::new(pool(&database).await).expect("a store");
        assert_eq!(kind(&store.migrate().await.expect_err("not durable")), StoreErrorKind::Refused, "{setting}");
        let store = builder().allow_data_loss(true).connect(&database.url()).await.expect("allowed");
        finish(&store, &key("k")).await;
    }
}

#[tokio::test]
async fn a_standby_is_refused() {
    let mut database = PostgresDatabase::on_its_own_server().await;
    let store = connect(&database.url()).await;
    finish(&store, &key("k")).await;
    database.server().demote().await;
    for allow in [false, true] {
        let error = builder().allow_data_loss(allow).connect(&database.url()).await.expect_err("a standby");
        assert_eq!(kind(&error), StoreErrorKind::Refused);
    }
    // It was the primary when we connected, and may be again.
    wait_for("fresh connections", async || {
        let error = store.claim(&key("new"), &request()).await.expect_err("no writes");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        full_text(&error).contains("read-only")
    })
    .await;
}

#[tokio::test]
async fn a_missing_or_newer_schema_is_refused() {
    let database = PostgresDatabase::create().await;
    let store = PostgresStore::new(pool(&database).await).expect("a store");
    assert_eq!(fault(&store, &key("missing-schema")).await, StoreErrorKind::Refused);
    store.migrate().await.expect("a schema");
    store.migrate().await.expect("the same schema");
    finish(&store, &key("k")).await;

    database.execute("UPDATE idempotent_records_schema SET version = 7").await;
    assert_eq!(kind(&store.migrate().await.expect_err("a newer schema")), StoreErrorKind::Refused);
    let error = PostgresStore::connect(&database.url()).await.expect_err("a newer schema");
    assert_eq!(kind(&error), StoreErrorKind::Refused);
}

#[tokio::test]
async fn urls_and_tables_that_are_wrong_are_refused() {
    for url in ["postgres://user:canary@host:port/db", "postgres://u:canary@h/d?sslmode=canary"] {
        let error = PostgresStore::connect(url).await.expect_err("a wrong URL");
        assert!(matches!(error, SetupError::Url(_)), "{error:?}");
        assert!(!full_text(&error).contains("canary"));
    }
    let database = PostgresDatabase::create().await;
    let missing = database.url().replace(database.name(), "canary");
    let error = PostgresStore::connect(&missing).await.expect_err("a missing database");
    assert_eq!(kind(&error), StoreErrorKind::Refused);
    assert!(!full_text(&error).contains("canary"));
    let error = builder().table("x; DROP TABLE y").connect(&database.url()).await.expect_err("no name of a table");
    assert!(matches!(error, SetupError::Setting(_)), "{error:?}");
}

/// Each of these is in the way of `CREATE TABLE IF NOT EXISTS`, or goes for the table.
#[tokio::test]
async fn a_name_that_something_else_has_is_refused() {
    let database = PostgresDatabase::create().await;
    database
        .execute(
            "CREATE TABLE things (id integer);
             CREATE INDEX an_index ON things (id);
             CREATE SEQUENCE a_sequence;
             CREATE VIEW a_view AS SELECT 1 AS one;
             CREATE MATERIALIZED VIEW a_materialized_view AS SELECT 1 AS one;
             CREATE TYPE a_type AS (one integer);
             CREATE TYPE an_enum AS ENUM ('one');
             CREATE FUNCTION texts_json(result bytea) RETURNS jsonb LANGUAGE sql RETURN 'null'::jsonb;
             CREATE INDEX versions_schema ON things (id);
             CREATE VIEW parts_view AS SELECT 1 AS one;
             CREATE TABLE numbers_fence (id integer);
             CREATE INDEX steps_steps ON things (id);",
        )
        .await;
    let whole = ["an_index", "a_sequence", "a_view", "a_materialized_view", "a_type", "an_enum", "things"];
    for name in whole.into_iter().chain(["parts", "numbers", "steps", "texts", "versions"]) {
        match PostgresStore::builder().table(name).connect(&database.url()).await {
            Err(SetupError::Store(error)) => {
                assert_eq!(error.kind(), StoreErrorKind::Refused, "{name}: {error:?}");
                assert!(error.to_string().contains("another name"), "{name}: {error}");
            }
            other => panic!("{name}: {:?}", other.err()),
        }
    }
}

#[tokio::test]
async fn two_tables_are_two_stores() {
    let database = PostgresDatabase::create().await;
    let ours = connect(&database.url()).await;
    let theirs = builder().table("select").connect(&database.url()).await.expect("a store");
    finish(&ours, &key("k")).await;
    claim(&theirs, &key("k")).await;
    assert!(is_done(&ours, &key("k")).await);
}

#[tokio::test]
async fn the_documented_privileges_are_enough() {
    let database = PostgresDatabase::on_its_own_server().await;
    connect(&database.url()).await;
    database
        .execute(
            "CREATE ROLE app LOGIN;
             GRANT SELECT, INSERT, UPDATE, DELETE ON idempotent_records TO app;
             GRANT SELECT, INSERT, DELETE ON idempotent_records_steps TO app;
             GRANT USAGE ON SEQUENCE idempotent_records_fence TO app;
             GRANT SELECT ON idempotent_records_schema TO app;",
        )
        .await;
    let url = database.url().replace("postgres@", "app@");
    let store = connect(&url).await;
    let key = key("k");
    let token = claim(&store, &key).await;
    assert!(store.fence(&key, &token).await.expect("a fence").is_some());
    let mut subscription = store.subscribe(&key).await.expect("a subscription");
    assert_eq!(store.renew(&key, &token, LEASE, TTL).await.expect("renew"), Transition::Applied);
    assert_eq!(store.complete(&key, &token, &outcome(), TTL).await.expect("complete"), Transition::Applied);
    subscription.notified().await;
    assert!(store.inspect(&key).await.expect("inspect").is_some());
    assert_eq!(store.list(None, None, 10).await.expect("list").records.len(), 1);
    assert!(store.forget(&key).await.expect("forget"));
    let token = claim(&store, &key).await;
    assert_eq!(store.append(&key, &token, &step("a"), LEASE, TTL).await.expect("append"), Appended::Applied);
    assert_eq!(store.append(&key, &token, &step("a"), LEASE, TTL).await.expect("append"), Appended::Applied);
    assert_eq!(abandon(&store, &key, &token).await.expect("suspend"), Suspension::Applied);
    let token = claim(&store, &key).await;
    assert_eq!(store.steps(&key, &token).await.expect("steps"), Some(vec![step("a")]));
    let suspended = store.suspend(&key, &token, Why::Unstarted, Duration::ZERO, TTL).await;
    assert_eq!(suspended.expect("suspend"), Suspension::Applied);
    let token = claim(&store, &key).await;
    assert_eq!(store.release(&key, &token, TTL).await.expect("release"), Transition::Applied);
    let token = claim(&store, &key).await;
    assert_eq!(store.complete(&key, &token, &outcome(), TTL).await.expect("complete"), Transition::Applied);
    assert_eq!(value::<i64>(&database, "SELECT count(*) FROM idempotent_records_steps").await, 0);
    let token = claim(&store, &self::key("released")).await;
    assert_eq!(store.release(&self::key("released"), &token, TTL).await.expect("release"), Transition::Applied);
    assert_eq!(store.purge_expired(10).await.expect("purge"), 0);

    database.execute("REVOKE INSERT ON idempotent_records FROM app").await;
    assert_eq!(fault(&store, &self::key("without-privilege")).await, StoreErrorKind::Refused);
}

#[tokio::test]
async fn people_can_read_the_view() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    let token = granted(store.claim(&key("json"), &recording()).await);
    assert_eq!(store.complete(&key("json"), &token, &outcome(), TTL).await.expect("complete"), Transition::Applied);
    let binary = claim(&store, &key("binary")).await;
    let bytes = idempotent_runtime::Outcome::Ok(bytes::Bytes::from_static(b"\xFF\0"));
    assert_eq!(store.complete(&key("binary"), &binary, &bytes, TTL).await.expect("complete"), Transition::Applied);
    claim(&store, &key("lapsed")).await;
    database.execute("UPDATE idempotent_records SET lease_until = now() WHERE key = 'lapsed'").await;
    let view = |key: &str, column: &str| format!("SELECT {column} FROM idempotent_records_view WHERE key = '{key}'");
    assert_eq!(value::<String>(&database, &view("json", "result ->> 'a'")).await, "é");
    assert_eq!(value::<String>(&database, &view("json", "arguments ->> 'amount'")).await, "4200");
    assert_eq!(value::<String>(&database, &view("json", "state")).await, "ok");
    assert!(value::<bool>(&database, &view("lapsed", "arguments IS NULL")).await);
    assert!(value::<bool>(&database, &view("binary", "result IS NULL AND result_len = 2")).await);
    assert_eq!(value::<String>(&database, &view("lapsed", "state")).await, "lapsed");
    // What is replayed is what was stored, not what jsonb makes of it.
    assert!(is_done(&store, &key("json")).await);
}

#[tokio::test]
async fn a_row_of_somebody_else_is_corrupt() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    let damages = ["state = 'x'", "result = NULL", "attempt = 0", "state = 'not-kept', reason = 'x'"];
    for (number, damage) in damages.into_iter().enumerate() {
        let key = key(format_args!("damaged-{number}"));
        finish(&store, &key).await;
        database.execute(&format!("UPDATE idempotent_records SET {damage} WHERE key = '{}'", key.key())).await;
        assert_eq!(fault(&store, &key).await, StoreErrorKind::Corrupt, "{damage}");
        let page = store.list(None, None, 100).await.expect("a page");
        assert!(page.records.is_empty(), "{damage} is listed");
        assert!(store.forget(&key).await.expect("forget"), "an operator can remove it");
    }
}

#[tokio::test]
async fn a_key_that_the_index_cannot_hold_is_refused() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    // Random, since what repeats itself is compressed.
    let long: String = (0..6000).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    assert_eq!(fault(&store, &key(long)).await, StoreErrorKind::Refused);
}

/// The longest key that a handle takes, beside the longest name of an operation, on every store alike.
#[tokio::test]
async fn the_index_holds_every_key_that_a_handle_takes() {
    let database = PostgresDatabase::create().await;
    let max = IdempotencyBuilder::MAX_KEY_LEN;
    let url = database.url();
    let error = Idempotency::builder().max_key_len(max + 1).connect(&url).await.expect_err("above the limit");
    assert!(matches!(error, SetupError::Setting(text) if text.contains("max_key_len")), "{error:?}");
    let handle = Idempotency::builder().max_key_len(max).connect(&url).await.expect("a handle");
    // Random, since what repeats itself is compressed.
    let random = |len: usize| -> String { (0..len).map(|_| char::from(rand::random_range(b'!'..=b'$'))).collect() };
    let letters = |len: usize| -> String { (0..len).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect() };
    let operation = letters(255);
    for key in [letters(max), random(max / 3)] {
        let call = async |amount: u32| {
            let body = async move { Ok::<_, Error>(amount) };
            Box::pin(handle.call(operation.clone()).key(&key).run(body)).await
        };
        assert_eq!(call(1).await.expect("a result"), 1);
        assert_eq!(call(2).await.expect("a replay"), 1);
    }
    let long = letters(max + 1);
    let answer = Box::pin(handle.call(operation).key(&long).run(async { Ok::<_, Error>(1) })).await;
    assert!(matches!(answer, Err(Error::Key(_))), "{answer:?}");
}

#[test]
#[should_panic(expected = "max_key_len")]
fn a_handle_with_longer_keys_than_stores_hold_cannot_be_built() {
    let builder = Idempotency::builder().max_key_len(IdempotencyBuilder::MAX_KEY_LEN + 1);
    let _ = builder.build(idempotent_runtime::store::memory::MemoryStore::new());
}

/// Nobody has started a sweeper. One process at a time does it.
#[tokio::test]
async fn expired_records_go_by_themselves() {
    let database = PostgresDatabase::create().await;
    let builder = || builder().sweep_interval(Duration::from_millis(50));
    let never = builder().sweep_interval(Duration::MAX).connect(&database.url()).await.expect("a store");
    let store = builder().connect(&database.url()).await.expect("a store");
    let count = async || value::<i64>(&database, "SELECT count(*) FROM idempotent_records").await;
    let expire = "INSERT INTO idempotent_records
            (operation, key, state, fingerprint, nonce, attempt, expires_at, life_began_at)
        SELECT 'op', i::text, 'ok', '', '', 1, now(), now() FROM generate_series(1, 1200) AS i";
    database.execute(expire).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    claim(&never, &key("never")).await;
    // Another session is at it.
    let mut other = database.client().await;
    let lock = "SELECT pg_advisory_lock(hashtextextended('idempotent sweep of idempotent_records', 0))";
    sqlx::raw_sql(lock).execute(&mut other).await.expect("its lock");
    claim(&store, &key("left-to-others")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(count().await, 1202);
    drop(other);
    // In a transaction of the caller's it goes as well, beside the transaction.
    wait_for("the sweep", async || {
        let mut transaction = database.client().await;
        let begin = sqlx::raw_sql("BEGIN").execute(&mut transaction).await;
        begin.expect("a transaction");
        let steps = store.transactional().expect("SQL");
        let answer = steps.claim(&mut transaction, &key(rand::random::<u64>()), &request(), Duration::ZERO).await;
        assert!(matches!(answer, Ok(ClaimOutcome::Claimed { .. })), "{answer:?}");
        count().await == 2
    })
    .await;
}

#[tokio::test]
async fn an_error_of_connect_says_its_causes_once() {
    let database = PostgresDatabase::on_its_own_server().await;
    let url = database.url();
    let wrong = [
        "postgres://postgres@127.0.0.1:1/postgres".to_owned(),
        "postgres://postgres@nowhere.invalid/postgres".to_owned(),
        "postgres://[".to_owned(),
        format!("{url}?sslmode=require"),
        url.replace("postgres@", "missing@"),
        url.replace(database.name(), "missing"),
    ];
    for url in wrong {
        let error = builder().connect(&url).await.expect_err(&url);
        assert_says_causes_once(&error);
    }
}

/// A role that is set to read only for good. (A database or a server may be so for a while.)
#[tokio::test]
async fn what_does_not_pass_is_refused_with_what_to_change() {
    let database = PostgresDatabase::on_its_own_server().await;
    connect(&database.url()).await;
    database
        .execute(
            "CREATE ROLE reader LOGIN; ALTER ROLE reader SET default_transaction_read_only = on;
             CREATE ROLE nobody LOGIN; GRANT SELECT ON idempotent_records_schema TO nobody;
             CREATE ROLE elsewhere LOGIN; ALTER ROLE elsewhere SET search_path = nowhere;",
        )
        .await;
    let url = |user: &str, more: &str| format!("{}{more}", database.url().replace("postgres@", &format!("{user}@")));
    for (url, what) in [
        (url("reader", ""), "default_transaction_read_only"),
        (url("postgres", "?options=-cdefault_transaction_read_only%3Don"), "default_transaction_read_only"),
        (url("elsewhere", ""), "search_path"),
        (url("postgres", "?options=-cno_such_parameter%3D1"), "parameter"),
        (url("missing", ""), "credentials"),
    ] {
        let error = PostgresStore::connect(&url).await.expect_err(what);
        assert_eq!(kind(&error), StoreErrorKind::Refused, "{what}: {error:?}");
        assert!(full_text(&error).contains(what), "{what}: {error:?}");
    }
    let store = connect(&url("nobody", "")).await;
    let error = store.claim(&key("k"), &request()).await.expect_err("no privilege");
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert!(full_text(&error).contains("grant"), "{error:?}");
    let error = Error::from(error);
    assert_eq!((error.http_status(), error.is_retryable()), (500, false));
}

/// A role or its database may have been set up for other programs.
#[tokio::test]
async fn odd_settings_of_a_role_change_nothing() {
    const SETTINGS: [&str; 16] = [
        "bytea_output = escape",
        "DateStyle = 'German, DMY'",
        "IntervalStyle = sql_standard",
        "TimeZone = 'Pacific/Kiritimati'",
        "standard_conforming_strings = off",
        "default_transaction_isolation = serializable",
        "default_transaction_deferrable = on",
        "synchronous_commit = off",
        "lock_timeout = '1s'",
        "idle_in_transaction_session_timeout = '100ms'",
        "plan_cache_mode = force_generic_plan",
        "enable_indexscan = off",
        "client_encoding = latin1",
        "search_path = pg_catalog, public",
        "transform_null_equals = on",
        "extra_float_digits = -15",
    ];
    let database = PostgresDatabase::on_its_own_server().await;
    connect(&database.url()).await;
    for (number, setting) in SETTINGS.iter().enumerate() {
        database
            .execute(&format!("CREATE ROLE odd{number} LOGIN SUPERUSER; ALTER ROLE odd{number} SET {setting}"))
            .await;
        let url = database.url().replace("postgres@", &format!("odd{number}@"));
        let own_pool = PgPoolOptions::new().max_connections(2).connect(&url).await.expect("a pool");
        for (name, store) in [("theirs", builder().build(own_pool).expect("a store")), ("ours", connect(&url).await)] {
            use_all_of(&store, &format!("{name}-{number}")).await;
        }
    }
}

#[tokio::test]
async fn an_ipv6_address_can_be_connected_to() {
    let database = PostgresDatabase::from(PostgresServer::start_with(&["listen_addresses=127.0.0.1,::1"]).await);
    let port = database.address().rsplit_once(':').expect("a port").1.to_owned();
    let store = connect(&format!("postgres://postgres@[::1]:{port}/postgres")).await;
    finish(&store, &key("k")).await;
}

#[tokio::test]
async fn a_server_that_may_lose_everything_is_told_of_where_it_is_accepted() {
    let database = PostgresDatabase::from(PostgresServer::start_with(&["fsync=off"]).await);
    let events = CapturedEvents::start();
    builder().allow_data_loss(true).connect(&database.url()).await.expect("allowed");
    let told = events.take();
    assert!(told.len() == 1 && told[0].starts_with("WARN") && told[0].contains("fsync=off"), "{told:?}");
}

#[tokio::test]
async fn a_sweeper_removes_what_has_expired_and_waits_for_nobody() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    for number in 0..50 {
        finish(&store, &key(number)).await;
    }
    database.execute("UPDATE idempotent_records SET expires_at = now() WHERE key <> '7'").await;
    // Somebody looks at an expired row, and takes long.
    let mut client = database.client().await;
    let held = "BEGIN; SELECT FROM idempotent_records WHERE key = '8' FOR UPDATE";
    sqlx::raw_sql(held).execute(&mut client).await.expect("a lock");
    let sweeper = Idempotency::new(store.clone()).spawn_sweeper(std::time::Duration::from_millis(10));
    let count = async || value::<i64>(&database, "SELECT count(*) FROM idempotent_records").await;
    wait_for("the sweep", async || count().await == 2).await;
    drop(client);
    wait_for("the rest", async || count().await == 1).await;
    drop(sweeper);
    let record = store.inspect(&key(7)).await.expect("inspect").expect("what is alive stays");
    assert_eq!(record.state, State::Done(outcome()));
}
