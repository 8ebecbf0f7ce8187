//! The main job as a user runs it: `payments`, a process, on every store.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::{
    collections::HashMap,
    io::Write as _,
    process::{Child, Command, Output, Stdio},
};

use idempotent_tests::{postgres_server::PostgresServer, redis_server::RedisProgram, sqlite_file::SqliteFile};
use serde_json::Value;

fn payments(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_payments"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs to the end, with this on standard input.
fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = payments(arguments);
    let mut stdin = child.stdin.take().unwrap();
    // A program that does not read its input closes the pipe.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn summary(output: &Output, code: i32) -> Summary {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let summary = Summary(serde_json::from_slice(&output.stdout).unwrap());
    // Every delivery is counted, once.
    let endings = ["executions", "replays", "waits", "mismatches", "refused_in_flight", "gave_up_waiting", "errors"];
    assert_eq!(summary.sum(&endings), summary.get("deliveries"), "{summary:?}");
    summary
}

#[derive(Debug)]
struct Summary(Value);

impl Summary {
    fn get(&self, field: &str) -> i64 {
        self.0[field].as_i64().unwrap_or_else(|| panic!("{field} in {self:?}"))
    }

    fn sum(&self, fields: &[&str]) -> i64 {
        fields.iter().map(|field| self.get(field)).sum()
    }

    /// The calls that came to a final answer: charged, declined, refunded.
    fn operations(&self) -> i64 {
        self.sum(&["orders_accepted", "orders_declined", "refunds"])
    }

    #[track_caller]
    fn assert_proven(&self) {
        for failure in ["charged_twice", "lost", "changed_answers", "errors"] {
            assert_eq!(self.get(failure), 0, "{failure} in {self:?}");
        }
        assert_eq!(self.0["ok"], true);
    }

    /// Checks the numbers that depend on the log alone, and not on the order in which its deliveries ran.
    #[track_caller]
    fn assert_outcome_of(&self, log: &[u8]) {
        let expected = Expected::of(log);
        assert_eq!(self.get("deliveries"), expected.deliveries);
        assert_eq!(self.get("orders"), expected.debits + expected.declined);
        assert_eq!(self.get("orders_accepted"), expected.debits);
        assert_eq!(self.get("orders_declined"), expected.declined);
        assert_eq!(self.get("debits"), expected.debits);
        assert_eq!(self.get("refunds"), expected.refunds);
        assert_eq!(self.get("mismatches"), expected.mismatches);
        assert_eq!(self.0["total_cents"]["EUR"], expected.total_cents);
    }
}

/// The numbers that a log must lead to, counted without the library.
#[derive(Default)]
struct Expected {
    deliveries: i64,
    debits: i64,
    declined: i64,
    refunds: i64,
    mismatches: i64,
    total_cents: i64,
}

impl Expected {
    fn of(log: &[u8]) -> Self {
        let mut expected = Self::default();
        let mut amounts: HashMap<String, i64> = HashMap::new();
        for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Value = serde_json::from_slice(line).unwrap();
            let cents = line["amount_cents"].as_i64().unwrap();
            expected.deliveries += 1;
            if let Some(first) = amounts.get(line["idempotency_key"].as_str().unwrap()) {
                expected.mismatches += i64::from(*first != cents);
                continue;
            }
            amounts.insert(line["idempotency_key"].as_str().unwrap().to_owned(), cents);
            if line["card"] == "tok_declined" {
                expected.declined += 1;
            } else if line["kind"] == "charge" {
                expected.debits += 1;
                expected.total_cents += cents;
            } else {
                expected.refunds += 1;
                expected.total_cents -= cents;
            }
        }
        expected
    }
}

fn built_in_log() -> Vec<u8> {
    let output = run(&["--print-log"], b"");
    assert!(output.status.success());
    output.stdout
}

