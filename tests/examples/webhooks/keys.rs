//! Which deliveries are the same event.

use crate::{
    deliveries::{ENDPOINTS, GITHUB_SECRET, STANDARD_KEY, STRIPE_SECRET, event, github, now, standard, stripe},
    program::Program,
    tables::Tables as _,
};
use idempotent_tests::{database::Database, on_each_database};

on_each_database!(
    c03_the_key_is_sender_endpoint_and_event_id,
    c03_another_event_under_the_same_id_is_refused,
    c03_what_the_database_cannot_hold_is_no_event,
);

/// Sends one id to every endpoint, and other ids with the same body.
async fn c03_the_key_is_sender_endpoint_and_event_id(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    for endpoint in ENDPOINTS {
        program.send(&event(endpoint, "id-1", 1)).await.assert_done(false);
        program.send(&event(endpoint, "id-1", 1)).await.assert_done(true);
    }
    database.wait_until_worked_off().await;
    // One for each endpoint; and the delivery that was accepted has a record of that, too.
    database.assert(4, 5).await;
    for endpoint in ENDPOINTS {
        let other = event(endpoint, "id-2", 1);
        program.send(&other).await.assert_done(false);
        program.send(&other).await.assert_done(true);
    }
    database.wait_until_worked_off().await;
    database.assert(8, 10).await;
}

async fn c03_another_event_under_the_same_id_is_refused(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    for endpoint in ENDPOINTS {
        program.send(&event(endpoint, "id-1", 1)).await.assert_done(false);
        program.send(&event(endpoint, "id-1", 2)).await.assert_refused(422);
        program.send(&event(endpoint, "id-1", 1)).await.assert_done(true);
    }
    database.wait_until_worked_off().await;
    database.assert(4, 5).await;

    // What is none of this service's business is answered all the same: it would be sent for days.
    let other = r#"{"id":"evt_balance","type":"balance.available","created":1,"data":{"object":{}}}"#;
    for replayed in [false, true] {
        program.send(&stripe(other, now(0), STRIPE_SECRET)).await.assert(200, "ignored", replayed);
    }
    let mut ping = github(r#"{"zen":"Keep it logically awesome."}"#, "id-ping", GITHUB_SECRET);
    "ping".clone_into(&mut ping.headers[0].1);
    assert_eq!(program.send(&ping).await.status, 204);
    // And what is not even an event is not.
    program.send(&stripe(r#"{"id":"evt_1"}"#, now(0), STRIPE_SECRET)).await.assert_refused(400);
    database.assert(4, 6).await;
}

/// Signed by its sender, and refused as what it is: PostgreSQL has no U+0000.
async fn c03_what_the_database_cannot_hold_is_no_event(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    for endpoint in ENDPOINTS {
        let good = event(endpoint, "id-1", 1);
        // In the status, and in the name of the object.
        for text in ["s1", "sub", "main", "/hooks/standard"] {
            let body = good.body.replacen(&format!("\"{text}"), &format!("\"\\u0000{text}"), 1);
            if body == good.body {
                continue;
            }
            let signed = match endpoint {
                "/hooks/stripe" => stripe(&body, now(0), STRIPE_SECRET),
                "/hooks/github" => github(&body, "id-1", GITHUB_SECRET),
                _ => standard(endpoint, &body, "id-1", now(0), STANDARD_KEY),
            };
            for _ in 0..2 {
                program.send(&signed).await.assert_refused(400);
            }
        }
        database.assert(0, 0).await;
    }
    // Text of any other kind is held.
    let body = event(ENDPOINTS[2], "", 1).body.replacen("\"s1\"", "\"\\u0001\\uffff \u{10ffff}\"", 1);
    program.send(&standard(ENDPOINTS[2], &body, "id-2", now(0), STANDARD_KEY)).await.assert_done(false);
    database.assert(1, 1).await;
}
