//! Records in every state, and the command.

use std::{
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use idempotent_runtime::{
    Fingerprint, Idempotency, Outcome, RecordKey,
    store::{ClaimOutcome, ClaimRequest, Nonce, NotKept, Token, Why},
};
use idempotent_tests::backend::Backend;
use serde_json::Value;

const TTL: Duration = Duration::from_hours(1);

/// Claims a key of the operation `each`, with arguments that no output may show.
pub(crate) async fn claim(idempotency: &Idempotency, key: &str, lease: Duration) -> (RecordKey, Token) {
    let key: RecordKey = format!("each|{key}").parse().unwrap();
    let arguments = serde_json::json!({ "amount": 1, "card": "canary-argument" });
    let request = ClaimRequest::new(Fingerprint::of(&arguments).unwrap(), Nonce::random(), lease, TTL)
        .with_arguments(bytes::Bytes::from(arguments.to_string()));
    match idempotency.store().claim(&key, &request).await.unwrap() {
        ClaimOutcome::Claimed { token, .. } => (key, token),
        other => panic!("{other:?}"),
    }
}

/// A record in each state, under the key that is its word.
pub(crate) async fn one_of_each(idempotency: &Idempotency, backend: &Backend) {
    let store = idempotency.store();
    claim(idempotency, "lapsed", Duration::from_secs(5)).await;
    backend.advance(Duration::from_secs(6)).await;
    claim(idempotency, "running", Duration::from_mins(10)).await;
    for (word, why, pause) in [
        ("failed", Why::Failed, Duration::ZERO),
        ("suspended", Why::Failed, Duration::from_mins(10)),
        ("abandoned", Why::Abandoned, Duration::ZERO),
    ] {
        let (key, token) = claim(idempotency, word, Duration::from_mins(10)).await;
        let _ = store.suspend(&key, &token, why, pause, TTL).await.unwrap();
    }
    for outcome in [
        Outcome::Ok(bytes::Bytes::from_static(b"\"canary-result\"")),
        Outcome::Err(bytes::Bytes::from_static(b"\"canary-error\"")),
        Outcome::NotKept(NotKept::TooLarge),
        Outcome::Exhausted,
        Outcome::Dead,
    ] {
        let (key, token) = claim(idempotency, outcome.as_str(), Duration::from_mins(10)).await;
        let _ = store.complete(&key, &token, &outcome, TTL).await.unwrap();
    }
}

/// The end of the command.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The objects that it printed, one a line.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asserts the exit code, and gives the end back.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }

    /// Asserts a failure of the store: code 3, and one line.
    #[track_caller]
    pub(crate) fn fails(self) -> String {
        let Self { code, out, err } = self;
        assert_eq!((code, out.as_str(), err.lines().count()), (3, "", 1), "{err}");
        err
    }
}

/// Runs the command on a store.
pub(crate) fn run(url: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idempotent"));
    let Output { status, stdout, stderr } = command.env("IDEMPOTENT_STORE", url).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

/// Starts the command on a store, and leaves it to the test to end it.
pub(crate) fn watch(url: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idempotent"));
    command.env("IDEMPOTENT_STORE", url).args(arguments).stdout(Stdio::piped()).spawn().unwrap()
}
