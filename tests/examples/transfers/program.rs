//! The program, and what it says.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The program with these arguments, on a database.
pub(crate) fn transfers(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_transfers"));
    command.args(["--store", url]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn run(url: &str, arguments: &[&str]) -> Output {
    transfers(url, arguments).output().unwrap()
}

/// Checks that a run ended with this code, and reads the summary that it printed.
#[track_caller]
pub(crate) fn summary(output: &Output, code: i32) -> Summary {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    let summary = Summary(serde_json::from_slice(&output.stdout).unwrap());
    let endings = ["executions", "replays", "mismatches", "gave_up", "errors"];
    assert_eq!(endings.map(|field| summary.get(field)).iter().sum::<i64>(), summary.get("deliveries"), "{summary:?}");
    assert_eq!(summary.0["ok"], code == 0);
    summary
}

/// Checks that the program finds the books in order.
#[track_caller]
pub(crate) fn check(url: &str) {
    let summary = summary(&run(url, &["--check", "--json"]), 0);
    assert!(summary.0["books"].is_object(), "{summary:?}");
}

#[derive(Debug)]
pub(crate) struct Summary(pub(crate) Value);

impl Summary {
    #[track_caller]
    pub(crate) fn get(&self, field: &str) -> i64 {
        self.0[field].as_i64().unwrap_or_else(|| panic!("{field} in {self:?}"))
    }
}
