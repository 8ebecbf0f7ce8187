//! Processes that die, and handlers that fail.

use crate::{
    deliveries::{ENDPOINTS, event},
    program::{Program, post_to},
    tables::Tables as _,
};
use idempotent_tests::{database::Database, on_each_database};

on_each_database!(
    c05_killed_before_the_commit_redelivery_runs,
    c05_killed_after_the_commit_redelivery_replays,
    c05_a_worker_that_is_killed_is_replaced,
    c05_an_error_is_rolled_back_and_no_2xx,
    c05_what_a_worker_fails_at_is_tried_again_and_then_left,
    c05_a_sender_that_goes_away_before_the_commit_is_rolled_back,
);

/// Sends a delivery to a process that stalls there, and kills it there.
async fn kill_at(database: &Database, point: &str, endpoint: &'static str) {
    let program = Program::start(&database.url(), &["--stall", point, "--workers", "0"]).await;
    let (delivery, address) = (event(endpoint, "evt_1", 1), program.address.clone());
    let sender = tokio::spawn(async move { post_to(&address, &delivery).await });
    program.kill_where_it_stalls().await;
    assert!(sender.await.unwrap().is_none(), "the sender has no answer");
}

async fn c05_killed_before_the_commit_redelivery_runs(database: Database) {
    for (done, endpoint) in (0..).zip(ENDPOINTS) {
        kill_at(&database, "before-commit", endpoint).await;
        database.assert(done, done).await;
        assert_eq!(database.waiting().await, 0);
        let program = Program::start(&database.url(), &[]).await;
        program.send(&event(endpoint, "evt_1", 1)).await.assert_done(false);
        program.send(&event(endpoint, "evt_1", 1)).await.assert_done(true);
        database.wait_until_worked_off().await;
        assert_eq!(database.done().await, done + 1);
    }
}

async fn c05_killed_after_the_commit_redelivery_replays(database: Database) {
    for (done, endpoint) in (0..).zip(ENDPOINTS) {
        kill_at(&database, "after-commit", endpoint).await;
        // With its effect, or in the inbox.
        assert_eq!(database.done_or_waiting().await, done + 1);
        assert_eq!(database.records().await, done + 1);
        let program = Program::start(&database.url(), &[]).await;
        program.send(&event(endpoint, "evt_1", 1)).await.assert_done(true);
        database.wait_until_worked_off().await;
        assert_eq!(database.done().await, done + 1);
    }
}

async fn c05_a_worker_that_is_killed_is_replaced(database: Database) {
    let program = Program::start(&database.url(), &["--stall", "worker"]).await;
    program.send(&event(ENDPOINTS[3], "msg_1", 1)).await.assert_done(false);
    program.kill_where_it_stalls().await;
    assert_eq!(database.number("SELECT attempts FROM inbox").await, 1);
    database.assert(0, 1).await;
    let program = Program::start(&database.url(), &["--workers", "2"]).await;
    database.wait_until_worked_off().await;
    database.assert(1, 2).await;
    program.send(&event(ENDPOINTS[3], "msg_1", 1)).await.assert_done(true);
    database.wait_until_worked_off().await;
    database.assert(1, 2).await;
}

async fn c05_an_error_is_rolled_back_and_no_2xx(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    database.fail_at_the_end(true).await;
    for endpoint in &ENDPOINTS[..3] {
        program.send(&event(endpoint, "evt_1", 1)).await.assert_refused(503);
    }
    database.assert(0, 0).await;
    database.fail_at_the_end(false).await;
    for endpoint in &ENDPOINTS[..3] {
        program.send(&event(endpoint, "evt_1", 1)).await.assert_done(false);
    }
    database.assert(3, 3).await;
}

async fn c05_what_a_worker_fails_at_is_tried_again_and_then_left(database: Database) {
    // Instead of waiting for it.
    let make_due = match database {
        Database::Postgres(_) => "UPDATE inbox SET due = due - interval '1 hour'",
        Database::Sqlite(_) => "UPDATE inbox SET due = due - 3600",
    };
    let program = Program::start(&database.url(), &["--workers", "1"]).await;
    database.fail_at_the_end(true).await;
    program.send(&event(ENDPOINTS[3], "msg_1", 1)).await.assert_done(false);
    for attempt in 1..=5 {
        database.wait_for(&format!("SELECT count(*) FROM inbox WHERE attempts = {attempt}"), 1).await;
        database.execute(make_due).await;
    }
    // An attempt is counted when it begins. The only worker takes the next delivery when the fifth has failed.
    program.send(&event(ENDPOINTS[3], "msg_2", 2)).await.assert_done(false);
    database.wait_for("SELECT count(*) FROM inbox WHERE attempts = 1", 1).await;
    database.fail_at_the_end(false).await;
    // The first one is due as well, and is left alone, while others are worked off.
    database.execute(make_due).await;
    database.wait_for("SELECT count(*) FROM done WHERE event_id = 'msg_2'", 1).await;
    assert_eq!(database.number("SELECT attempts FROM inbox").await, 5);
    database.execute("UPDATE inbox SET attempts = 0").await;
    database.wait_until_worked_off().await;
    database.assert(2, 4).await;
    assert!(database.has_status(ENDPOINTS[3], "s2").await, "the one that came late is the older one");
}

/// Another process can only answer so soon if nothing is left open by the one that stalled, which lives on.
async fn c05_a_sender_that_goes_away_before_the_commit_is_rolled_back(database: Database) {
    let stalled = Program::start(&database.url(), &["--stall", "before-commit", "--workers", "0"]).await;
    let program = Program::start(&database.url(), &["--workers", "0"]).await;
    for endpoint in ENDPOINTS {
        let (delivery, address) = (event(endpoint, "evt_1", 1), stalled.address.clone());
        let sender = tokio::spawn(async move { post_to(&address, &delivery).await });
        stalled.told_until("stalled").await;
        // Its connection is closed with it.
        sender.abort();
        assert!(sender.await.unwrap_err().is_cancelled());
        program.send(&event(endpoint, "evt_1", 1)).await.assert_done(false);
        program.send(&event(endpoint, "evt_1", 1)).await.assert_done(true);
    }
    assert_eq!((database.done_or_waiting().await, database.records().await), (4, 4));
}
