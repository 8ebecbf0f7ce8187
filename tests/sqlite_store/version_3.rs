//! A file of schema version 3, filled by that version's own statements, and migrated while others migrate it, too.

use std::time::Duration;

use idempotent_runtime::{
    Outcome, Store,
    store::{
        Appended, Before, ClaimOutcome, Generation, Nonce, NotKept, Past, State, Token, Transition, sqlite::SqliteStore,
    },
};
use sqlx::{AssertSqlSafe, SqliteConnection};
use tokio::task::JoinSet;

use crate::{
    sqlite_file::SqliteFile,
    support::{ARGUMENTS, LEASE, TTL, connect, key, outcome, request, step},
};

const CLAIM: &str = include_str!("version_3/claim.sql");
const COMPLETE: &str = include_str!("version_3/complete.sql");
const ABANDON: &str = include_str!("version_3/abandon.sql");
const RELEASE: &str = include_str!("version_3/release.sql");

const NONCE: [u8; 16] = [1; 16];
const OWNER: Token = Token::new(Nonce::from_bytes(NONCE));

/// The columns `state`, `result` and `reason` of a run that has ended.
type End = (&'static str, Option<&'static [u8]>, Option<&'static str>);

/// Every outcome that version 3 writes, with the name of its key.
const OUTCOMES: [(&str, End); 4] = [
    ("ok", ("ok", Some(b"{\"b\": 1.0}"), None)),
    ("error", ("error", Some(b"\"no\""), None)),
    ("too-large", ("not-kept", None, Some("too-large"))),
    ("not-serializable", ("not-kept", None, Some("not-serializable"))),
];

fn text(sql: &str) -> String {
    let now = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)";
    sql.replace("{now}", now).replace("{held}", "1576800000000").replace("{table}", "idempotent_records")
}

fn fill(sql: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(text(sql))
}

/// A claim as version 3 makes it. Answers whether it was granted.
async fn old_claim(connection: &mut SqliteConnection, name: &str) -> sqlx::Result<bool> {
    let key = key(name);
    let query = sqlx::query(fill(CLAIM)).bind(key.operation()).bind(key.key()).bind(vec![7_u8; 32]);
    let query = query.bind(NONCE.to_vec()).bind(60_000).bind(3_600_000).bind(true).bind(None::<i64>);
    Ok(!query.bind(ARGUMENTS.as_bytes()).fetch_all(connection).await?.is_empty())
}

/// A completion as version 3 makes it. Answers whether it was applied.
async fn old_complete(connection: &mut SqliteConnection, name: &str, (state, result, reason): End) -> bool {
    let key = key(name);
    let query = sqlx::query(fill(COMPLETE)).bind(key.operation()).bind(key.key()).bind(NONCE.to_vec());
    let rows = query.bind(state).bind(result).bind(reason).bind(3_600_000).fetch_all(connection).await;
    !rows.expect("a completion").is_empty()
}

/// Another end of a run as version 3 makes it. Answers whether it was applied.
async fn old_end(connection: &mut SqliteConnection, name: &str, sql: &str) -> bool {
    let key = key(name);
    let query = sqlx::query(fill(sql)).bind(key.operation()).bind(key.key()).bind(NONCE.to_vec());
    let query = if sql == ABANDON { query.bind(3_600_000) } else { query };
    !query.fetch_all(connection).await.expect("an end").is_empty()
}

async fn version_3() -> SqliteFile {
    let file = SqliteFile::new();
    for schema in [
        include_str!("../../idempotent-runtime/src/store/sqlite/schema_1.sql"),
        include_str!("../../idempotent-runtime/src/store/sqlite/schema_2.sql"),
        include_str!("../../idempotent-runtime/src/store/sqlite/schema_3.sql"),
        "UPDATE {table}_schema SET version = 3",
    ] {
        file.execute(&text(schema)).await;
    }
    let mut connection = file.connection().await;
    for name in ["running", "lapsed", "expired", "abandoned"].into_iter().chain(OUTCOMES.map(|outcome| outcome.0)) {
        assert!(old_claim(&mut connection, name).await.expect("a claim"));
    }
    for (name, end) in OUTCOMES {
        assert!(old_complete(&mut connection, name, end).await);
    }
    assert!(old_end(&mut connection, "abandoned", ABANDON).await);
    file.execute(
        "UPDATE idempotent_records SET lease_until = lease_until - 120000 WHERE key = 'canary-lapsed';
         UPDATE idempotent_records SET expires_at = 1 WHERE key = 'canary-expired';",
    )
    .await;
    file
}

