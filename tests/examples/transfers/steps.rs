//! A crash at each step of a transaction.

use std::{os::unix::process::ExitStatusExt as _, time::Duration};

use idempotent_tests::{
    database::Database,
    postgres_database::PostgresDatabase,
    proxy::{Fault, Proxy},
};

use super::{
    program::{check, run, summary},
    tables::Tables as _,
};

const RESET: &str = "DELETE FROM ledger; DELETE FROM idempotent_records; UPDATE accounts SET balance_cents = 100000";

const SIGABRT: i32 = 6;

/// The most passes over all steps. A call waits more or less often, depending on how fast the answers come, so one pass may
/// miss a step: the test makes passes until the last step was hit.
const ROUNDS: usize = 20;
/// A pass ends when this many calls in a row had their answer before the crash.
const UNHURT: usize = 4;

/// The number of a transfer that is asked for once, and what comes of it.
fn find(url: &str, outcome: &str) -> String {
    for number in 1.. {
        let number = i32::to_string(&number);
        let summary = summary(&run(url, &["--json", "--transfers", "1", "--first", &number]), 0);
        if summary.get("deliveries") == 1 && summary.get(outcome) == 1 {
            return number;
        }
    }
    unreachable!()
}

/// The program asks for a transfer and crashes after it has waited once, twice, … for the database: before the claim,
/// after it, in the body, after it, before the commit and after it, with the reply unread.
async fn crash_everywhere(database: &Database, url: &str, outcome: &str, entries: i64) {
    let number = find(url, outcome);
    let call = |more: &[&str]| {
        let arguments = [&["--json", "--transfers", "1", "--first", &number], more].concat();
        run(url, &arguments)
    };
    let (mut nothing, mut all) = (0, 0);
    for _ in 0..ROUNDS {
        let mut unhurt = 0;
        for waits in 0.. {
            if unhurt == UNHURT {
                break;
            }
            database.execute(RESET).await;
            let crash = call(&["--crash", &i32::to_string(&waits)]);
            if crash.status.signal() != Some(SIGABRT) {
                assert_eq!(summary(&crash, 0).get(outcome), 1);
                unhurt += 1;
                continue;
            }
            unhurt = 0;
            match (database.entries().await, database.records().await) {
                (0, 0) => nothing += 1,
                (found, 1) if found == entries => all += 1,
                found => panic!("after {waits} waits: entries and records {found:?}"),
            }
            check(url);
            let settled = summary(&call(&[]), 0);
            assert_eq!((settled.get(outcome), settled.get("executions") + settled.get("replays")), (1, 1));
            assert_eq!((database.entries().await, database.records().await), (entries, 1), "after {waits} waits");
        }
        if nothing >= 8 && all >= 1 {
            println!("{outcome}: {nothing} crashes left nothing, {all} left all of it");
            return;
        }
    }
    panic!("{outcome}: {nothing} crashes left nothing, {all} left all of it");
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_all_or_nothing_in_sqlite() {
    let database = Database::sqlite().await;
    let url = database.url();
    crash_everywhere(&database, &url, "made", 2).await;
    crash_everywhere(&database, &url, "refused", 0).await;
}

/// Behind a proxy that takes its time, so that every answer is waited for.
async fn crash_everywhere_in_postgres(outcome: &str, entries: i64) {
    let database = PostgresDatabase::create().await;
    let proxy = Proxy::start(database.address()).await;
    proxy.set(Fault::Delay(Duration::from_millis(1)));
    let url = database.url_at(proxy.address());
    crash_everywhere(&Database::Postgres(database), &url, outcome, entries).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_crash_at_any_step_leaves_all_or_nothing_in_postgres() {
    crash_everywhere_in_postgres("made", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_crash_at_any_step_of_a_refusal_leaves_all_or_nothing_in_postgres() {
    crash_everywhere_in_postgres("refused", 0).await;
}
