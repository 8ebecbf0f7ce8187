//! A process of schema version 5 goes on after another one has migrated.

use std::{sync::Arc, time::Duration};

use idempotent_runtime::{
    Store,
    store::{ClaimOutcome, State, Suspension, Why},
};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use crate::{PostgresDatabase, support::*};

const CLAIM: &str = include_str!("version_5/claim.sql");

/// A claim as version 5 makes it. Answers whether it was granted.
async fn old_claim(client: &mut PgConnection, name: &str) -> bool {
    let minute = 60_000_000_i64;
    let sql = AssertSqlSafe(CLAIM.replace("{table}", "idempotent_records"));
    let query = sqlx::query(sql).bind("tests.operation").bind(name.to_owned()).bind(vec![7_u8; 32]);
    let query = query.bind(vec![5_u8; 16]).bind(minute).bind(minute * 60).bind(minute * 600).bind(None::<String>);
    let row = query.bind(None::<Vec<u8>>).fetch_one(client).await.expect("a claim");
    row.get::<Option<bool>, _>(0) == Some(true)
}

#[tokio::test]
async fn a_process_of_version_5_claims_and_takes_over() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    let mut old = database.client().await;
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