/// The deliveries of every fifth order, for stores that write to disk. Without those that ask for something else under a
/// key that was used: where writers wait for one another, they may come first.
fn a_fifth_of_the_orders() -> Vec<u8> {
    let mut amounts = HashMap::new();
    let log = built_in_log();
    let lines = log.split_inclusive(|byte| *byte == b'\n').filter(|line| {
        let line: Value = serde_json::from_slice(line).unwrap();
        let (key, cents) = (line["idempotency_key"].as_str().unwrap(), line["amount_cents"].as_i64().unwrap());
        let is_same = *amounts.entry(key.to_owned()).or_insert(cents) == cents;
        is_same && line["order_id"].as_str().unwrap().ends_with(['0', '5'])
    });
    lines.collect::<Vec<_>>().concat()
}

fn line(key: &str, order: &str, more: &str) -> String {
    format!(
        r#"{{"delivery":"d","kind":"charge","idempotency_key":"{key}","order_id":"{order}","amount_cents":500,"currency":"EUR","card":"tok_visa"{more}}}"#
    ) + "\n"
}

#[test]
fn the_built_in_log_is_proven() {
    let output = run(&["--json"], b"");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let summary = summary(&output, 0);
    summary.assert_proven();
    summary.assert_outcome_of(&built_in_log());
    assert_eq!(summary.sum(&["malformed", "refused_in_flight"]), 0);
    // Each run that vanished was taken over once; nothing else ran a function again but an outage of the bank.
    assert_eq!(summary.get("takeovers"), summary.sum(&["crashes", "dropped"]));
    assert_eq!(summary.get("executions"), summary.operations() + summary.sum(&["takeovers", "bank_unavailable"]));
    for (kind, least) in
        [("crashes", 200), ("gave_up", 100), ("bank_unavailable", 100), ("waits", 300), ("replays", 300)]
    {
        assert!(summary.get(kind) >= least, "{kind} in {summary:?}");
    }
}

#[test]
fn people_get_a_table_and_a_proof() {
    let output = run(&[], b"");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no progress bar without a terminal");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("5,000 deliveries for 2,000 orders, on the embedded store, in "), "{table}");
    assert!(table.contains("accepted orders was charged once; no charge was lost, no answer changed.\n"), "{table}");
}

#[test]
fn a_log_is_read_from_a_file_and_from_standard_input() {
    let log = built_in_log();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &log).unwrap();
    for output in [run(&["--json", file.path().to_str().unwrap()], b""), run(&["--json", "-"], &log)] {
        let summary = summary(&output, 0);
        summary.assert_proven();
        summary.assert_outcome_of(&log);
    }
}

#[test]
fn an_empty_log_is_no_error() {
    assert_eq!(summary(&run(&["--json", "-"], b"\n\n"), 0).get("deliveries"), 0);
}

