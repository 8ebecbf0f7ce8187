//! What only PostgreSQL has: transactions that run side by side, and `NOTIFY`.

use std::{future::pending, sync::Arc, time::Duration};

use idempotent_runtime::{
    Error,
    outbox::{Outbox, Outgoing, Relay},
};
use idempotent_tests::{postgres_database::PostgresDatabase, postgres_server::PostgresServer, wait::wait_for};
use tokio::time::{Instant, sleep};

use super::support::Target;
use crate::broker::{Broker, Deed};

const ROWS: &str = "SELECT count(*) FROM idempotent_records_outbox";

fn start(target: &Target, broker: &Broker) -> tokio::task::JoinHandle<()> {
    let relay = Relay::new(target.pool.clone(), broker.clone());
    tokio::spawn(async move { relay.run(pending()).await })
}

/// Its number is lower than that of what was relayed long before its commit.
#[tokio::test]
async fn t21_a_late_commit_with_a_lower_number_is_not_lost() {
    let target = Target::create().await;
    let broker = Broker::new();
    let relay = start(&target, &broker);
    let mut late = target.begin().await;
    Outbox::new().publish(&mut late, Outgoing::new("t", b"late")).await.unwrap();
    for n in 0..10 {
        let mut tx = target.begin().await;
        Outbox::new().publish(&mut tx, Outgoing::new("t", format!("early {n}").as_bytes())).await.unwrap();
        tx.commit().await.unwrap();
        broker.arrivals(n + 1).await;
    }
    late.commit().await.unwrap();
    broker.arrivals(11).await;
    assert_eq!(broker.payloads()[10], "late");
    wait_for("an empty table", async || target.count(ROWS).await == 0).await;
    relay.abort();
}

/// The same message in two transactions of one run at a time, of which one is rolled back later.
#[tokio::test]
async fn t20_equal_messages_of_concurrent_transactions_are_two() {
    let target = Target::create().await;
    let outbox = Outbox::new();
    let ping = Outgoing::new("pings", b"ping");
    let run = target.idempotency.call("handle").key("k").run(async {
        let (mut first, mut second) = (target.begin().await, target.begin().await);
        let one = outbox.publish(&mut first, ping).await?;
        let two = outbox.publish(&mut second, ping).await?;
        assert_ne!(one, two);
        first.rollback().await.unwrap();
        second.commit().await.unwrap();
        // It takes the place of the one that is rolled back.
        let mut third = target.begin().await;
        assert_eq!(outbox.publish(&mut third, ping).await?, one);
        third.commit().await.unwrap();
        Ok::<_, Error>(())
    });
    run.await.unwrap();
    assert_eq!(target.count(ROWS).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t23_inserts_notify_nobody_and_wait_for_no_lock() {
    let server = PostgresServer::start_with(&["shared_preload_libraries=pg_stat_statements"]).await;
    let target = Arc::new(Target::on(PostgresDatabase::from(server), "idempotent_records").await);
    target.execute("CREATE EXTENSION pg_stat_statements; SELECT pg_stat_statements_reset()").await;
    let broker = Broker::new();
    let relay = start(&target, &broker);
    let begun = Instant::now();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let target = Arc::clone(&target);
            tokio::spawn(async move {
                for n in 0..125 {
                    let mut tx = target.begin().await;
                    let payload = format!("{writer} {n}");
                    Outbox::new().publish(&mut tx, Outgoing::new("t", payload.as_bytes())).await.unwrap();
                    tx.commit().await.unwrap();
                }
            })
        })
        .collect();
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND wait_event <> 'extend' AND datname = current_database()";
    let mut client = target.database.client().await;
    let mut looks = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut client).await.unwrap();
        assert_eq!(waiting, 0, "a session waits for a lock");
        looks += 1;
        sleep(Duration::from_millis(5)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    println!("1,000 transactions took {:?}, looked at {looks} times", begun.elapsed());
    broker.arrivals(1_000).await;
    wait_for("an empty table", async || target.count(ROWS).await == 0).await;
    relay.abort();
    let notified = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
        WHERE query ~* 'pg_notify|^ *notify' AND query !~ 'pg_stat_statements'";
    assert_eq!(target.count(notified).await, 0);
    let inserted =
        "SELECT sum(calls)::bigint FROM pg_stat_statements WHERE query ~ 'INSERT INTO \"idempotent_records_outbox\"'";
    assert_eq!(target.count(inserted).await, 1_000, "the statements are looked at");
}

/// In another process there is no commit to hear of: this one publishes without a run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t23_an_idle_relay_publishes_within_150_ms() {
    let target = Target::create().await;
    let broker = Broker::new();
    let relay = start(&target, &broker);
    let mut times = Vec::new();
    for n in 1..=15 {
        sleep(Duration::from_millis(400)).await;
        let mut tx = target.begin().await;
        Outbox::new().publish(&mut tx, Outgoing::new("t", n.to_string().as_bytes())).await.unwrap();
        tx.commit().await.unwrap();
        let committed = Instant::now();
        broker.arrivals(n).await;
        times.push(committed.elapsed());
    }
    relay.abort();
    times.sort_unstable();
    println!("{times:?}");
    // The machine may be busy for a moment.
    assert!(times[12] <= Duration::from_millis(150), "{times:?}");
}

/// The commit of a run in this process wakes the relay: it is faster than any look would be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t23_the_commit_of_a_run_wakes_the_relay() {
    let target = Target::create().await;
    let broker = Broker::new();
    let relay = start(&target, &broker);
    let mut times = Vec::new();
    for n in 1..=15_usize {
        sleep(Duration::from_millis(400)).await;
        let call = target.idempotency.call("handle").key(n);
        call.commit(&target.pool, |tx| {
            Box::pin(async move { Outbox::new().publish(tx.0, Outgoing::new("t", b"x")).await })
        })
        .await
        .unwrap();
        let committed = Instant::now();
        broker.arrivals(n).await;
        times.push(committed.elapsed());
    }
    relay.abort();
    times.sort_unstable();
    println!("{times:?}");
    assert!(times[7] <= Duration::from_millis(30), "{times:?}");
}

/// Nobody can take its lease meanwhile, and it cannot know that.
#[tokio::test]
async fn t21_a_relay_that_cannot_renew_stops_before_its_lease_ends() {
    let target = Target::create().await;
    let broker = Broker::that(|_| Deed::Hang);
    let lease = Duration::from_millis(900);
    let relay = Relay::new(target.pool.clone(), broker.clone()).lease(lease).publish_timeout(Duration::MAX);
    let relay = tokio::spawn(async move { relay.run(pending()).await });
    let mut tx = target.begin().await;
    Outbox::new().publish(&mut tx, Outgoing::new("t", b"x")).await.unwrap();
    tx.commit().await.unwrap();
    wait_for("a call", async || broker.calls() > 0).await;
    let mut locked = target.begin().await;
    sqlx::query("LOCK TABLE idempotent_records_relay").execute(&mut *locked).await.unwrap();
    let locked_at = Instant::now();
    sleep(lease).await;
    let (calls, dropped) = (broker.calls(), broker.dropped());
    assert_eq!(calls, dropped, "it publishes {:?} after its last renewal", locked_at.elapsed());
    sleep(lease).await;
    assert_eq!(broker.calls(), calls, "it began anew without a lease");
    broker.now(|_| Deed::Confirm);
    locked.rollback().await.unwrap();
    broker.arrivals(1).await;
    relay.abort();
}
