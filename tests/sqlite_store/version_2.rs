//! A file of schema version 2, filled by that version's own statements, and migrated while others migrate it, too.

use std::time::Duration;

use idempotent_runtime::{
    Outcome, Store,
    store::{Nonce, NotKept, State, Token, Transition, sqlite::SqliteStore},
};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};
use tokio::task::JoinSet;

use crate::{
    sqlite_file::SqliteFile,
    support::{TTL, connect, key},
};

const CLAIM: &str = include_str!("version_2/claim.sql");
const COMPLETE: &str = include_str!("version_2/complete.sql");
const ABANDON: &str = include_str!("version_2/abandon.sql");

const NONCE: [u8; 16] = [1; 16];

/// A key, and the columns `state`, `result` and `reason` of its record.
type Columns = (&'static str, &'static str, Option<&'static [u8]>, Option<&'static str>);

/// Every outcome that version 2 writes: the key, and the columns `state`, `result` and `reason`.
const OUTCOMES: [Columns; 4] = [
    ("ok", "ok", Some(b"{\"b\": 1.0}"), None),
    ("error", "err", Some(b"\"no\""), None),
    ("too-large", "unavailable", None, Some("too-large")),
    ("not-serializable", "unavailable", None, Some("not-serializable")),
];

fn fill(sql: &str) -> AssertSqlSafe<String> {
    let now = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)";
    AssertSqlSafe(sql.replace("{table}", "idempotent_records").replace("{now}", now))
}

/// A claim as version 2 makes it. Answers the fence, if it was granted.
async fn old_claim(connection: &mut SqliteConnection, name: &str) -> sqlx::Result<Option<i64>> {
    let key = key(name);
    let query = sqlx::query(fill(CLAIM)).bind(key.operation()).bind(key.key()).bind(vec![7_u8; 32]);
    let query = query.bind(NONCE.to_vec()).bind(60_000).bind(3_600_000).bind(true).bind(None::<i64>);
    let rows = query.bind(b"{\"amount\":4200}".to_vec()).fetch_all(connection).await?;
    Ok(rows.first().map(|row| row.get("fence")))
}

