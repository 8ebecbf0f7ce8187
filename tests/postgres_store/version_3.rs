//! A database of schema version 3, filled by that version's own statements, and migrated while others migrate it, too.

use std::time::Duration;

use idempotent_runtime::{
    Outcome, Store,
    store::{
        Appended, Before, ClaimOutcome, Generation, Nonce, NotKept, Past, State, Token, Transition,
        postgres::PostgresStore,
    },
};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::task::JoinSet;

use crate::{PostgresDatabase, support::*};

const CLAIM: &str = include_str!("version_3/claim.sql");
const END: &str = include_str!("version_3/end.sql");
const RELEASE: &str = include_str!("version_3/release.sql");

const NONCE: [u8; 16] = [1; 16];
const OWNER: Token = Token::new(Nonce::from_bytes(NONCE));

/// The columns `state`, `result` and `reason` of a run that has ended.
type End = (&'static str, Option<&'static [u8]>, Option<&'static str>);

/// Every way in which version 3 ends a run, with the name of its key.
const ENDS: [(&str, End); 5] = [
    ("abandoned", ("abandoned", None, None)),
    ("ok", ("ok", Some(b"{\"b\": 1.0}"), None)),
    ("error", ("error", Some(b"\"no\""), None)),
    ("too-large", ("not-kept", None, Some("too-large"))),
    ("not-serializable", ("not-kept", None, Some("not-serializable"))),
];

fn fill(sql: &str) -> AssertSqlSafe<String> {
    let settings = include_str!("version_3/settings.sql").replace("{lock_timeout}", "1000");
    let sql = sql.replace("{settings}", &settings).replace("{held}", "interval '50 years'");
    AssertSqlSafe(sql.replace("{table}", "idempotent_records"))
}

/// A claim as version 3 makes it. Answers whether it was granted.
async fn old_claim(client: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let minute = 60_000_000_i64;
    let query = sqlx::query_scalar(fill(CLAIM)).bind("tests.operation").bind(name.to_owned()).bind(vec![7_u8; 32]);
    let query = query.bind(NONCE.to_vec()).bind(minute).bind(minute * 60).bind(true).bind(None::<String>);
    query.bind(ARGUMENTS.as_bytes()).fetch_one(client).await
}

/// The end of a run as version 3 writes it. Answers whether it was applied.
async fn old_end(client: &mut PgConnection, name: &str, (state, result, reason): End) -> bool {
    let query = sqlx::query(fill(END)).bind("tests.operation").bind(name.to_owned()).bind(NONCE.to_vec());
    let query = query.bind(state).bind(result).bind(reason).bind(3_600_000_000_i64).bind("nobody");
    query.fetch_optional(client).await.expect("an end").is_some()
}

async fn old_release(client: &mut PgConnection, name: &str) -> bool {
    let query = sqlx::query(fill(RELEASE)).bind("tests.operation").bind(name.to_owned()).bind(NONCE.to_vec());
    query.bind("nobody").fetch_optional(client).await.expect("an end").is_some()
}

async fn version_3() -> PostgresDatabase {
    let database = PostgresDatabase::create().await;
    database
        .execute(
            &[
                include_str!("../../idempotent-runtime/src/store/postgres/schema_1.sql"),
                include_str!("../../idempotent-runtime/src/store/postgres/schema_2.sql"),
                include_str!("../../idempotent-runtime/src/store/postgres/schema_3.sql"),
                "CREATE TABLE \"{table}_schema\" (version integer NOT NULL);
                 INSERT INTO \"{table}_schema\" (version) VALUES (3);",
            ]
            .concat()
            .replace("{table}", "idempotent_records"),
        )
        .await;
    let mut client = database.client().await;
    for name in ["running", "lapsed", "expired"] {
        assert!(old_claim(&mut client, name).await.expect("a claim"));
    }
    for (name, end) in ENDS {
        assert!(old_claim(&mut client, name).await.expect("a claim"));
        assert!(old_end(&mut client, name, end).await);
    }
    database
        .execute(
            "UPDATE idempotent_records SET lease_until = now() - interval '1 minute' WHERE key = 'lapsed';
             UPDATE idempotent_records SET expires_at = now() WHERE key = 'expired';",
        )
        .await;
    database
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

async fn every_record_reads_back(store: &PostgresStore) {
    for name in ["running", "lapsed"].into_iter().chain(ENDS.map(|end| end.0)) {
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
    assert_eq!(store.list(None, None, 100).await.expect("a page").records.len(), 2 + ENDS.len());
}

async fn claimed(store: &PostgresStore, name: &str) -> (Token, u32, Past) {
    match store.claim(&key(name), &request()).await.expect("an answer") {
        ClaimOutcome::Claimed { token, attempt, past, .. } => (token, attempt, past),
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_upgrade_records_of_every_state_at_once() {
    let database = version_3().await;
    let mut migrations = JoinSet::new();
    for _ in 0..16 {
        let url = database.url();
        migrations.spawn(async move {
            every_record_reads_back(&PostgresStore::connect(&url).await.expect("a store")).await;
        });
    }
    migrations.join_all().await;
    assert_eq!(value::<i32>(&database, "SELECT version FROM idempotent_records_schema").await, 6);
}

#[tokio::test]
async fn records_of_every_state_go_on() {
    let database = version_3().await;
    let store = connect(&database.url()).await;
    for (name, _) in ENDS.iter().filter(|end| end.0 != "abandoned") {
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
    assert_eq!(value::<i64>(&database, "SELECT count(*) FROM idempotent_records_steps").await, 0);
}

/// A process of the release before goes on after another one has migrated.
#[tokio::test]
async fn a_process_of_version_3_claims_no_more_and_ends_what_it_has_begun() {
    let database = version_3().await;
    let mut old = database.client().await;
    for name in ["released", "given-up"] {
        assert!(old_claim(&mut old, name).await.expect("a claim"));
    }
    let store = connect(&database.url()).await;
    for name in ["new", "ok", "lapsed"] {
        let refused = old_claim(&mut old, name).await.expect_err("the statement of version 3");
        let code = refused.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(code.as_deref(), Some("42703"), "{name}: refused, also where it would be a hit");
    }
    assert!(store.inspect(&key("new")).await.expect("inspect").is_none());
    assert!(old_end(&mut old, "running", ("ok", Some(b"{\"b\": 1.0}"), None)).await);
    let record = store.inspect(&key("running")).await.expect("inspect").expect("a record");
    assert_eq!(record.state, expected("ok"));
    assert!(old_release(&mut old, "released").await);
    assert_eq!(claimed(&store, "released").await.1, 1);
    assert!(old_end(&mut old, "given-up", ("abandoned", None, None)).await);
    assert_eq!(claimed(&store, "given-up").await.1, 2);
    // And its owner's end, asked again by this version, is known as its own.
    let again = store.complete(&key("running"), &OWNER, &Outcome::Ok("{\"b\": 1.0}".into()), TTL).await;
    assert_eq!(again.expect("complete"), Transition::Applied);
}
