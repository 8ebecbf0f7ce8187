//! A long write transaction keeps owners from renewing their leases: others that waited for it, too, do not take over.

use std::{sync::Arc, time::Duration};

use idempotent_runtime::{
    Error, Idempotency, Operation, Store,
    store::{ClaimOutcome, ClaimRequest, Transition, sqlite::SqliteStore},
};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    sqlite_file::SqliteFile,
    support::{TTL, connect, granted, key, request},
};

const LEASE: Duration = Duration::from_secs(1);

fn leased(lease: Duration) -> ClaimRequest {
    let mut request = request();
    request.lease = lease;
    request
}

fn mail() -> Operation {
    Operation::new("mail").lease(LEASE).ttl(TTL).wait(Duration::from_secs(20))
}

/// A call whose body lasts this long, then another function's transaction for longer than the lease, and then a duplicate.
async fn a_call_and_its_duplicate(body: Duration, transaction: Duration) -> (Result<u8, Error>, Result<u8, Error>) {
    let file = SqliteFile::new();
    let [owner, importer, other] = [connect(&file).await, connect(&file).await, connect(&file).await];
    let pool = file.pool(|options| options);
    let (begun, has_begun) = oneshot::channel();
    let first = tokio::spawn(async move {
        let body = async {
            begun.send(()).expect("somebody who waits for it");
            sleep(body).await;
            Ok::<_, Error>(1)
        };
        Idempotency::new(owner).call(mail()).key("k").run(body).await
    });
    has_begun.await.expect("a body");
    let (begun, has_begun) = oneshot::channel();
    let import = tokio::spawn(async move {
        let body = async move {
            begun.send(()).expect("somebody who waits for it");
            sleep(transaction).await;
            Ok::<_, Error>(())
        };
        Idempotency::new(importer).call("import").key("k").commit(&pool, |_| Box::pin(body)).await
    });
    has_begun.await.expect("a body");
    let second = Idempotency::new(other).call(mail()).key("k").run(async { Ok::<_, Error>(2) }).await;
    import.await.expect("no panic").expect("the lock was there");
    (first.await.expect("no panic"), second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_outlives_a_transaction_that_is_longer_than_its_lease() {
    let mut calls = JoinSet::new();
    for round in 0..8_u32 {
        calls.spawn(a_call_and_its_duplicate(3 * LEASE, LEASE * 3 / 2 + round * LEASE / 16));
    }
    for (first, second) in calls.join_all().await {
        assert!(matches!((&first, &second), (Ok(1), Ok(1))), "{first:?}, {second:?}");
    }
}

/// The run is over within its lease, but cannot be ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_end_that_waits_for_a_transaction_comes_first() {
    let mut calls = JoinSet::new();
    for round in 0..8_u32 {
        calls.spawn(a_call_and_its_duplicate(LEASE / 4, LEASE * 2 + round * LEASE / 16));
    }
    for (first, second) in calls.join_all().await {
        assert!(matches!((&first, &second), (Ok(1), Ok(1))), "{first:?}, {second:?}");
    }
}

/// The file's lock is held, a claim waits for it, and meanwhile its key is taken by another run, which lapses.
async fn lapsed_while_a_claim_waits(store: &Arc<SqliteStore>, file: &SqliteFile, lease: Duration) -> ClaimOutcome {
    let owner = connect(file).await;
    let token = granted(owner.claim(&key("other"), &leased(lease)).await);
    let mut writer = file.connection().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut writer).await.expect("the lock");
    let waits = tokio::spawn({
        let store = Arc::clone(store);
        async move { store.claim(&key("k"), &leased(lease)).await }
    });
    sleep(lease / 4).await;
    assert!(!waits.is_finished());
    let rename = "UPDATE idempotent_records SET key = 'canary-k' WHERE key = 'canary-other'";
    sqlx::raw_sql(rename).execute(&mut writer).await.expect("a record");
    sleep(lease).await;
    let renews = tokio::spawn(async move { owner.renew(&key("k"), &token, lease, TTL).await });
    sleep(lease / 10).await;
    sqlx::raw_sql("COMMIT").execute(&mut writer).await.expect("the end of the lock");
    assert_eq!(renews.await.expect("no panic").expect("an answer"), Transition::Applied);
    waits.await.expect("no panic").expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_lapses_while_a_claim_waits_is_in_flight() {
    for _ in 0..4 {
        let file = SqliteFile::new();
        let store = Arc::new(connect(&file).await);
        let answer = lapsed_while_a_claim_waits(&store, &file, LEASE).await;
        assert!(matches!(answer, ClaimOutcome::InFlight { .. }), "{answer:?}");
    }
}

/// Nobody renews: the owner is gone. The lock is taken again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_that_is_gone_is_taken_over_although_others_write() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    let lease = Duration::from_millis(300);
    granted(store.claim(&key("k"), &leased(lease)).await);
    sleep(lease).await;
    let writes = tokio::spawn({
        let mut writer = file.connection().await;
        async move {
            loop {
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut writer).await.expect("the lock");
                sleep(Duration::from_millis(20)).await;
                sqlx::raw_sql("COMMIT").execute(&mut writer).await.expect("the end of the lock");
                sleep(Duration::from_millis(4)).await;
            }
        }
    });
    let taken = timeout(LEASE * 4, store.claim(&key("k"), &leased(lease))).await;
    writes.abort();
    granted(taken.expect("in time"));
}
