//! The machine's clock goes back, in processes whose clock `libfaketime` moves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use idempotent_tests::{process::Process, wait::wait_for};
use tokio::time::{Instant, sleep, timeout};

use crate::sqlite_file::SqliteFile;

const LEASE: Duration = Duration::from_millis(1500);
const TTL: Duration = Duration::from_secs(3);

/// The times by which the clock goes back: less than a lease and a renewal, and far more.
const STEPS: [(&str, &str); 3] = [("+5s", "+0s"), ("+0s", "-5s"), ("+10d", "+0s")];

/// A file, and a clock that all its processes have.
struct Machine {
    file: SqliteFile,
    ledger: PathBuf,
    clock: PathBuf,
    ttl: Duration,
}

impl Machine {
    fn new(clock: &str) -> Self {
        let file = SqliteFile::new();
        let (ledger, path) = (file.path().with_extension("ledger"), file.path().with_extension("clock"));
        let machine = Self { file, ledger, clock: path, ttl: TTL };
        machine.set(clock);
        machine
    }

    /// Moves the clock to the true time and this much more.
    fn set(&self, offset: &str) {
        let new = self.clock.with_extension("new");
        fs::write(&new, format!("{offset}\n")).expect("a file");
        fs::rename(&new, &self.clock).expect("a file in place of the other");
    }

    /// Starts a process that calls one key.
    async fn worker(&self, holds: bool) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sqlite_worker"));
        command.args([self.file.url(), self.ledger.display().to_string(), "7".to_owned(), "1".to_owned()]);
        command.args([LEASE, self.ttl].map(|time| time.as_millis().to_string()));
        if holds {
            command.arg("hold");
        }
        command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", &self.clock).env("FAKETIME_NO_CACHE", "1");
        // Time-outs and pauses are on the clock that nobody sets.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        let mut process = Process::talk(&mut command);
        assert_eq!(process.line().await.as_deref(), Some("ready"));
        process.say("go");
        process
    }

    fn effects(&self) -> usize {
        fs::read_to_string(&self.ledger).unwrap_or_default().lines().count()
    }
}

fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("libraries").filter_map(Result::ok).map(|folder| folder.path());
    let mut libraries =
        folders.chain([PathBuf::from("/usr/lib64")]).map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let library = libraries.find(|library| Path::new(library).exists());
    library.expect("libfaketime: `tests/run` installs it")
}

async fn acknowledges(process: &mut Process) {
    let line = timeout(Duration::from_secs(20), process.line()).await.expect("an answer in time");
    assert_eq!(line.as_deref(), Some("7"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_run_has_its_key_for_a_lease_although_the_clock_went_back() {
    for (before, after) in STEPS {
        let machine = Machine::new(before);
        let mut killed = machine.worker(true).await;
        assert_eq!(killed.line().await.as_deref(), Some("running"));
        killed.kill();
        machine.set(after);
        let asked = Instant::now();
        let mut next = machine.worker(false).await;
        acknowledges(&mut next).await;
        let took = asked.elapsed();
        assert!(took < LEASE * 4, "{before}, {after}: the key was in flight for {took:?}");
        assert_eq!(machine.effects(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_alive_keeps_its_key_although_the_clock_went_back() {
    for (before, after) in STEPS {
        let machine = Machine::new(before);
        let mut owner = machine.worker(true).await;
        assert_eq!(owner.line().await.as_deref(), Some("running"));
        let mut waiters = [machine.worker(false).await, machine.worker(false).await];
        machine.set(after);
        let mut late = machine.worker(false).await;
        sleep(LEASE * 2).await;
        assert_eq!(machine.effects(), 1, "{before}, {after}: a second body beside the first");
        owner.say("go on");
        for process in [&mut owner, &mut late].into_iter().chain(&mut waiters) {
            acknowledges(process).await;
        }
        assert_eq!(machine.effects(), 1, "{before}, {after}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_never_cut_where_the_clock_went_back() {
    for (before, after) in STEPS {
        let machine = Machine::new(before);
        acknowledges(&mut machine.worker(false).await).await;
        machine.set(after);
        acknowledges(&mut machine.worker(false).await).await;
        sleep(TTL + Duration::from_millis(500)).await;
        acknowledges(&mut machine.worker(false).await).await;
        assert_eq!(machine.effects(), 1, "{before}, {after}: it lasts longer by the jump");
    }
}

/// A clock that is wrong for a moment, as at a boot before NTP has set it.
const GLITCHES: [&str; 2] = ["-1h", "-20000d"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_there_once_the_clock_is_right_again() {
    for glitch in GLITCHES {
        let mut machine = Machine::new("+0s");
        machine.ttl = Duration::from_secs(600);
        for clock in ["+0s", glitch, "+0s", glitch, "+0s"] {
            machine.set(clock);
            acknowledges(&mut machine.worker(false).await).await;
            assert_eq!(machine.effects(), 1, "{clock} of {glitch}");
        }
    }
}

/// The lease is renewed while the clock is wrong, or is not: a look of another process is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_alive_keeps_its_key_once_the_clock_is_right_again() {
    for glitch in GLITCHES {
        for lasts in [Duration::ZERO, LEASE * 2] {
            let machine = Machine::new("+0s");
            let mut owner = machine.worker(true).await;
            assert_eq!(owner.line().await.as_deref(), Some("running"));
            machine.set(glitch);
            let mut waiter = machine.worker(false).await;
            let looked = "SELECT count(*) FROM idempotent_records WHERE behind_until IS NOT NULL";
            wait_for("a look by the wrong clock", async || {
                let count = sqlx::query_scalar::<_, i64>(looked).fetch_one(&mut machine.file.connection().await).await;
                count.expect("a count") == 1
            })
            .await;
            sleep(lasts).await;
            machine.set("+0s");
            let mut late = machine.worker(false).await;
            sleep(LEASE * 2).await;
            assert_eq!(machine.effects(), 1, "{glitch} for {lasts:?}: a second body beside the first");
            owner.say("go on");
            for process in [&mut owner, &mut waiter, &mut late] {
                acknowledges(process).await;
            }
            assert_eq!(machine.effects(), 1, "{glitch} for {lasts:?}");
        }
    }
}
