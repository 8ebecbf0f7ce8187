//! Stripe's own client library, as a process.

use std::{
    path::Path,
    process::{Child, Stdio},
};

use idempotent_tests::python::python;
use serde::Deserialize;

use crate::tables::Row;

/// The client's answer to a charge: its id, or the error that the client was told not to retry.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) description: String,
    pub(crate) id: Option<String>,
    pub(crate) error: Option<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) kind: String,
    pub(crate) status: Option<u16>,
    pub(crate) should_retry: Option<String>,
}

/// The report that the client prints when it is done.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) answers: Vec<Answer>,
    /// The charges that it is shown afterwards.
    pub(crate) listed: Vec<Row>,
}

/// So many charges: the description of each, which is its key as well, and its amount, which no other has.
pub(crate) fn charges(name: &str, count: usize) -> Vec<(String, i64)> {
    (0..count).map(|n| (format!("{name}-{n:02}"), 1000 + i64::try_from(n).unwrap())).collect()
}

/// Has a client make each charge by so many threads at once.
pub(crate) fn start(url: &str, charges: &[(String, i64)], times: usize) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/examples/charges/stripe_client.py");
    let mut client = python(&script, &["stripe==16.1.0"]);
    client.arg(url).arg(times.to_string());
    client.args(charges.iter().map(|(description, amount)| format!("{description}={amount}")));
    client.env("NO_PROXY", "127.0.0.1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    client.spawn().expect("python3")
}

pub(crate) fn report(client: Child) -> Report {
    let output = client.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    serde_json::from_str(&stdout).unwrap()
}
