//! The journal of steps in its table, and what a clock that went back does to a record that is left to a further run.

use std::time::Duration;

use idempotent_runtime::{
    RecordKey, Store,
    store::{Appended, Before, ClaimOutcome, State, Suspension, Token, Why, sqlite::SqliteStore},
};

use crate::{
    sqlite_file::SqliteFile,
    support::{LEASE, TTL, claim, connect, key, outcome, request, step},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A run with two steps in its journal.
async fn begun(store: &SqliteStore, key: &RecordKey) -> Token {
    let token = claim(store, key).await;
    for name in ["a", "b"] {
        let appended = store.append(key, &token, &step(name), LEASE, TTL).await;
        assert_eq!(appended.expect("append"), Appended::Applied);
    }
    token
}

async fn steps(file: &SqliteFile) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM idempotent_records_steps");
    count.fetch_one(&mut file.connection().await).await.expect("a count")
}

#[tokio::test]
async fn steps_go_with_their_record_whoever_removes_it() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    let kept = begun(&store, &key("kept")).await;
    let expire = "UPDATE idempotent_records SET expires_at = 0 WHERE key = 'canary-k'";
    for end in ["complete", "forget", "purge", "claim", "delete"] {
        let token = begun(&store, &key("k")).await;
        assert_eq!(steps(&file).await, 4);
        match end {
            "complete" => drop(store.complete(&key("k"), &token, &outcome(), TTL).await.expect("complete")),
            "forget" => assert!(store.forget(&key("k")).await.expect("forget")),
            "purge" => {
                file.execute(expire).await;
                assert_eq!(store.purge_expired(10).await.expect("purge"), 1);
            }
            "claim" => {
                file.execute(expire).await;
                let token = claim(&store, &key("k")).await;
                assert_eq!(store.steps(&key("k"), &token).await.expect("steps"), Some(Vec::new()));
            }
            _ => file.execute("DELETE FROM idempotent_records WHERE key = 'canary-k'").await,
        }
        assert_eq!(steps(&file).await, 2, "{end}");
        store.forget(&key("k")).await.expect("forget");
    }
    let read = store.steps(&key("kept"), &kept).await.expect("steps");
    assert_eq!(read, Some(vec![step("a"), step("b")]), "those of another key stay");
}

/// All times of a record are moved, as they are where the clock has gone back by as much.
async fn clock_goes_back(file: &SqliteFile, by: Duration) {
    let by = by.as_millis();
    file.execute(&format!(
        "UPDATE idempotent_records SET
           lease_until = lease_until + {by}, expires_at = expires_at + {by}, since = since + {by},
           not_before = not_before + {by}, completed_at = completed_at + {by}, behind_until = behind_until + {by}"
    ))
    .await;
}

async fn clock_is_right_again(file: &SqliteFile, by: Duration) {
    let by = by.as_millis();
    file.execute(&format!(
        "UPDATE idempotent_records SET
           lease_until = lease_until - {by}, expires_at = expires_at - {by}, since = since - {by},
           not_before = not_before - {by}, completed_at = completed_at - {by}, behind_until = behind_until - {by}"
    ))
    .await;
}

#[tokio::test]
async fn a_pause_begins_anew_where_the_clock_went_back() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    let token = claim(&store, &key("k")).await;
    let suspended = store.suspend(&key("k"), &token, Why::Failed, MINUTE, TTL).await;
    assert_eq!(suspended.expect("suspend"), Suspension::Applied);
    clock_goes_back(&file, MINUTE * 60).await;
    let answer = store.claim(&key("k"), &request()).await.expect("an answer");
    let ClaimOutcome::Suspended { retry_after, attempt: 1, .. } = answer else { panic!("{answer:?}") };
    assert!(retry_after <= MINUTE, "{retry_after:?}");
    let record = store.inspect(&key("k")).await.expect("inspect").expect("a record");
    assert_eq!((record.state, record.failed), (State::Failed, 1));
    assert!(record.expires_in <= MINUTE + TTL, "{:?}", record.expires_in);
}

/// A look while the clock is wrong for a moment changes nothing for those who look when it is right.
#[tokio::test]
async fn a_pause_is_as_long_as_ever_where_the_clock_went_back_and_is_right_again() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    let token = claim(&store, &key("k")).await;
    let suspended = store.suspend(&key("k"), &token, Why::Abandoned, MINUTE, TTL).await;
    assert_eq!(suspended.expect("suspend"), Suspension::Applied);
    for _ in 0..2 {
        clock_goes_back(&file, MINUTE * 60).await;
        let answer = store.claim(&key("k"), &request()).await;
        assert!(matches!(answer, Ok(ClaimOutcome::Suspended { .. })), "{answer:?}");
        clock_is_right_again(&file, MINUTE * 60).await;
        let answer = store.claim(&key("k"), &request()).await.expect("an answer");
        let ClaimOutcome::Suspended { retry_after, .. } = answer else { panic!("{answer:?}") };
        assert!((MINUTE / 2..=MINUTE).contains(&retry_after), "{retry_after:?}");
    }
    // Nor is it longer than that where the clock stays behind.
    clock_goes_back(&file, MINUTE * 60).await;
    let answer = store.claim(&key("k"), &request()).await;
    assert!(matches!(answer, Ok(ClaimOutcome::Suspended { .. })), "{answer:?}");
    file.execute(&format!("UPDATE idempotent_records SET behind_until = behind_until - {}", MINUTE.as_millis())).await;
    claim(&store, &key("k")).await;
}

#[tokio::test]
async fn the_time_since_a_run_was_abandoned_is_kept_where_the_clock_went_back() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    let token = claim(&store, &key("k")).await;
    let suspended = store.suspend(&key("k"), &token, Why::Abandoned, Duration::ZERO, TTL).await;
    assert_eq!(suspended.expect("suspend"), Suspension::Applied);
    let longer = format!("UPDATE idempotent_records SET since = since - {}", MINUTE.as_millis());
    file.execute(&longer).await;
    clock_goes_back(&file, MINUTE * 60).await;
    let answer = store.claim(&key("k"), &request()).await.expect("an answer");
    let ClaimOutcome::Claimed { past, .. } = answer else { panic!("{answer:?}") };
    let Before::Abandoned { since, .. } = past.before else { panic!("{past:?}") };
    assert!((MINUTE..MINUTE * 2).contains(&since), "{since:?}");
}
