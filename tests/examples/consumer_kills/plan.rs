//! What a worker is told, and what it tells.

use std::{
    env,
    fs::OpenOptions,
    io::Write as _,
    ops::AddAssign,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use idempotent_runtime::consumer::Summary;
use idempotent_tests::process::Process;
use serde::{Deserialize, Serialize};

/// The variable that has the plan of a worker.
pub(crate) const PLAN: &str = "CONSUMER_PLAN";

/// What a worker does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Its name, also in the table of effects.
    pub(crate) name: String,
    pub(crate) source: Source,
    /// The URL of the database.
    pub(crate) database: String,
    /// The file to which each run of a handler appends a line: `ID ATTEMPT`.
    pub(crate) runs: PathBuf,
    pub(crate) lease: Duration,
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Duration,
    pub(crate) concurrency: usize,
    pub(crate) prefetch: u16,
    pub(crate) drain: Duration,
    /// Where it kills itself.
    pub(crate) dies: Option<Point>,
    /// True if it writes its report only, and all else into a file of notes.
    pub(crate) is_quiet: bool,
}

impl Plan {
    /// The file to which a quiet worker appends a line for each thing that happens to a message.
    pub(crate) fn notes(&self) -> PathBuf {
        self.runs.with_extension("notes")
    }
}

/// Appends a line to the notes: about a message, or about [`ALL`] of them.
#[expect(clippy::disallowed_methods, reason = "processes that are compared by eye have one clock")]
pub(crate) fn note(notes: &Path, about: &str, what: &str) {
    let mut notes = OpenOptions::new().create(true).append(true).open(notes).unwrap();
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (minute, second, millis) = (time.as_secs() / 60 % 60, time.as_secs() % 60, time.subsec_millis());
    let line = format!("{about} {minute:02}:{second:02}.{millis:03} {what}\n");
    notes.write_all(line.as_bytes()).unwrap();
}

/// Stands for all messages in a note.
pub(crate) const ALL: &str = "*";

/// Where the messages come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Source {
    Rabbitmq { url: String, queue: String },
    Redis { url: String, stream: String },
}

/// The points at which a worker can kill itself, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Point {
    /// It has the delivery, and has not claimed the message.
    Delivered,
    /// The message is claimed, and the transaction is not begun.
    Claimed,
    /// The effect's statement is answered.
    Effect,
    /// The end of the run is written in the transaction, and nothing is committed.
    Ended,
    /// It is committed, and the broker has not heard of it.
    Committed,
    /// It is acknowledged.
    Acked,
}

impl Point {
    pub(crate) const ALL: [Self; 6] =
        [Self::Delivered, Self::Claimed, Self::Effect, Self::Ended, Self::Committed, Self::Acked];
}

/// The payload of a message: what its handler does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// How long it takes after its effect's statement.
    pub(crate) hold_ms: u64,
    pub(crate) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Then {
    Succeed,
    /// It fails each time.
    Fail,
    /// It fails the first time.
    FailOnce,
    /// It fails, and says that it always would.
    FailForEver,
    /// It ends the process each time.
    Abort,
}

/// What a worker tells at its end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) done: u64,
    pub(crate) duplicates: u64,
    pub(crate) not_settled: u64,
    pub(crate) given_back: u64,
    pub(crate) broken_off: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.duplicates += other.duplicates;
        self.not_settled += other.not_settled;
        self.given_back += other.given_back;
        self.broken_off += other.broken_off;
    }
}

impl From<Summary> for Report {
    fn from(summary: Summary) -> Self {
        let Summary { done, duplicates, not_settled, given_back, broken_off, .. } = summary;
        Self { done, duplicates, not_settled, given_back, broken_off }
    }
}

/// A worker, as a test has it.
pub(crate) struct Worker {
    pub(crate) process: Process,
}

impl Worker {
    pub(crate) fn start(plan: &Plan, log: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "worker::worker", "--nocapture", "--test-threads=1"]);
        command.env(PLAN, serde_json::to_string(plan).unwrap());
        Self { process: Process::talk_with_log(&mut command, log) }
    }

    /// Waits for a line. `false` if the process has ended before.
    pub(crate) async fn says(&mut self, expected: &str) -> bool {
        while let Some(line) = self.process.line().await {
            if line == expected {
                return true;
            }
        }
        false
    }

    /// Drains it, as a deployment does, and reads its report.
    pub(crate) async fn drain(mut self) -> Report {
        self.process.signal("-TERM");
        let mut report = None;
        while let Some(line) = self.process.line().await {
            report = line.strip_prefix("report ").map(str::to_owned).or(report);
        }
        assert!(self.process.wait().await.success(), "a drain that failed");
        serde_json::from_str(&report.expect("a report")).unwrap()
    }
}