/// The state of a record of [`version_3`]; that of a running one without what is left of its lease.
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
        assert_eq!((state, record.attempt, record.failed), (expected(name), 1, 0), "{name}");
        assert_eq!(record.generation, OWNER.nonce.into(), "{name}");
        assert_eq!(record.not_before, None, "{name}");
        assert_eq!(record.arguments.as_deref(), Some(ARGUMENTS.as_bytes()), "{name}");
    }
    assert_eq!(store.list(None, None, 100).await.expect("a page").records.len(), 3 + OUTCOMES.len());
}

async fn claimed(store: &SqliteStore, name: &str) -> (Token, u32, Past) {
    match store.claim(&key(name), &request()).await.expect("an answer") {
        ClaimOutcome::Claimed { token, attempt, past, .. } => (token, attempt, past),
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_upgrade_records_of_every_state_at_once() {
    let file = version_3().await;
    let mut migrations = JoinSet::new();
    for _ in 0..16 {
        let url = file.url();
        migrations.spawn(async move {
            every_record_reads_back(&SqliteStore::connect(&url).await.expect("a store")).await;
        });
    }
    migrations.join_all().await;
    let version = sqlx::query_scalar::<_, i64>("SELECT version FROM idempotent_records_schema");
    assert_eq!(version.fetch_all(&mut file.connection().await).await.expect("rows"), [6]);
}

#[tokio::test]
async fn records_of_every_state_go_on() {
    let file = version_3().await;
    let store = connect(&file).await;
    for (name, _) in OUTCOMES {
        let answer = store.claim(&key(name), &request()).await.expect("an answer");
        let ClaimOutcome::Done(finished) = answer else { panic!("{name}: {answer:?}") };
        assert_eq!(State::Done(finished.outcome), expected(name));
    }
    let (_, attempt, past) = claimed(&store, "expired").await;
    assert_eq!((attempt, past.before), (1, Before::Fresh));
    let answer = store.claim(&key("running"), &request()).await.expect("an answer");
    assert!(matches!(answer, ClaimOutcome::InFlight { .. }), "{answer:?}");

    let minute = Duration::from_secs(60);
    for (name, abandoned_for) in [("lapsed", minute..minute * 2), ("abandoned", Duration::ZERO..minute)] {
        let (token, attempt, past) = claimed(&store, name).await;
        assert_eq!((attempt, past.failed, past.has_steps), (2, 0, false), "{name}");
        assert_eq!(past.generation, Generation::from_bytes(NONCE), "{name}");
        let Before::Abandoned { since, .. } = past.before else { panic!("{name}: {past:?}") };
        assert!(abandoned_for.contains(&since), "{name}: {since:?}");
        let appended = store.append(&key(name), &token, &step("a"), LEASE, TTL).await;
        assert_eq!(appended.expect("append"), Appended::Applied);
        let completed = store.complete(&key(name), &token, &outcome(), TTL).await;
        assert_eq!(completed.expect("complete"), Transition::Applied);
    }
    let steps = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM idempotent_records_steps");
    assert_eq!(steps.fetch_all(&mut file.connection().await).await.expect("rows"), [0]);
}

/// A process of the release before goes on after another one has migrated.
#[tokio::test]
async fn a_process_of_version_3_claims_no_more_and_ends_what_it_has_begun() {
    let file = version_3().await;
    let mut old = file.connection().await;
    for name in ["released", "given-up"] {
        assert!(old_claim(&mut old, name).await.expect("a claim"));
    }
    let store = connect(&file).await;
    for name in ["new", "ok", "lapsed"] {
        let refused = old_claim(&mut old, name).await.expect_err("the statement of version 3");
        let code = refused.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(code.as_deref(), Some("1"), "{name}: {refused}");
    }
    assert!(store.inspect(&key("new")).await.expect("inspect").is_none());
    assert!(old_complete(&mut old, "running", ("ok", Some(b"{\"b\": 1.0}"), None)).await);
    let record = store.inspect(&key("running")).await.expect("inspect").expect("a record");
    assert_eq!(record.state, expected("ok"));
    assert!(old_end(&mut old, "released", RELEASE).await);
    assert_eq!(claimed(&store, "released").await.1, 1);
    assert!(old_end(&mut old, "given-up", ABANDON).await);
    assert_eq!(claimed(&store, "given-up").await.1, 2);
    // And its owner's end, asked again by this version, is known as its own.
    let again = store.complete(&key("running"), &OWNER, &Outcome::Ok("{\"b\": 1.0}".into()), TTL).await;
    assert_eq!(again.expect("complete"), Transition::Applied);
}
