//! A crash at each step of a transaction.

use std::os::unix::process::ExitStatusExt as _;

use idempotent_tests::{postgres_server::PostgresServer, sqlite_file::SqliteFile};

use super::{
    database::Database,
    program::{check, run, summary},
};

const RESET: &str = "DELETE FROM ledger; DELETE FROM idempotent_records; UPDATE accounts SET balance_cents = 100000";

const SIGABRT: i32 = 6;

/// The number of a transfer that is asked for once, and what comes of it.
async fn find(database: &Database, outcome: &str) -> String {
    for number in 1.. {
        let number = i32::to_string(&number);
        let summary = summary(&run(&database.url(), &["--json", "--transfers", "1", "--first", &number]), 0);
        if summary.get("deliveries") == 1 && summary.get(outcome) == 1 {
            return number;
        }
    }
    unreachable!()
}

/// The program asks for a transfer and crashes after it has waited once, twice, … for the database: before the claim,
/// after it, in the body, after it, before the commit and after it, with the reply unread.
async fn crash_everywhere(database: &Database, outcome: &str, entries: i64) {
    let number = find(database, outcome).await;
    let call = |more: &[&str]| {
        let arguments = [&["--json", "--transfers", "1", "--first", &number], more].concat();
        run(&database.url(), &arguments)
    };
    let (mut nothing, mut all) = (0, 0);
    for waits in 0.. {
        database.execute(RESET).await;
        let crash = call(&["--crash", &i32::to_string(&waits)]);
        if crash.status.signal() != Some(SIGABRT) {
            assert_eq!(summary(&crash, 0).get(outcome), 1);
            break;
        }
        match (database.entries().await, database.records().await) {
            (0, 0) => nothing += 1,
            (found, 1) if found == entries => all += 1,
            found => panic!("after {waits} waits: entries and records {found:?}"),
        }
        check(&database.url());
        let settled = summary(&call(&[]), 0);
        assert_eq!((settled.get(outcome), settled.get("executions") + settled.get("replays")), (1, 1));
        assert_eq!((database.entries().await, database.records().await), (entries, 1), "after {waits} waits");
    }
    println!("{outcome}: {nothing} crashes left nothing, {all} left all of it");
    assert!(nothing >= 8 && all >= 1, "{nothing} crashes left nothing, {all} left all of it");
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_all_or_nothing_in_sqlite() {
    let database = Database::Sqlite(SqliteFile::new());
    crash_everywhere(&database, "made", 2).await;
    crash_everywhere(&database, "refused", 0).await;
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_all_or_nothing_in_postgres() {
    let database = Database::Postgres(PostgresServer::start().await);
    crash_everywhere(&database, "made", 2).await;
    crash_everywhere(&database, "refused", 0).await;
}
