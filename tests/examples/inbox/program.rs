//! The program on a database and a broker, and what it says.

use std::process::{Command, Output, Stdio};

use idempotent_tests::database::Database;
use serde_json::Value;

pub(crate) struct Program {
    pub(crate) database: Database,
    broker: Option<String>,
}

impl Program {
    /// With the embedded broker.
    pub(crate) fn on(database: Database) -> Self {
        Self { database, broker: None }
    }

    /// With a broker on a server.
    pub(crate) fn with_broker(database: Database, url: String) -> Self {
        Self { database, broker: Some(url) }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inbox"));
        command.args(["--store", &self.database.url()]);
        if let Some(broker) = &self.broker {
            command.args(["--broker", broker]);
        }
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it while the test's own tasks go on.
    pub(crate) async fn run_beside(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

/// Checks that a run ended with this code, and reads the summary that it printed.
#[track_caller]
pub(crate) fn summary(output: &Output, code: i32) -> Summary {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    let summary = Summary(serde_json::from_slice(&output.stdout).unwrap());
    assert_eq!(summary.0["ok"], code == 0, "{summary:?}");
    summary
}

#[derive(Debug)]
pub(crate) struct Summary(pub(crate) Value);

impl Summary {
    #[track_caller]
    pub(crate) fn get(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_else(|| panic!("{field} in {self:?}"))
    }

    /// Checks that so many messages are booked once, or dead for the right reason.
    #[track_caller]
    pub(crate) fn assert_proven(&self, messages: u64) {
        let expected = Expected::of(messages);
        for (field, count) in [
            ("messages", messages),
            ("effects", 2 * expected.booked),
            ("bookings", expected.booked),
            ("payments", expected.booked),
            ("published", expected.booked),
            ("dead", expected.undecoded + expected.failing + expected.forged),
            ("conflicts", expected.forged),
            ("twice", 0),
            ("lost", 0),
            ("unasked", 0),
        ] {
            assert_eq!(self.get(field), count, "{field} in {self:?}");
        }
        let sent = messages + self.get("duplicates") + expected.forged + expected.booked;
        assert_eq!(self.get("deliveries"), sent, "{self:?}");
        assert!(self.get("duplicates") >= messages / 10, "{self:?}");
        // Nine for each of those that always fail, and one for each of those that fail once.
        let failing_once = (1..=messages).filter(|number| number % 10 == 3 && number % 50 != 23).count() as u64;
        assert!(self.get("retried") >= 9 * expected.failing + failing_once, "{self:?}");
    }
}

/// What has to become of so many messages: this follows from their numbers alone.
pub(crate) struct Expected {
    pub(crate) booked: u64,
    pub(crate) undecoded: u64,
    pub(crate) failing: u64,
    pub(crate) forged: u64,
}

impl Expected {
    pub(crate) fn of(messages: u64) -> Self {
        let count = |of, rest| (1..=messages).filter(|number| number % of == rest).count() as u64;
        let (undecoded, failing) = (count(50, 7), count(50, 23));
        Self { booked: messages - undecoded - failing, undecoded, failing, forged: count(20, 11) }
    }
}
