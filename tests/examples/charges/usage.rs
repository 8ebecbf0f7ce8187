//! Checks that a user can type the commands that the program prints, and that it stops when it is told to.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use idempotent_tests::{database::Database, on_each_database};
use tokio::time::{Instant, sleep};

use crate::{server::Server, tables::Tables as _};

on_each_database!(
    printed_commands_work,
    shutdown_waits_for_charges_without_clients,
    a_database_that_fails_leaves_the_key_free,
    what_cannot_work_is_said_at_once,
);

/// The status and the whole answer to a command.
fn curl(command: &str) -> (u16, String) {
    let output =
        Command::new("sh").arg("-c").arg(format!("{command} --silent --include --noproxy '*'")).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    let answer = String::from_utf8(output.stdout).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// The last line.
fn body(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.rsplit("\r\n").next().unwrap()).unwrap()
}

async fn printed_commands_work(database: Database) {
    let server = Server::start(&database.url(), &[]).await;
    let printed = |what: &str| {
        let line = server.greeting.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_once(": ").unwrap().1.trim().to_owned()
    };
    let charge = printed("charge a card");
    let (status, first) = curl(&charge);
    assert_eq!((status, &body(&first)["amount"]), (200, &4200.into()), "{first}");
    assert!(!first.contains("idempotent-replayed"));
    let (status, again) = curl(&charge);
    assert_eq!((status, body(&again)), (200, body(&first)));
    assert!(again.contains("idempotent-replayed: true"));

    let (status, other) = curl(&printed("another amount"));
    assert_eq!((status, &body(&other)["error"]["type"]), (400, &"idempotency_error".into()), "{other}");
    for _ in 0..2 {
        let (status, declined) = curl(&printed("a card that is declined"));
        assert_eq!((status, &body(&declined)["error"]["code"]), (402, &"card_declined".into()), "{declined}");
    }
    // What makes no sense was not begun: the key is free.
    let typo = charge.replace("order-17", "order-19");
    let (status, refused) = curl(&typo.replace("currency", "curency"));
    assert_eq!((status, &body(&refused)["error"]["type"]), (400, &"invalid_request_error".into()), "{refused}");
    assert_eq!(curl(&typo).0, 200);
    // Nor is what PostgreSQL cannot hold, on any database.
    let nul = typo.replace("order-19", "order-20");
    for _ in 0..2 {
        let (status, refused) = curl(&format!("{nul} -d description=a%00b"));
        assert_eq!((status, &body(&refused)["error"]["type"]), (400, &"invalid_request_error".into()), "{refused}");
    }
    let listing = printed("what was charged");
    assert_eq!(curl(&listing.replace("/v1/charges", "/v1/charges?starting_after=a%00b")).0, 400);
    // Without a key, each is a charge of its own.
    let keyless = charge.split(" -H ").next().unwrap().to_owned() + charge.split("order-17'").nth(1).unwrap();
    assert_eq!([curl(&keyless).0, curl(&keyless).0], [200, 200]);

    let charged = body(&curl(&printed("what was charged")).1);
    assert_eq!(charged["data"].as_array().unwrap().len(), 4, "{charged}");
    assert_eq!(body(&curl(&printed("another account")).1)["data"].as_array().unwrap().len(), 0);
    // Another account's key is another key; nobody's is none.
    assert_eq!(curl(&charge.replace("acme", "globex")).0, 200);
    assert_eq!(curl(&charge.replace("acme", "nobody")).0, 401);
    assert_eq!(database.count().await, 5);
}

async fn shutdown_waits_for_charges_without_clients(database: Database) {
    let mut server = Server::start(&database.url(), &["--faults", "hang-up"]).await;
    // One of each two requests loses its connection, and takes its while.
    let ways: Vec<_> = (0..2)
        .map(|n| {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--noproxy", "*", "-u", "sk_test_acme:", "-d", "amount=4200", "-d", "currency=eur"]);
            curl.args(["-d", "source=tok_visa", "-H", &format!("Idempotency-Key: k{n}")]);
            curl.arg(format!("{}/v1/charges", server.url)).stdout(Stdio::null()).status().unwrap().success()
        })
        .collect();
    assert_eq!(ways.iter().filter(|answered| **answered).count(), 1);
    assert_eq!(database.count().await, 1);
    assert!(server.stop().success());
    assert_eq!(database.count().await, 2);
}

/// The card network authorizes the charge before the database fails. The retry has the same key, and gets the same
/// authorization.
async fn a_database_that_fails_leaves_the_key_free(database: Database) {
    let server = Server::start(&database.url(), &[]).await;
    let charge = server.greeting.lines().find(|line| line.starts_with("charge a card")).unwrap();
    let charge = charge.split_once(": ").unwrap().1.trim();
    database.fail("charges", true).await;
    for _ in 0..2 {
        let (status, failed) = curl(charge);
        assert_eq!((status, &body(&failed)["error"]["type"]), (503, &"api_error".into()), "{failed}");
    }
    database.fail("charges", false).await;
    let (status, first) = curl(charge);
    assert_eq!(status, 200, "{first}");
    assert_eq!(body(&curl(charge).1), body(&first));
    assert_eq!(database.count().await, 1);
}

async fn what_cannot_work_is_said_at_once(database: Database) {
    let server = Server::start(&database.url(), &[]).await;
    let (taken, url) = (server.url.strip_prefix("http://").unwrap(), &*database.url());
    for (store, listen, says) in [
        (url, taken, taken),
        ("mysql://localhost", "127.0.0.1:0", "--store is neither"),
        ("postgres://nobody:s3cret@127.0.0.1:1/none", "127.0.0.1:0", "PostgreSQL cannot be reached: "),
        ("sqlite:///not/there/charges.db", "127.0.0.1:0", "the SQLite file cannot be opened: "),
    ] {
        let mut charges = Command::new(env!("CARGO_BIN_EXE_charges"));
        let output = charges.args(["--store", store, "--listen", listen]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(says) && !stderr.contains("s3cret"), "{stderr}");
    }
}

/// Authorized and not committed: the next try finds no charge, and makes it with the same authorization.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_authorization_and_commit() {
    let database = Database::postgres().await;
    let Database::Postgres(postgres) = &database else { unreachable!() };
    let mut server = Server::start(&database.url(), &[]).await;
    let charge = server.greeting.lines().find(|line| line.starts_with("charge a card")).unwrap();
    let charge = charge.split_once(": ").unwrap().1.trim().to_owned();
    let mut holder = postgres.client().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE charges IN EXCLUSIVE MODE").execute(&mut holder).await.unwrap();
    let mut client = Command::new("sh").arg("-c").arg(format!("{charge} --silent --noproxy '*'")).spawn().unwrap();
    database.wait_until_entering().await;
    server.kill();
    assert!(!client.wait().unwrap().success());
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    server.restart().await;
    // The key is taken until the lease lapses; whoever asks then takes over.
    let deadline = Instant::now() + Duration::from_secs(30);
    let first = loop {
        let (status, answer) = curl(&charge);
        if status == 200 {
            break answer;
        }
        assert!(status == 409 && Instant::now() < deadline, "{answer}");
        // For as long as the client is told to wait.
        sleep(Duration::from_secs(1)).await;
    };
    assert!(!first.contains("idempotent-replayed"), "{first}");
    assert_eq!(body(&curl(&charge).1), body(&first));
    assert_eq!(database.count().await, 1);
}
