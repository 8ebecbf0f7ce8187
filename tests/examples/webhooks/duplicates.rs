//! Deliveries at the same time.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};

use crate::{
    deliveries::{ENDPOINTS, event},
    program::Program,
    tables::Tables as _,
};
use idempotent_tests::{database::Database, on_each_database};

on_each_database!(
    c04_a_hundred_concurrent_deliveries_are_one_effect,
    c04_two_processes_share_a_hundred_deliveries,
    c04_an_in_flight_duplicate_gets_no_2xx,
);

/// Sends an event a hundred times at once, to one process after the other; again where there was no 2xx.
async fn flood(database: &Database, programs: &[Arc<Program>], endpoint: &'static str, effects_before: i64) {
    let mut senders = JoinSet::new();
    for sender in 0..100 {
        let program = Arc::clone(&programs[sender % programs.len()]);
        senders.spawn(async move {
            let delivery = event(endpoint, "evt_flood", 1);
            for _ in 0..20 {
                let reply = program.send(&delivery).await;
                if reply.status.is_success() {
                    return reply;
                }
                assert!([409, 503].contains(&reply.status.as_u16()), "{reply:?}");
                sleep(Duration::from_millis(100)).await;
            }
            panic!("no delivery was accepted");
        });
    }
    let mut ran = 0;
    while let Some(reply) = senders.join_next().await {
        let reply = reply.unwrap();
        reply.assert_done(reply.json["replayed"] == true);
        ran += i64::from(reply.json["replayed"] == false);
        // Whoever has a 2xx can rely on it: the effect is there, or waits in the inbox.
        assert!(database.done_or_waiting().await > effects_before);
    }
    assert_eq!(ran, 1, "{endpoint}");
    database.wait_until_worked_off().await;
    assert_eq!(database.done().await, effects_before + 1, "{endpoint}");
}

async fn c04_a_hundred_concurrent_deliveries_are_one_effect(database: Database) {
    let programs = [Arc::new(Program::start(&database.url(), &[]).await)];
    for (before, endpoint) in (0..).zip(ENDPOINTS) {
        flood(&database, &programs, endpoint, before).await;
    }
    database.assert(4, 5).await;
}

async fn c04_two_processes_share_a_hundred_deliveries(database: Database) {
    let url = database.url();
    // Both create the tables.
    let (one, other) = tokio::join!(Program::start(&url, &["--workers", "2"]), Program::start(&url, &[]));
    let programs = [Arc::new(one), Arc::new(other)];
    for (before, endpoint) in (0..).zip(ENDPOINTS) {
        flood(&database, &programs, endpoint, before).await;
    }
    database.assert(4, 5).await;
}

/// One process has not committed yet: the other one neither does it, nor says that it is done.
async fn c04_an_in_flight_duplicate_gets_no_2xx(database: Database) {
    let stalled = Arc::new(Program::start(&database.url(), &["--stall", "before-commit"]).await);
    let program = Program::start(&database.url(), &[]).await;
    let delivery = event(ENDPOINTS[0], "evt_1", 1);
    let first = tokio::spawn({
        let (stalled, delivery) = (Arc::clone(&stalled), delivery.clone());
        async move { stalled.try_send(&delivery).await }
    });
    stalled.told_until("stalled").await;
    let duplicate = program.send(&delivery).await;
    assert!([409, 503].contains(&duplicate.status.as_u16()), "{duplicate:?}");
    database.assert(0, 0).await;
    first.abort();
    let _ = first.await;
    Arc::into_inner(stalled).unwrap().kill();
    program.send(&delivery).await.assert_done(false);
    database.assert(1, 1).await;
}
