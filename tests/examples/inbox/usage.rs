//! Checks what a user sees of the program.

use idempotent_tests::{database::Database, sqlite_file::SqliteFile};

use crate::program::{Program, summary};

#[tokio::test]
async fn people_get_a_table_and_a_proof() {
    let program = Program::on(Database::sqlite().await);
    let output = program.run(&["--messages", "30", "--kill", "1"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{table}");
    for text in ["30 orders on SQLite, 1 kills, in ", "conflicts         1 ", "\nProven: each order was booked once "] {
        assert!(table.contains(text), "{text} in {table}");
    }
}

/// Every kind of mistake is found, and named.
#[tokio::test]
async fn tables_that_were_tampered_with_are_not_proven() {
    let program = Program::on(Database::sqlite().await);
    summary(&program.run(&["--json", "--messages", "30"]), 0).assert_proven(30);
    summary(&program.run(&["--json", "--check"]), 0).assert_proven(30);
    // Each is a mistake more.
    for (sql, found) in [
        ("DELETE FROM bookings WHERE order_id = '1-00001'", "NOT proven: 1 messages lost."),
        ("DELETE FROM payments WHERE order_id = '1-00002'", "NOT proven: 2 messages lost."),
        (
            "INSERT INTO bookings SELECT * FROM bookings WHERE order_id = '1-00003'",
            "1 orders booked or paid twice, 2 mess",
        ),
        (
            "INSERT INTO payments SELECT * FROM payments WHERE order_id = '1-00004'",
            "2 orders booked or paid twice, 2 mess",
        ),
        (
            "UPDATE bookings SET cents = cents + 1 WHERE order_id = '1-00005'",
            "3 messages lost, 1 rows that nobody asked for",
        ),
        ("DELETE FROM idempotent_records_dead WHERE reason = 'conflict'", "4 messages lost"),
        ("UPDATE idempotent_records_dead SET reason = 'exhausted' WHERE reason = 'permanent'", "5 messages lost"),
        ("DELETE FROM idempotent_records_dead", "6 messages lost"),
        ("INSERT INTO bookings VALUES ('other', 1, 1)", "2 rows"),
    ] {
        program.database.execute(sql).await;
        let output = program.run(&["--check"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{sql}: {text}");
        assert!(text.contains("NOT proven: ") && text.contains(found), "{sql}: {text}");
    }
    summary(&program.run(&["--json", "--check"]), 1);
}

/// Shows what the records prevent: without them, what comes again is booked again.
#[tokio::test]
async fn without_the_records_orders_are_booked_twice() {
    let program = Program::on(Database::sqlite().await);
    summary(&program.run(&["--json", "--messages", "10"]), 0).assert_proven(10);
    program.database.execute("DELETE FROM idempotent_records").await;
    let again = summary(&program.run(&["--json", "--messages", "10"]), 1);
    assert_eq!((again.get("twice"), again.get("lost")), (18, 0), "{again:?}");
}

#[test]
fn what_cannot_work_is_exit_code_2() {
    let file = SqliteFile::new();
    for (arguments, said) in [
        (["--store", "sqlite:///no/such/folder/inbox.db"], "unable to open"),
        (["--store", "redis://127.0.0.1/"], "--store is neither a `sqlite://` nor a `postgres://` URL"),
        (["--store", "postgres://user:secret@127.0.0.1:1/"], "pool timed out"),
        (["--store", "postgres://user:secret@host:port/"], "not a PostgreSQL URL"),
        (["--broker", "kafka://user:secret@127.0.0.1/"], "--broker is neither an `amqp://` nor a `redis://` URL"),
        (["--broker", "amqp://user:secret@127.0.0.1:1/"], "refused"),
        (["--broker", "redis://user:secret@127.0.0.1:1/"], "refused"),
        (["--messages", "many"], "invalid digit"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_inbox"));
        if arguments[0] != "--store" {
            command.args(["--store", &file.url()]);
        }
        let output = command.args(arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.to_lowercase().contains(&said.to_lowercase()), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("secret"), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
