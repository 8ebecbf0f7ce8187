//! Wake-ups: only where somebody waits, and after the loss of the connection that they come in on.

use std::time::Duration;

use idempotent_runtime::{Store, store::Transition};
use tokio::time::timeout;

use crate::{PostgresDatabase, support::*, wait_for};

const LISTENERS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND (query LIKE 'LISTEN%' OR query = 'SELECT 1')";

const END_LISTENERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'LISTEN%'";

#[tokio::test]
async fn nobody_is_notified_of_a_run_that_nobody_waits_for() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    assert_eq!(value::<i64>(&database, LISTENERS).await, 0, "nobody waits, nobody listens");
    let mut listener = sqlx::postgres::PgListener::connect(&database.url()).await.expect("a listener");
    listener.listen("idempotent_records").await.expect("listen");
    finish(&store, &key("alone")).await;
    let waited = claim(&store, &key("waited-for")).await;
    let mut subscription = store.subscribe(&key("waited-for")).await.expect("subscribe");
    let ended = store.complete(&key("waited-for"), &waited, &outcome(), TTL).await;
    assert_eq!(ended.expect("complete"), Transition::Applied);
    timeout(Duration::from_secs(5), subscription.notified()).await.expect("woken");
    let notification = listener.recv().await.expect("a notification");
    // The first that comes is the second run's, and it does not tell the key.
    assert_eq!(notification.payload().len(), 32);
    assert!(!notification.payload().contains("waited"));
    let more = timeout(Duration::from_millis(200), listener.recv()).await;
    assert!(more.is_err(), "one run, one notification");
}

#[tokio::test]
async fn a_lost_connection_is_replaced_and_all_waiters_look_again() {
    let database = PostgresDatabase::create().await;
    let (ours, theirs) = (connect(&database.url()).await, connect(&database.url()).await);
    let token = claim(&theirs, &key("k")).await;
    let mut subscription = ours.subscribe(&key("k")).await.expect("subscribe");
    database.execute(END_LISTENERS).await;
    // Something may have been missed.
    timeout(Duration::from_secs(5), subscription.notified()).await.expect("woken by the reconnection");
    wait_for("the new connection", async || value::<i64>(&database, LISTENERS).await == 1).await;
    assert_eq!(theirs.complete(&key("k"), &token, &outcome(), TTL).await.expect("complete"), Transition::Applied);
    timeout(Duration::from_secs(5), subscription.notified()).await.expect("woken by the end");
}

#[tokio::test]
async fn a_store_that_is_dropped_stops_listening() {
    let database = PostgresDatabase::create().await;
    let store = connect(&database.url()).await;
    claim(&store, &key("k")).await;
    drop(store.subscribe(&key("k")).await.expect("subscribe"));
    let idle = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    assert!(value::<i64>(&database, idle).await >= 2);
    drop(store);
    wait_for("the connections to end", async || value::<i64>(&database, idle).await == 0).await;
}
