//! The journal of steps in its table: whatever removes a record removes its steps in the same statement.

use std::time::Duration;

use idempotent_runtime::{
    Outcome, RecordKey, Store,
    store::{Appended, ClaimOutcome, State, Suspension, Token, Transition, Why, postgres::PostgresStore},
};

use crate::{PostgresDatabase, support::*, wait_for};

/// A run with two steps in its journal.
async fn begun(store: &PostgresStore, key: &RecordKey) -> Token {
    let token = claim(store, key).await;
    for name in ["a", "b"] {
        let appended = store.append(key, &token, &step(name), LEASE, TTL).await;
        assert_eq!(appended.expect("append"), Appended::Applied);
    }
    token
}

/// The sessions of this database that wait for a lock.
const WAITING: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

async fn steps(database: &PostgresDatabase) -> i64 {
    value(database, "SELECT count(*) FROM idempotent_records_steps").await
}

#[tokio::test]
async fn steps_go_with_their_record_whoever_removes_it() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    let kept = begun(&store, &key("kept")).await;
    let expire = "UPDATE idempotent_records SET expires_at = now() WHERE key = 'k'";
    for end in ["complete", "forget", "purge", "claim", "delete", "elsewhere"] {
        let token = begun(&store, &key("k")).await;
        assert_eq!(steps(&database).await, 4);
        match end {
            "complete" => drop(store.complete(&key("k"), &token, &outcome(), TTL).await.expect("complete")),
            "forget" => assert!(store.forget(&key("k")).await.expect("forget")),
            "purge" => {
                database.execute(expire).await;
                assert_eq!(store.purge_expired(10).await.expect("purge"), 1);
            }
            "claim" => {
                database.execute(expire).await;
                let token = claim(&store, &key("k")).await;
                assert_eq!(store.steps(&key("k"), &token).await.expect("steps"), Some(Vec::new()));
            }
            "delete" => database.execute("DELETE FROM idempotent_records WHERE key = 'k'").await,
            // From a session that does not find the table by its bare name.
            _ => database.execute("SET search_path = ''; DELETE FROM public.idempotent_records WHERE key = 'k'").await,
        }
        assert_eq!(steps(&database).await, 2, "{end}");
        store.forget(&key("k")).await.expect("forget");
    }
    let read = store.steps(&key("kept"), &kept).await.expect("steps");
    assert_eq!(read, Some(vec![step("a"), step("b")]), "those of another key stay");
}

/// `TRUNCATE` fires no trigger for a row.
#[tokio::test]
async fn steps_without_a_record_are_no_other_lifes() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    begun(&store, &key("k")).await;
    database.execute("TRUNCATE idempotent_records").await;
    let token = claim(&store, &key("k")).await;
    assert_eq!(store.steps(&key("k"), &token).await.expect("steps"), Some(Vec::new()));
    let appended = store.append(&key("k"), &token, &step("a"), LEASE, TTL).await;
    assert_eq!(appended.expect("append"), Appended::Applied);
}

/// Two requests of one step wait for the record's row: the later one does not see the earlier one in its snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_sent_twice_at_once_is_recorded_once() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    let key = key("k");
    let token = claim(&store, &key).await;
    let mut client = database.client().await;
    let lock = "BEGIN; SELECT FROM idempotent_records FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut client).await.expect("a lock");
    let send = || {
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move { store.append(&key, &token, &step("a"), LEASE, TTL).await })
    };
    let sent = [send(), send()];
    wait_for("both to wait", async || value::<i64>(&database, WAITING).await == 2).await;
    sqlx::raw_sql("COMMIT").execute(&mut client).await.expect("its end");
    for answer in sent {
        assert_eq!(answer.await.expect("a task").expect("append"), Appended::Applied);
    }
    assert_eq!(steps(&database).await, 1);
}

/// The release does not see the step in its snapshot, and must not remove what the step did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_behind_a_step_leaves_the_run_as_failed() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    let key = key("k");
    let token = claim(&store, &key).await;
    let mut client = database.client().await;
    let lock = "BEGIN; SELECT FROM idempotent_records FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut client).await.expect("a lock");
    let appending = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        async move { store.append(&key, &token, &step("a"), LEASE, TTL).await }
    });
    wait_for("the step to wait", async || value::<i64>(&database, WAITING).await == 1).await;
    let releasing = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        async move { store.release(&key, &token, TTL).await }
    });
    wait_for("both to wait", async || value::<i64>(&database, WAITING).await == 2).await;
    sqlx::raw_sql("COMMIT").execute(&mut client).await.expect("its end");
    assert_eq!(appending.await.expect("a task").expect("append"), Appended::Applied);
    assert_eq!(releasing.await.expect("a task").expect("release"), Transition::Applied);
    let record = store.inspect(&key).await.expect("inspect").expect("a record");
    assert_eq!((record.state, record.failed), (State::Failed, 1));
    assert_eq!(steps(&database).await, 1);
}

/// A life that began outside ends in a transaction of the caller's.
#[tokio::test]
async fn steps_go_with_a_run_that_ends_in_a_transaction() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    let key = key("k");
    let token = begun(&store, &key).await;
    assert_eq!(store.release(&key, &token, TTL).await.expect("release"), Transition::Applied);
    for (end, left) in [("ROLLBACK", 2), ("COMMIT", 0)] {
        let mut client = database.client().await;
        sqlx::raw_sql("BEGIN").execute(&mut client).await.expect("a transaction");
        let sql = store.transactional().expect("SQL");
        let answer = sql.claim(&mut client, &key, &request(), LEASE).await;
        assert!(matches!(answer, Ok(ClaimOutcome::Claimed { attempt: 2, .. })), "{answer:?}");
        sql.complete(&mut client, &key, &granted(answer), &outcome(), TTL).await.expect("complete");
        sqlx::raw_sql(end).execute(&mut client).await.expect("its end");
        assert_eq!(steps(&database).await, left, "{end}");
    }
}

/// People see that there is a result, although `jsonb` cannot hold it.
#[tokio::test]
async fn the_view_shows_what_jsonb_cannot_hold() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    let token = claim(&store, &key("k")).await;
    let written = r#"{"a":"b\u0000c"}"#;
    let completed = store.complete(&key("k"), &token, &Outcome::Ok(written.into()), TTL).await;
    assert_eq!(completed.expect("complete"), Transition::Applied);
    let shown: String = value(&database, "SELECT result #>> '{}' FROM idempotent_records_view").await;
    assert_eq!(shown, written);
}

/// The columns of a run that is left to a further one.
#[tokio::test]
async fn the_view_shows_pauses_and_failures() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    let token = claim(&store, &key("k")).await;
    let pause = Duration::from_secs(60);
    let suspended = store.suspend(&key("k"), &token, Why::Failed, pause, TTL).await;
    assert_eq!(suspended.expect("suspend"), Suspension::Applied);
    let shown = "SELECT state || ' ' || failed || ' ' || (not_before > now()) FROM idempotent_records_view";
    assert_eq!(value::<String>(&database, shown).await, "failed 1 true");
    let sql = "SELECT attname FROM pg_attribute WHERE attrelid = 'idempotent_records_view'::regclass ORDER BY attnum";
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut database.client().await).await.expect("names");
    let last = ["arguments", "failed", "not_before", "context"].map(String::from);
    assert!(names.ends_with(&last), "{names:?}");
}
