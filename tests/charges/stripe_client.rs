//! The official Stripe client library retries through everything that can happen to a request and its answer.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    client::{self, CHARGES, Refusal, Report, charges},
    database::Database,
    server::Server,
};

crate::on_each_database!(b06_official_client_charges_once, b06_official_client_outlives_killed_servers);

/// A server with all faults.
fn faulty(database: &Database) -> Server {
    let seed = std::env::var("CHARGES_SEED").unwrap_or_else(|_| rand::random::<u32>().to_string());
    println!("CHARGES_SEED={seed}");
    Server::start(&database.url(), &["--faults", "--seed", &seed])
}

/// That every charge was made, and once, whatever its client was told, and that this was the truth.
async fn assert_charged_once(database: &Database, report: &Report) {
    let rows = database.charges().await;
    let made: Vec<_> = rows.iter().map(|row| (row.description.clone(), row.amount)).collect();
    assert_eq!(made, charges().collect::<Vec<_>>());
    let mut listed = report.listed.clone();
    listed.sort();
    assert_eq!(listed, rows);

    assert_eq!(report.answers.len(), CHARGES + CHARGES.div_ceil(3));
    // The 500 of a handler that had charged is kept: a retry would be told the same, and so the client does not. Whoever
    // gets it does not know whether there is a charge. He finds it in the list.
    let unknown = Refusal { kind: "APIError".into(), status: Some(500), should_retry: Some("false".into()) };
    for answer in &report.answers {
        let row = rows.iter().find(|row| row.description == answer.description).unwrap();
        match &answer.id {
            Some(id) => assert_eq!(id, &row.id),
            None => assert_eq!(answer.error.as_ref(), Some(&unknown), "{answer:?}"),
        }
    }
}

/// That the client did meet what it was to retry through.
fn assert_met(server: &Server, answers: &[u16]) {
    for fault in ["FailBefore", "Refuse", "Crash", "FailAfter", "DropBefore", "DropAfter", "HangUp", "Slow"] {
        assert!(server.said(&format!("fault: {fault}")) > 0, "no {fault}");
    }
    for status in answers {
        assert!(server.said(&format!("POST /v1/charges: {status}")) > 0, "no {status}");
    }
    assert!(server.said("200, a replay") > 0);
}

async fn b06_official_client_charges_once(database: Database) {
    let server = faulty(&database);
    let report = client::report(client::start(&server.url));
    assert_charged_once(&database, &report).await;
    assert_met(&server, &[200, 409, 500]);
    assert!(report.answers.iter().any(|answer| answer.error.is_some()), "a charge whose answer is a 500");
}

async fn b06_official_client_outlives_killed_servers(database: Database) {
    let mut server = faulty(&database);
    let client = client::start(&server.url);
    for eighths in [1, 3, 5, 7] {
        while database.count().await < i64::try_from(CHARGES).unwrap() * eighths / 8 {
            sleep(Duration::from_millis(10)).await;
        }
        server.kill();
        // Clients find nobody there for a while.
        sleep(Duration::from_millis(300)).await;
        server.restart();
    }
    let report = client::report(client);
    assert_charged_once(&database, &report).await;
    // Keys of a server that was killed are taken until their lease ends.
    assert_met(&server, &[200, 409, 500]);
}
