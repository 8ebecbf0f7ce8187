//! The official Stripe client library retries through everything that can happen to a request and its answer.

use std::time::Duration;

use idempotent_tests::{database::Database, on_each_database};
use tokio::time::sleep;

use crate::{
    client::{self, Answer, Refusal, charges},
    server::Server,
    tables::{Row, Tables as _},
};

on_each_database!(
    b06_official_client_meets_each_fault,
    b06_official_client_charges_once,
    b06_official_client_outlives_killed_servers,
);

const FAULTS: [&str; 8] =
    ["fail-before", "refuse", "crash", "fail-after", "drop-before", "drop-after", "hang-up", "slow"];

/// A server with all faults.
async fn faulty(database: &Database) -> Server {
    let seed = std::env::var("CHARGES_SEED").unwrap_or_else(|_| rand::random::<u32>().to_string());
    println!("CHARGES_SEED={seed}");
    Server::start(&database.url(), &["--faults", "--seed", &seed]).await
}

/// Checks that each of these charges was made once, whatever answer its client got, and that each id in an answer is right.
/// Returns the number of answers without an id.
fn assert_charged_once(rows: &[Row], charges: &[(String, i64)], answers: &[Answer]) -> usize {
    let made: Vec<_> = rows.iter().map(|row| (row.description.clone(), row.amount)).collect();
    assert_eq!(made, charges);
    // The 500 of a handler that had charged is kept: a retry would be told the same, and so the client does not retry.
    // Whoever gets it does not know whether there is a charge, and finds it in the list.
    let unknown = Refusal { kind: "APIError".into(), status: Some(500), should_retry: Some("false".into()) };
    let (known, unknowns): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.id.is_some());
    for answer in known {
        assert!(rows.iter().any(|row| row.description == answer.description && Some(&row.id) == answer.id.as_ref()));
    }
    for answer in &unknowns {
        assert_eq!(answer.error.as_ref(), Some(&unknown), "{answer:?}");
    }
    unknowns.len()
}

/// Two of the first four requests meet the fault.
async fn b06_official_client_meets_each_fault(database: Database) {
    let mut clients = Vec::new();
    for fault in FAULTS {
        let server = Server::start(&database.url(), &["--faults", fault]).await;
        let charges = charges(fault, 4);
        let client = client::start(&server.url, &charges, 1);
        clients.push((fault, server, charges, client));
    }
    for (fault, server, charges, client) in clients {
        let report = client::report(client);
        let mut rows = database.charges().await;
        rows.retain(|row| row.description.starts_with(fault));
        let unknown = assert_charged_once(&rows, &charges, &report.answers);
        let said = |what: &str| server.said(&format!("POST /v1/charges: {what}\n"));
        assert_eq!(unknown, if fault == "fail-after" { 2 } else { 0 }, "{fault}");
        match fault {
            // Not tried again, as it was told.
            "fail-after" => assert_eq!([said("200"), said("500")], [2, 2]),
            // Tried again until it is not refused.
            "refuse" | "crash" => assert!(said("500") >= 2 && said("200") == 4, "{fault}"),
            "drop-after" => assert!(said("200") == 4 && said("200, a replay") >= 2),
            "hang-up" => assert!(said("409") > 0),
            _ => assert_eq!(said("200"), 4, "{fault}"),
        }
    }
}

async fn b06_official_client_charges_once(database: Database) {
    let server = faulty(&database).await;
    let charges = charges("charge", 40);
    let report = client::report(client::start(&server.url, &charges, 2));
    let rows = database.charges().await;
    assert_charged_once(&rows, &charges, &report.answers);
    assert_eq!(report.answers.len(), 2 * charges.len());
    let mut listed = report.listed;
    listed.sort();
    assert_eq!(listed, rows);
    // In the first sixteen requests, each was there.
    for fault in FAULTS {
        assert!(server.said(&format!("fault: {fault}\n")) > 0, "no {fault}");
    }
}

async fn b06_official_client_outlives_killed_servers(database: Database) {
    let mut server = faulty(&database).await;
    let charges = charges("charge", 40);
    let mut client = client::start(&server.url, &charges, 2);
    for made in [8, 20, 32] {
        while client.try_wait().unwrap().is_none() && (database.count().await < made || database.running().await == 0) {
            sleep(Duration::from_millis(10)).await;
        }
        server.kill();
        // Clients find nobody there for a while.
        sleep(Duration::from_millis(300)).await;
        server.restart().await;
    }
    let report = client::report(client);
    let rows = database.charges().await;
    assert_charged_once(&rows, &charges, &report.answers);
    // The keys of requests whose server was killed were taken until their lease ended.
    assert!(server.said("POST /v1/charges: 409") > 0);
}