/// A completion as version 2 makes it. Answers whether it was applied.
async fn old_complete(
    connection: &mut SqliteConnection,
    name: &str,
    (state, result, reason): (&'static str, Option<&'static [u8]>, Option<&'static str>),
) -> bool {
    let key = key(name);
    let query = sqlx::query(fill(COMPLETE)).bind(key.operation()).bind(key.key()).bind(NONCE.to_vec());
    let rows = query.bind(state).bind(result).bind(reason).bind(3_600_000).fetch_all(connection).await;
    !rows.expect("a completion").is_empty()
}

/// The file, and the highest fence that was given out.
async fn version_2() -> (SqliteFile, u64) {
    let file = SqliteFile::new();
    for schema in [
        include_str!("../../idempotent-runtime/src/store/sqlite/schema_1.sql"),
        include_str!("../../idempotent-runtime/src/store/sqlite/schema_2.sql"),
        "UPDATE {table}_schema SET version = 2",
    ] {
        file.execute(&schema.replace("{table}", "idempotent_records")).await;
    }
    let mut connection = file.connection().await;
    let mut fence = None;
    for name in ["running", "lapsed", "abandoned"].into_iter().chain(OUTCOMES.map(|outcome| outcome.0)) {
        fence = fence.max(old_claim(&mut connection, name).await.expect("a claim"));
    }
    for (name, state, result, reason) in OUTCOMES {
        assert!(old_complete(&mut connection, name, (state, result, reason)).await);
    }
    let abandoned = key("abandoned");
    let query = sqlx::query(fill(ABANDON)).bind(abandoned.operation()).bind(abandoned.key()).bind(NONCE.to_vec());
    assert_eq!(query.bind(3_600_000).fetch_all(&mut connection).await.expect("an end").len(), 1);
    file.execute("UPDATE idempotent_records SET lease_until = 1 WHERE key = 'canary-lapsed'").await;
    // Of a record that is gone: what is claimed after the migration is above it, too.
    file.execute("UPDATE idempotent_records_schema SET fence_floor = 1 << 60").await;
    (file, u64::try_from(fence.expect("claims")).expect("a fence"))
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

async fn every_record_reads_back(store: &SqliteStore) {
    for name in ["running", "lapsed", "abandoned"].into_iter().chain(OUTCOMES.map(|outcome| outcome.0)) {
        let record = store.inspect(&key(name)).await.expect("inspect").expect("a record");
        let state = match record.state {
            State::Running { lease_left, .. } if lease_left > Duration::from_secs(30) => State::running(Duration::ZERO),
            state => state,
        };
        assert_eq!((state, record.attempt), (expected(name), 1), "{name}");
        assert_eq!(record.arguments.as_deref(), Some(&b"{\"amount\":4200}"[..]), "{name}");
    }
    assert_eq!(store.list(None, None, 100).await.expect("a page").records.len(), 3 + OUTCOMES.len());
}

/// Both columns of a key, as they are in the table or as the view shows them.
async fn words(file: &SqliteFile, relation: &str, name: &str) -> String {
    let sql = format!("SELECT concat_ws(' ', state, reason) FROM {relation} WHERE key = 'canary-{name}'");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut file.connection().await).await.expect("a row")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_upgrade_records_of_every_state_at_once() {
    let (file, fence) = version_2().await;
    let mut migrations = JoinSet::new();
    for _ in 0..16 {
        let url = file.url();
        migrations.spawn(async move {
            every_record_reads_back(&SqliteStore::connect(&url).await.expect("a store")).await;
        });
    }
    migrations.join_all().await;
    for (name, in_table, in_view) in [
        ("running", "running", "running"),
        ("lapsed", "running", "lapsed"),
        ("abandoned", "abandoned", "abandoned"),
        ("ok", "ok", "ok"),
        ("error", "error", "error"),
        ("too-large", "not-kept too-large", "not-kept too-large"),
        ("not-serializable", "not-kept not-serializable", "not-kept not-serializable"),
    ] {
        assert_eq!(words(&file, "idempotent_records", name).await, in_table);
        assert_eq!(words(&file, "idempotent_records_view", name).await, in_view);
    }
    // Owners own what they had, with the fence that they had; and fences rise still.
    let store = connect(&file).await;
    let owner = Token::new(Nonce::from_bytes(NONCE));
    let kept = store.fence(&key("running"), &owner).await.expect("an answer").expect("a fence");
    assert!(kept <= fence);
    assert!(crate::support::claim(&store, &key("new")).await.fence > Some(1 << 60));
    assert!(store.forget(&key("new")).await.expect("forget"));
    assert!(crate::support::claim(&store, &key("new")).await.fence > Some((1 << 60) + 1), "its trigger is there");
}

/// A process of the release before goes on after another one has migrated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_of_version_2_claims_no_more_and_ends_what_it_has_begun() {
    let (file, _) = version_2().await;
    let mut old = file.connection().await;
    // Its statements are prepared, as they are in a process that has made claims before.
    assert_eq!(old_claim(&mut old, "ok").await.expect("a statement"), None);
    let store = connect(&file).await;
    for name in ["new", "ok", "lapsed"] {
        let refused = old_claim(&mut old, name).await.expect_err("the statement of version 2");
        let code = refused.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(code.as_deref(), Some("1"), "{name}: {refused}");
    }
    assert!(store.inspect(&key("new")).await.expect("inspect").is_none());
    assert!(old_complete(&mut old, "running", ("err", Some(b"\"no\""), None)).await);
    let record = store.inspect(&key("running")).await.expect("inspect").expect("a record");
    assert_eq!(record.state, expected("error"));
    assert_eq!(words(&file, "idempotent_records_view", "running").await, "error");
    // And its owner's end, asked again by this version, is known as its own.
    let owner = Token::new(Nonce::from_bytes(NONCE));
    let end = store.complete(&key("running"), &owner, &Outcome::Err("\"no\"".into()), TTL).await;
    assert_eq!(end.expect("complete"), Transition::Applied);
}