#[test]
fn malformed_lines_are_named_and_the_rest_is_processed() {
    let mut log = line("a", "o-1", "");
    log += "{\"delivery\":\n\n";
    log += &line("b", "o-2", r#","fault":"explodes""#);
    log += &line("b", "o-2", r#","fault":null"#);
    log += &" ".repeat(70_000);
    log += "\n";
    let mut log = log.into_bytes();
    log.extend_from_slice(b"\xff\xfe\n");
    log.extend_from_slice(line("c", "o-\\u0000", "").as_bytes());
    log.extend_from_slice(line("a", "o-1", "").trim_end().as_bytes());

    let output = run(&["--json", "-"], &log);
    let summary = summary(&output, 3);
    summary.assert_proven();
    assert_eq!([summary.get("deliveries"), summary.get("malformed"), summary.get("orders_accepted")], [3, 5, 2]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    for said in [
        "line 2: ",
        "line 4: unknown variant `explodes`",
        "line 6: longer than 65536 bytes",
        "line 7: ",
        "line 8: `order_id` has the character U+0000",
    ] {
        assert!(stderr.contains(said), "{said:?} in {stderr}");
    }
    assert_eq!(stderr.lines().count(), 5, "{stderr}");
}

#[test]
fn an_order_under_two_keys_is_charged_twice_and_the_proof_says_so() {
    let log = line("a", "o-1", "") + &line("b", "o-1", "") + &line("c", "o-2", "");
    let summary = summary(&run(&["--json", "-"], log.as_bytes()), 1);
    assert_eq!([summary.get("charged_twice"), summary.get("orders_accepted")], [1, 2]);
    assert_eq!(summary.0["ok"], false);
    let table = run(&["-"], log.as_bytes());
    assert_eq!(table.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&table.stdout).contains("NOT proven, of 2 accepted orders: 1 charged twice"));
}

/// The last client gives up, and nobody asks again: the program waits for the charge that goes on without it.
#[test]
fn a_charge_is_finished_although_its_client_gave_up() {
    let summary = summary(&run(&["--json", "-"], line("a", "o-1", r#","fault":"gives_up""#).as_bytes()), 0);
    let seen = ["gave_up", "executions", "debits", "orders_accepted", "dropped"].map(|field| summary.get(field));
    assert_eq!(seen, [1, 1, 1, 0, 0], "{summary:?}");
}

#[test]
fn what_cannot_be_read_or_reached_is_exit_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();
    for (arguments, said) in [
        (vec!["--json", "/no/such/file"], "/no/such/file cannot be read"),
        (vec!["--json", directory], "cannot be read"),
        (vec!["--jsonn"], "--jsonn"),
        (vec!["--print-log", "-"], "cannot be used with"),
        (vec!["--store", "mysql://user:secret@localhost/"], "neither `memory:` nor a URL"),
        (vec!["--store", "postgres://user:secret@127.0.0.1:1/bank"], "cannot be reached"),
        (vec!["--store", "sqlite:///no/such/folder/secret.db"], "cannot be opened"),
        (vec!["--store", "redis://user:secret@127.0.0.1:1/"], "cannot be reached"),
    ] {
        let output = run(&arguments, b"");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("secret"), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    for arguments in [["--print-log"], ["--json"]] {
        let mut child = payments(&arguments);
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn two_processes_on_one_redis_charge_each_order_once_between_them() {
    let server = RedisProgram::Redis.start().await;
    two_processes_charge_each_order_once_between_them(&server.url(), &built_in_log());
}

#[tokio::test]
async fn two_processes_on_one_postgresql_charge_each_order_once_between_them() {
    let server = PostgresServer::start().await;
    two_processes_charge_each_order_once_between_them(&server.url(), &a_fifth_of_the_orders());
}

#[test]
fn two_processes_on_one_sqlite_file_charge_each_order_once_between_them() {
    let file = SqliteFile::new();
    two_processes_charge_each_order_once_between_them(&file.url(), &a_fifth_of_the_orders());
}

fn two_processes_charge_each_order_once_between_them(url: &str, log: &[u8]) {
    let arguments = ["--json", "--store", url, "-"];
    let mut processes = [payments(&arguments), payments(&arguments)];
    // Side by side, so that neither is done before the other begins: a pipe holds but a part of the log.
    let mut pipes = processes.each_mut().map(|process| process.stdin.take().unwrap());
    for part in log.chunks(4096) {
        for pipe in &mut pipes {
            pipe.write_all(part).unwrap();
        }
    }
    drop(pipes);
    let [one, other] = processes.map(|process| summary(&process.wait_with_output().unwrap(), 0));
    for summary in [&one, &other] {
        summary.assert_proven();
        summary.assert_outcome_of(log);
        assert!(summary.get("executions") > 0, "{summary:?}");
    }
    let both = |field| one.get(field) + other.get(field);
    assert_eq!(both("executions"), one.operations() + both("takeovers") + both("bank_unavailable"));
    // A client that gives up on a shared store may do so while the result is on its way to the store: then nothing vanished.
    assert!(both("takeovers") >= both("crashes"));
    assert!(both("takeovers") <= both("crashes") + both("dropped"));

    // A third process, later, finds everything done.
    let third = summary(&run(&arguments, log), 0);
    third.assert_proven();
    third.assert_outcome_of(log);
    assert_eq!(third.sum(&["executions", "waits", "errors"]), 0, "{third:?}");
}
