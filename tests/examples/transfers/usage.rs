//! Checks what a user sees of the program.

use idempotent_tests::{database::Database, sqlite_file::SqliteFile};

use super::{
    program::{check, run, summary, transfers},
    tables::Tables as _,
};

#[tokio::test]
async fn a_load_is_made_once_and_proven() {
    for database in [Database::sqlite().await, Database::postgres().await] {
        let first = summary(&run(&database.url(), &["--json"]), 0);
        for (field, least) in [("made", 700), ("refused", 50), ("replays", 200), ("mismatches", 40), ("gave_up", 5)] {
            assert!(first.get(field) >= least, "{field} in {first:?}");
        }
        assert_eq!([first.get("transfers"), first.get("errors")], [1_000, 0]);
        assert!(first.get("executions") <= 1_000);
        database.assert_exact(1_000, first.get("made")).await;

        // The same load again: everything is answered, nothing is done.
        let again = summary(&run(&database.url(), &["--json"]), 0);
        for field in ["transfers", "made", "refused", "mismatches"] {
            assert_eq!(again.get(field), first.get(field), "{field}");
        }
        assert_eq!(again.get("executions"), 0);
        assert_eq!(again.0["books"], first.0["books"]);
    }
}

#[tokio::test]
async fn processes_share_a_load() {
    for database in [Database::sqlite().await, Database::postgres().await] {
        let url = database.url();
        check(&url);
        let processes = [(); 3].map(|()| transfers(&url, &["--json"]).spawn().unwrap());
        let summaries = processes.map(|process| summary(&process.wait_with_output().unwrap(), 0));
        let made = summaries[0].get("made");
        for summary in &summaries {
            assert_eq!([summary.get("transfers"), summary.get("made")], [1_000, made]);
        }
        let executions = summaries.map(|summary| summary.get("executions"));
        assert!(executions.iter().sum::<i64>() <= 1_000, "{executions:?}");
        assert!(executions.iter().filter(|&&count| count > 0).count() > 1, "{executions:?}");
        database.assert_exact(1_000, made).await;
    }
}

#[tokio::test]
async fn people_get_a_table_and_a_proof() {
    let file = SqliteFile::new();
    let output = run(&file.url(), &["--transfers", "20"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("20 transfers, asked for "), "{table}");
    assert!(table.contains(" in the accounts.\nProven: "), "{table}");
    let output = run(&file.url(), &["--check"]);
    assert!(output.stdout.starts_with(b"The books: "), "{output:?}");
}

/// Every kind of mistake is found, and named.
#[tokio::test]
async fn books_that_were_tampered_with_are_not_proven() {
    const ONE: &str = "(SELECT min(transfer_id) FROM ledger)";
    let double = format!(
        "UPDATE accounts SET balance_cents = balance_cents
            + (SELECT sum(cents) FROM ledger WHERE account_id = accounts.id AND transfer_id = {ONE})
            WHERE id IN (SELECT account_id FROM ledger WHERE transfer_id = {ONE});
         INSERT INTO ledger (transfer_id, account_id, cents)
            SELECT transfer_id, account_id, cents FROM ledger WHERE transfer_id = {ONE}"
    );
    for (tampering, found) in [
        ("UPDATE accounts SET balance_cents = balance_cents + 1 WHERE id = 1", "1 cents too few or too many"),
        ("UPDATE accounts SET balance_cents = balance_cents - 1 WHERE id = 1", "1 accounts off balance"),
        ("UPDATE accounts SET balance_cents = -1 WHERE id = 1", "1 accounts overdrawn"),
        (&*double, "1 transfers made twice"),
        ("DELETE FROM ledger WHERE id = (SELECT max(id) FROM ledger)", "1 transfers made in part"),
        (&format!("DELETE FROM idempotent_records WHERE key = {ONE}"), "1 transfers without a record"),
        (&format!("DELETE FROM ledger WHERE transfer_id = {ONE}"), "1 records without a transfer"),
        (&format!("UPDATE idempotent_records SET state = 'abandoned' WHERE key = {ONE}"), "1 records without an end"),
    ] {
        let database = Database::sqlite().await;
        let url = database.url();
        summary(&run(&url, &["--json", "--transfers", "20"]), 0);
        check(&url);
        database.execute(tampering).await;
        let output = run(&url, &["--check"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{tampering}: {text}");
        assert!(text.contains("NOT proven: ") && text.contains(found), "{tampering}: {text}");
        summary(&run(&url, &["--check", "--json"]), 1);
    }
}

/// Shows what the records prevent.
#[tokio::test]
async fn without_the_records_transfers_are_made_twice() {
    let database = Database::sqlite().await;
    summary(&run(&database.url(), &["--json", "--transfers", "20"]), 0);
    database.execute("DELETE FROM idempotent_records").await;
    let output = run(&database.url(), &["--json", "--transfers", "20"]);
    assert!(summary(&output, 1).0["books"]["made_twice"].as_i64() > Some(0));
}

#[test]
fn what_cannot_be_reached_is_exit_code_2() {
    for (url, arguments, said) in [
        ("sqlite:///no/such/folder/transfers.db", vec!["--json"], "unable to open"),
        ("memory:", vec![], "neither a `sqlite://` nor a `postgres://` URL"),
        ("postgres://user:secret@127.0.0.1:1/", vec![], "pool timed out"),
        ("postgres://user:secret@host:port/", vec![], "not a PostgreSQL URL"),
        ("sqlite://x", vec!["--check", "--work"], "cannot be used with"),
    ] {
        let output = run(url, &arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}: {stderr}");
        assert!(stderr.contains(said), "{url}: {stderr}");
        assert!(!stderr.contains("secret"), "{url}: {stderr}");
        assert!(output.stdout.is_empty(), "{url}");
    }
}
