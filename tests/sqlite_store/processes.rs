//! Several processes on one file, and processes that are killed.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use idempotent_runtime::Idempotency;
use idempotent_tests::process::Process;
use rand::RngExt as _;
use tokio::{task::JoinSet, time::sleep};

use crate::{sqlite_file::SqliteFile, support::version_1};

const PROCESSES: u64 = 6;
const KEYS: u64 = 100;

/// A process of the program `sqlite_worker`.
struct Worker(Process);

impl Worker {
    async fn start(file: &SqliteFile, ledger: &Path, first: u64, count: u64) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sqlite_worker"));
        command.args([file.url(), ledger.display().to_string(), first.to_string(), count.to_string()]);
        let mut process = Process::talk(&mut command);
        assert_eq!(process.line().await.as_deref(), Some("ready"));
        Self(process)
    }

    /// Reads to the end what was acknowledged.
    async fn acknowledged(&mut self) -> Vec<u64> {
        let mut keys = Vec::new();
        while let Some(line) = self.0.line().await {
            // The last line of a process that was killed may be cut off.
            keys.extend(line.parse::<u64>());
        }
        keys
    }
}

/// Counts the runs of the body for each key.
fn effects(ledger: &Path) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(ledger).unwrap_or_default().lines() {
        *counts.entry(line.parse().expect("a key")).or_default() += 1;
    }
    counts
}

/// They start on a file that is not there yet: its creation, its migration and every key are raced for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_run_each_key_once_between_them() {
    race(SqliteFile::new()).await;
}

/// They find a file of the release before: its migration is raced for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_upgrade_an_older_file_between_them() {
    let file = SqliteFile::new();
    version_1(&file).await;
    race(file).await;
}

async fn race(file: SqliteFile) {
    let ledger = file.path().with_extension("ledger");
    let mut starts = JoinSet::new();
    for _ in 0..PROCESSES {
        let (file, ledger) = (file.clone(), ledger.clone());
        starts.spawn(async move { Worker::start(&file, &ledger, 0, KEYS).await });
    }
    let mut workers = starts.join_all().await;
    for worker in &mut workers {
        worker.0.say("go");
    }
    for worker in &mut workers {
        assert_eq!(worker.acknowledged().await, (0..KEYS).collect::<Vec<_>>());
        assert!(worker.0.wait().await.success());
    }
    assert_eq!(effects(&ledger), (0..KEYS).map(|key| (key, 1)).collect());
}

/// At any moment, also in the middle of a write or of a checkpoint: what was acknowledged is replayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills() {
    const ROUNDS: u64 = 15;
    const KEYS: u64 = 10_000;
    let file = SqliteFile::new();
    let ledger = file.path().with_extension("ledger");
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut workers = [
            Worker::start(&file, &ledger, round * 2 * KEYS, KEYS).await,
            Worker::start(&file, &ledger, (round * 2 + 1) * KEYS, KEYS).await,
        ];
        for worker in &mut workers {
            worker.0.say("go");
        }
        let run_for = Duration::from_millis(rand::rng().random_range(20..300));
        eprintln!("round {round} is killed after {run_for:?}");
        sleep(run_for).await;
        for worker in &mut workers {
            worker.0.kill();
        }
        for worker in &mut workers {
            acknowledged.append(&mut worker.acknowledged().await);
        }
    }
    assert!(acknowledged.len() > 100, "only {} acknowledged", acknowledged.len());
    let before = effects(&ledger);
    let idempotency = Idempotency::connect(&file.url()).await.expect("a store");
    for key in acknowledged {
        let body = async { panic!("the body of an acknowledged key runs again") };
        let result: Result<u64, idempotent_runtime::Error> =
            Box::pin(idempotency.call("sqlite.worker").key(key).run(body)).await;
        assert_eq!(result.expect("a result"), key * 3);
        assert_eq!(before.get(&key), Some(&1), "an acknowledged key ran more than once");
    }
}
