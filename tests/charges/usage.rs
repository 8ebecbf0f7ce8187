//! What the program prints can be typed, and it stops when it is told to.

use std::process::{Command, Stdio};

use crate::{database::Database, server::Server};

crate::on_each_database!(printed_commands_work, shutdown_waits_for_charges_without_clients);

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
    let server = Server::start(&database.url(), &[]);
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
    let mut server = Server::start(&database.url(), &["--faults", "hang-up"]);
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
