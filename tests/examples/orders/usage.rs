//! Checks what a user sees of the program.

use super::program::{Program, summary};

#[tokio::test]
async fn people_get_a_story_and_a_proof() {
    let program = Program::on_sqlite();
    let output = program.run(&["--orders", "10", "--crash", "2"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    let table = String::from_utf8(output.stdout).unwrap();
    for text in
        ["The story of order 1-0", "card network makes charge", "10 orders on SQLite, ", "\nProven: no order was "]
    {
        assert!(table.contains(text), "{text} in {table}");
    }
    let output = program.run(&["--check"]);
    assert!(output.stdout.starts_with(b"The books: 10 charges of "), "{output:?}");
}

/// Every kind of mistake is found, and named.
#[tokio::test]
async fn books_that_were_tampered_with_are_not_proven() {
    const OUTSIDE: bool = true;
    let program = Program::on_sqlite();
    summary(&program.run(&["--json", "--orders", "6", "--crash", "0"]), 0).assert_proven(6);
    // Each is a mistake more.
    for (place, sql, found) in [
        (OUTSIDE, "UPDATE charges SET cents = cents + 1 WHERE order_id = '1-00001'", "1 orders lost"),
        (OUTSIDE, "DELETE FROM charges WHERE order_id = '1-00002'", "2 orders lost"),
        (OUTSIDE, "DELETE FROM mails WHERE order_id = '1-00003'", "3 orders lost"),
        (!OUTSIDE, "UPDATE reservations SET order_id = 'other' WHERE order_id = '1-00004'", "4 orders lost"),
        (
            OUTSIDE,
            "INSERT INTO charges (key, order_id, cents, requests)
                SELECT 'other', order_id, cents, 1 FROM charges WHERE order_id = '1-00005'",
            "1 orders charged twice",
        ),
        (
            OUTSIDE,
            "INSERT INTO mails (order_id, charge) SELECT order_id, charge FROM mails WHERE order_id = '1-00006'",
            "1 orders mailed twice",
        ),
        (!OUTSIDE, "UPDATE stock SET pieces = pieces - 1 WHERE article = 1", "1 mistakes in the stock"),
        (
            !OUTSIDE,
            "INSERT INTO reservations (order_id, article, quantity)
                SELECT order_id, article, 0 FROM reservations WHERE order_id = '1-00006'",
            "2 mistakes in the stock",
        ),
    ] {
        if place == OUTSIDE {
            program.tamper(sql).await;
        } else {
            program.tamper_with_stock(sql).await;
        }
        let output = program.run(&["--orders", "6", "--crash", "0"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{sql}: {text}");
        assert!(text.contains("NOT proven: ") && text.contains(found), "{sql}: {text}");
    }
    summary(&program.run(&["--json", "--orders", "6", "--crash", "0"]), 1);
}

/// Shows what the records prevent: without them, the card network knows the keys again, and the mail server knows nothing.
#[tokio::test]
async fn without_the_records_mails_are_sent_twice() {
    let program = Program::on_sqlite();
    let arguments = ["--json", "--orders", "6", "--crash", "0"];
    summary(&program.run(&arguments), 0).assert_proven(6);
    program.tamper_with_stock("DELETE FROM idempotent_records").await;
    let again = summary(&program.run(&arguments), 1);
    assert_eq!(["charged_twice", "mailed_twice", "stock_wrong"].map(|field| again.get(field)), [0, 6, 6], "{again:?}");
}

#[test]
fn what_cannot_work_is_exit_code_2() {
    for (url, arguments, said) in [
        ("sqlite:///no/such/folder/orders.db", vec!["--json"], "unable to open"),
        ("memory:", vec![], "--store is not a `sqlite://`, `postgres://` or `redis://` URL"),
        ("postgres://user:secret@127.0.0.1:1/", vec![], "pool timed out"),
        ("postgres://user:secret@host:port/", vec![], "not a PostgreSQL URL"),
        ("redis://user:secret@127.0.0.1:1/", vec![], "refused"),
        (
            "sqlite://x.db",
            vec!["--stock", "redis://127.0.0.1/"],
            "--stock is neither a `sqlite://` nor a `postgres://` URL",
        ),
        ("sqlite://x.db", vec!["--orders", "10", "--crash", "6"], "--crash is more than half of --orders"),
        ("sqlite://x.db", vec!["--workers", "0"], "0 is not in 1..=64"),
        ("sqlite://x.db", vec!["--orders", "many"], "invalid digit"),
    ] {
        let output = Program::on(url.to_owned()).run(&arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}: {stderr}");
        assert!(stderr.contains(said), "{url}: {stderr}");
        assert!(!stderr.contains("secret"), "{url}: {stderr}");
        assert!(output.stdout.is_empty(), "{url}");
        assert!(said.starts_with("0 is") || said.starts_with("invalid") || stderr.lines().count() == 1, "{stderr}");
    }
}
