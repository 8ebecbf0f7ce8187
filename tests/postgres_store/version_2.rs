//! A database of schema version 2, filled by that version's own statements, and migrated while others migrate it, too.

use std::time::Duration;

use idempotent_runtime::{
    Outcome, Store,
    store::{Nonce, NotKept, State, Token, postgres::PostgresStore},
};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::task::JoinSet;

use crate::{PostgresDatabase, support::*};

const CLAIM: &str = include_str!("version_2/claim.sql");
const END: &str = include_str!("version_2/end.sql");

const NONCE: [u8; 16] = [1; 16];

/// A key, and the columns `state`, `result` and `reason` of its record.
type Columns = (&'static str, &'static str, Option<&'static [u8]>, Option<&'static str>);

/// Every way in which version 2 ends a run: the key, and the columns `state`, `result` and `reason`.
const ENDS: [Columns; 5] = [
    ("abandoned", "abandoned", None, None),
    ("ok", "ok", Some(b"{\"b\": 1.0}"), None),
    ("error", "error", Some(b"\"no\""), None),
    ("too-large", "unavailable", None, Some("too_large")),
    ("not-serializable", "unavailable", None, Some("not_serializable")),
];

fn fill(sql: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql.replace("{table}", "idempotent_records"))
}

/// A claim as version 2 makes it. Answers whether it was granted.
async fn old_claim(client: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let minute = 60_000_000_i64;
    let query = sqlx::query_scalar(fill(CLAIM)).bind("tests.operation").bind(name.to_owned()).bind(vec![7_u8; 32]);
    let query = query.bind(NONCE.to_vec()).bind(minute).bind(minute * 60).bind(true).bind(None::<String>);
    query.bind(b"{\"amount\":4200}".to_vec()).fetch_one(client).await
}

/// The end of a run as version 2 writes it. Answers whether it was applied.
async fn old_end(
    client: &mut PgConnection,
    name: &str,
    (state, result, reason): (&'static str, Option<&'static [u8]>, Option<&'static str>),
) -> bool {
    let query = sqlx::query(fill(END)).bind("tests.operation").bind(name.to_owned()).bind(NONCE.to_vec());
    let query = query.bind(state).bind(result).bind(reason).bind(3_600_000_000_i64).bind("nobody");
    query.fetch_optional(client).await.expect("an end").is_some()
}

async fn version_2() -> PostgresDatabase {
    let database = PostgresDatabase::create().await;
    database
        .execute(
            &[
                include_str!("../../idempotent-runtime/src/store/postgres/schema_1.sql"),
                include_str!("../../idempotent-runtime/src/store/postgres/schema_2.sql"),
                "CREATE TABLE \"{table}_schema\" (version integer NOT NULL);
                 INSERT INTO \"{table}_schema\" (version) VALUES (2);",
            ]
            .concat()
            .replace("{table}", "idempotent_records"),
        )
        .await;
    let mut client = database.client().await;
    for name in ["running", "lapsed"] {
        assert!(old_claim(&mut client, name).await.expect("a claim"));
    }
    for (name, state, result, reason) in ENDS {
        assert!(old_claim(&mut client, name).await.expect("a claim"));
        assert!(old_end(&mut client, name, (state, result, reason)).await);
    }
    database.execute("UPDATE idempotent_records SET lease_until = now() - interval '1 s' WHERE key = 'lapsed'").await;
    database
}

/// The state of a record of [`version_2`]; that of a running one without what is left of its lease.
fn expected(name: &str) -> State {
    State::Done(match name {
        "running" => return State::running(Duration::ZERO),
        "lapsed" => return State::Lapsed,
        "abandoned" => return State::Abandoned,
        "ok" => Outcome::Ok("{\"b\": 1.0}".into()),
        "error" => Outcome::Err("\"no\"".into()),
        "too-large" => Outcome::NotKept(NotKept::TooLarge),
        "not-serializable" => Outcome::NotKept(NotKept::NotSerializable),
        other => panic!("{other} is no record"),
    })
}

async fn every_record_reads_back(store: &PostgresStore) {
    for name in ["running", "lapsed"].into_iter().chain(ENDS.map(|end| end.0)) {
        let record = store.inspect(&key(name)).await.expect("inspect").expect("a record");
        let state = match record.state {
            State::Running { lease_left, .. } if lease_left > Duration::from_secs(30) => State::running(Duration::ZERO),
            state => state,
        };
        assert_eq!((state, record.attempt), (expected(name), 1), "{name}");
        assert_eq!(record.arguments.as_deref(), Some(&b"{\"amount\":4200}"[..]), "{name}");
    }
    assert_eq!(store.list(None, None, 100).await.expect("a page").records.len(), 2 + ENDS.len());
}

/// Both columns of a key, as they are in the table and as the view shows them.
async fn words(database: &PostgresDatabase, relation: &str, name: &str) -> String {
    value(database, &format!("SELECT concat_ws(' ', state, reason) FROM {relation} WHERE key = '{name}'")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_upgrade_records_of_every_state_at_once() {
    let database = version_2().await;
    let mut migrations = JoinSet::new();
    for _ in 0..16 {
        let url = database.url();
        migrations.spawn(async move {
            every_record_reads_back(&PostgresStore::connect(&url).await.expect("a store")).await;
        });
    }
    migrations.join_all().await;
    assert_eq!(value::<i32>(&database, "SELECT version FROM idempotent_records_schema").await, 6);
    for (name, in_table, in_view) in [
        ("running", "running", "running"),
        ("lapsed", "running", "lapsed"),
        ("abandoned", "abandoned", "abandoned"),
        ("ok", "ok", "ok"),
        ("error", "error", "error"),
        ("too-large", "not-kept too-large", "not-kept too-large"),
        ("not-serializable", "not-kept not-serializable", "not-kept not-serializable"),
    ] {
        assert_eq!(words(&database, "idempotent_records", name).await, in_table);
        assert_eq!(words(&database, "idempotent_records_view", name).await, in_view);
    }
}

/// A process of the release before goes on after another one has migrated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_of_version_2_claims_no_more_and_ends_what_it_has_begun() {
    let database = version_2().await;
    let store = connect(&database.url()).await;
    let mut old = database.client().await;
    for name in ["new", "ok", "lapsed"] {
        let refused = old_claim(&mut old, name).await.expect_err("the statement of version 2");
        let code = refused.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(code.as_deref(), Some("42703"), "{name}: refused, also where it would be a hit");
    }
    assert!(store.inspect(&key("new")).await.expect("inspect").is_none());
    assert!(old_end(&mut old, "running", ("unavailable", None, Some("too_large"))).await);
    let record = store.inspect(&key("running")).await.expect("inspect").expect("a record");
    assert_eq!(record.state, expected("too-large"));
    assert_eq!(words(&database, "idempotent_records_view", "running").await, "not-kept too-large");
    // And its owner's end, asked again by this version, is known as its own.
    let owner = Token::new(Nonce::from_bytes(NONCE));
    let end = store.complete(&key("running"), &owner, &Outcome::NotKept(NotKept::TooLarge), TTL).await;
    assert_eq!(end.expect("complete"), idempotent_runtime::store::Transition::Applied);
}
