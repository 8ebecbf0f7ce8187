//! A process of schema version 5 goes on after another one has migrated.

use std::{sync::Arc, time::Duration};

use idempotent_runtime::{
    Store,
    store::{ClaimOutcome, State, Suspension, Why},
};
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::{
    sqlite_file::SqliteFile,
    support::{TTL, connect, key, request},
};

const CLAIM: &str = include_str!("version_5/claim.sql");

/// A claim as version 5 makes it. Answers whether it was granted.
async fn old_claim(connection: &mut SqliteConnection, name: &str) -> bool {
    let held_until = "iif(completed_at > {now}, behind_until, coalesce(lease_until, not_before))";
    let sql = CLAIM.replace("{held_until}", held_until).replace("{clock}", "max({now}, coalesce(completed_at, 0))");
    let now = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)";
    let sql = AssertSqlSafe(sql.replace("{now}", now).replace("{table}", "idempotent_records"));
    let key = key(name);
    let query = sqlx::query(sql).bind(key.operation()).bind(key.key()).bind(vec![7_u8; 32]).bind(vec![5_u8; 16]);
    let query = query.bind(60_000).bind(3_600_000).bind(36_000_000).bind(None::<i64>).bind(None::<Vec<u8>>);
    !query.fetch_all(connection).await.expect("a claim").is_empty()
}

#[tokio::test]
async fn a_process_of_version_5_claims_and_takes_over() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    let mut old = file.connection().await;
    assert!(old_claim(&mut old, "new").await);
    let record = store.inspect(&key("new")).await.expect("inspect").expect("a record");
    assert!(matches!(record.state, State::Running { .. }), "{record:?}");
    assert_eq!(record.context, None);

    let mine = request().with_context(Arc::from("request 17"));
    let ClaimOutcome::Claimed { token, .. } = store.claim(&key("mine"), &mine).await.expect("an answer") else {
        panic!("the key is vacant")
    };
    let suspended = store.suspend(&key("mine"), &token, Why::Abandoned, Duration::ZERO, TTL).await;
    assert_eq!(suspended.expect("suspend"), Suspension::Applied);
    assert!(old_claim(&mut old, "mine").await);
    let record = store.inspect(&key("mine")).await.expect("inspect").expect("a record");
    assert_eq!((record.attempt, record.context.as_deref()), (2, Some("request 17")), "it knows of no context");
}
