//! Processes that die at every point of a run: before, during and after each call of the store, and before each line that the
//! body writes. The next process dies as well, at a point of its own, and the one after it lives.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use idempotent_runtime::State;
use idempotent_tests::{
    doomed::{Death, Function, Line, Plan, Report, operation, read},
    on_every_store,
    process::Process,
    wait::wait_for,
};
use tempfile::TempDir;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    support::{Backend, LEASE, record_key},
    test_bodies::{record, state},
};

on_every_store! {
    without memory, with a cluster:
    s37_killed_at_every_point_of_three_steps,
    s37_killed_at_every_point_of_three_steps_and_an_error,
    s39_killed_at_every_point_of_a_run_and_its_question,
    s39_killed_at_every_point_of_an_error_and_after_it,
    s39_one_process_asks_at_a_time,
}

/// The processes that run at once.
const AT_ONCE: usize = 4;

/// The point of a first run before its first effect is finished: the claim has three, and then the body writes its second line.
const IN_THE_BODY: u32 = 5;

/// Longer than the lease and, after that, than the time after which "not done" is believed.
const SETTLED: Duration = LEASE.saturating_mul(2).saturating_add(Duration::from_secs(1));

/// A process of the program `doomed_worker`, which waits for [`go`](Self::go).
struct Worker(Process);

impl Worker {
    async fn start(plan: &Plan) -> Self {
        let plan = serde_json::to_string(plan).expect("JSON");
        let mut process = Process::talk(Command::new(env!("CARGO_BIN_EXE_doomed_worker")).arg(plan));
        assert_eq!(process.line().await.as_deref(), Some("ready"));
        Self(process)
    }

    /// Has it make its calls, and waits for its answers; `None` if it has died.
    async fn go(mut self) -> Option<Report> {
        self.0.say("go");
        let report = self.0.line().await;
        assert_eq!(self.0.wait().await.success(), report.is_some(), "it died without dying");
        report.map(|report| serde_json::from_str(&report).expect("a report"))
    }
}

/// A key, and the points at which the first two processes die that call it.
#[derive(Clone, Debug)]
struct Cell {
    deaths: [Option<u32>; 2],
    key: String,
    ledger: PathBuf,
}

impl Cell {
    fn new(deaths: [Option<u32>; 2], folder: &Path) -> Self {
        let [first, second] = deaths.map(|point| point.unwrap_or_default());
        let key = format!("k-{first}-{second}");
        Self { deaths, ledger: folder.join(&key), key }
    }

    fn death(&self, process: u32) -> Option<u32> {
        self.deaths.get(process as usize - 1).copied().flatten()
    }

    fn lines(&self) -> Vec<Line> {
        read(&self.ledger).expect("a ledger")
    }
}

/// A test: a function, called at a store, with a ledger for each key.
struct Trial {
    backend: Backend,
    function: Function,
    /// True if the function ends in an error in the first process.
    fails: bool,
    folder: TempDir,
}

impl Trial {
    fn new(backend: Backend, function: Function, fails: bool) -> Self {
        Self { backend, function, fails, folder: tempfile::tempdir().expect("a folder") }
    }

    fn plan(&self, cell: &Cell, process: u32, death: Option<Death>) -> Plan {
        Plan {
            url: self.backend.url(),
            ledger: cell.ledger.clone(),
            process,
            function: self.function,
            key: cell.key.clone(),
            callers: 1,
            fails: self.fails && process == 1,
            unknown: 0,
            death,
        }
    }

    /// A cell for each point of a run that nothing disturbs, where both processes die at this point. Then one for each point of
    /// the second process alone, after the first has died in its body or, where it fails, ended.
    async fn cells(&self) -> Vec<Cell> {
        let cell = |first, second| Cell::new([first, second], self.folder.path());
        let report = Worker::start(&self.plan(&cell(None, None), 1, None)).await.go().await.expect("it lives");
        assert!(report.points > 6, "{report:?}");
        let first = (!self.fails).then_some(IN_THE_BODY);
        let both = (1..=report.points).map(|point| cell(Some(point), Some(point)));
        // A second run may have more points than the first: it asks, or reads the steps.
        let second =
            (1..=report.points + 4).filter(|point| Some(*point) != first).map(|point| cell(first, Some(point)));
        both.chain(second).collect()
    }

    /// Has a process call each key, and tells what came of it.
    async fn call(&self, cells: &[Cell], process: u32) -> Vec<(Cell, Option<Report>)> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut calls = JoinSet::new();
        for cell in cells.iter().cloned() {
            let plan = self.plan(&cell, process, cell.death(process).map(Death::At));
            let places = Arc::clone(&places);
            calls.spawn(async move {
                let _place = places.acquire().await.expect("an open semaphore");
                (cell, Worker::start(&plan).await.go().await)
            });
        }
        calls.join_all().await
    }

    /// Two processes die at each point, a third one ends the run, and a fourth gets its result. Returns the ledgers, with that
    /// result.
    async fn run(&self) -> Vec<(Cell, Vec<u32>)> {
        let cells = self.cells().await;
        let observer = self.backend.store().await;
        for process in 1..=2 {
            for (cell, report) in self.call(&cells, process).await {
                let lines = cell.lines();
                let died = lines.iter().any(|line| line.process == process && line.what.starts_with("died"));
                assert_eq!(died, report.is_none(), "{cell:?}: {lines:#?}");
                assert!(died || process > 1 || cell.death(1).is_none(), "{cell:?}: no such point");
                let key = record_key(operation(self.function), &cell.key);
                let left = record(&*observer, &key).await;
                // What has begun is on record, and whatever is in doubt looks so.
                if lines.iter().any(|line| line.what.starts_with("begun")) {
                    let left = left.expect("what has begun is not released");
                    let ended = |process| ended_in(&lines, process, "suspend") || ended_in(&lines, process, "release");
                    let as_it_is = match left.state {
                        State::Running { .. } | State::Done(_) => true,
                        State::Lapsed => process == 2,
                        State::Failed => (1..=process).any(ended),
                        _ => false,
                    };
                    assert!(as_it_is, "{cell:?}: {left:?} after {lines:#?}");
                }
            }
            self.backend.advance(SETTLED).await;
        }
        let mut ended = Vec::new();
        for (cell, report) in self.call(&cells, 3).await {
            let lines = cell.lines();
            let report = report.unwrap_or_else(|| panic!("{cell:?}: {lines:#?}"));
            let [Ok(value)] = &report.answers[..] else { panic!("{cell:?}: {report:?} after {lines:#?}") };
            ended.push((cell, value.clone()));
        }
        for (cell, report) in self.call(&cells, 4).await {
            let value = ended.iter().find(|(ended, _)| ended.key == cell.key).map(|(_, value)| Ok(value.clone()));
            assert_eq!(report.map(|report| report.answers), value.map(|value| vec![value]), "{cell:?}");
            let lines = cell.lines();
            let did: Vec<_> = lines.iter().filter(|line| line.process == 4).map(|line| &line.what).collect();
            assert_eq!(did, ["answered claim"], "a repeat does nothing");
        }
        ended
    }
}

fn has(lines: &[Line], process: u32, start: &str) -> bool {
    lines.iter().any(|line| line.process == process && line.what.starts_with(start))
}

/// A process has asked the store for this, and may have been heard.
fn ended_in(lines: &[Line], process: u32, end: &str) -> bool {
    ["answered", "died during", "died after"].iter().any(|how| has(lines, process, &format!("{how} {end}")))
}

const STEPS: [&str; 3] = ["charge", "ship", "mail"];

async fn three_steps(backend: Backend, fails: bool) {
    for (cell, values) in Trial::new(backend, Function::Steps, fails).run().await {
        let lines = cell.lines();
        for (name, value) in STEPS.into_iter().zip(values) {
            let seen = format!("{cell:?}: {name} in {lines:#?}");
            let all = |what: &str| -> Vec<(usize, u32)> {
                let found = lines.iter().enumerate().filter(|(_, line)| line.what == what);
                found.map(|(at, line)| (at, line.process)).collect()
            };
            let (begun, finished) = (all(&format!("begun {name}")), all(&format!("finished {name}")));
            let answered = all(&format!("answered append {name}"));
            let (at, last) = *finished.last().expect("it was finished");
            // It runs again only where its value had not been acknowledged, and its value is that of the run that counts.
            assert_eq!(value, last, "{seen}");
            assert!(answered.iter().all(|(at, _)| begun.iter().all(|(begun, _)| begun < at)), "{seen}");
            for (before, process) in finished.iter().filter(|(before, _)| *before < at) {
                assert!(has(&lines, *process, "died") && !answered.iter().any(|(_, by)| by == process), "{seen}");
                assert!(lines[*before..].iter().any(|line| line.what == format!("begun {name}")), "{seen}");
            }
            assert!(finished.len() <= 3, "once a process: {seen}");
        }
    }
}

async fn s37_killed_at_every_point_of_three_steps(backend: Backend) {
    three_steps(backend, false).await;
}

async fn s37_killed_at_every_point_of_three_steps_and_an_error(backend: Backend) {
    three_steps(backend, true).await;
}

async fn questions(backend: Backend, fails: bool) {
    for (cell, values) in Trial::new(backend, Function::Reconcile, fails).run().await {
        let lines = cell.lines();
        let seen = format!("{cell:?}: {lines:#?}");
        let charges: Vec<u32> = lines.iter().filter(|l| l.what == "finished charge").map(|l| l.process).collect();
        assert_eq!(charges, values, "charged once, and answered by that: {seen}");
        for process in 1..=3 {
            let before = (1..process).rev().find(|&before| {
                has(&lines, before, "claimed") || ended_in(&lines, before, "claim") && has(&lines, before, "died")
            });
            let says_err = before.is_some_and(|before| has(&lines, before, "answered suspend Failed"));
            let vanished = before.is_some_and(|before| {
                has(&lines, before, "claimed")
                    && has(&lines, before, "died")
                    && !["suspend", "complete"].iter().any(|end| ended_in(&lines, before, end))
            });
            if has(&lines, process, "asked") {
                assert!(before.is_some() && !says_err, "{process} asked without need: {seen}");
            }
            if has(&lines, process, "body") && vanished {
                assert!(has(&lines, process, "said not done"), "{process} ran without asking: {seen}");
            }
        }
    }
}

async fn s39_killed_at_every_point_of_a_run_and_its_question(backend: Backend) {
    questions(backend, false).await;
}

async fn s39_killed_at_every_point_of_an_error_and_after_it(backend: Backend) {
    questions(backend, true).await;
}

/// Of 51 callers in three processes. One of the processes dies while it asks; the others go on once its lease is over.
async fn s39_one_process_asks_at_a_time(backend: Backend) {
    let trial = Trial::new(backend, Function::Reconcile, false);
    let cell = Cell::new([None, None], trial.folder.path());
    let vanishes = trial.plan(&cell, 1, Some(Death::Before("finished charge".to_owned())));
    assert!(Worker::start(&vanishes).await.go().await.is_none(), "it dies in its body");
    trial.backend.advance(SETTLED).await;

    let mut calls = JoinSet::new();
    for process in 2..=4 {
        let dies = (process == 2).then(|| Death::Before("said".to_owned()));
        let plan = Plan { callers: 17, unknown: 20, ..trial.plan(&cell, process, dies) };
        let worker = Worker::start(&plan).await;
        calls.spawn(async move { (process, worker.go().await) });
    }
    wait_for("a death in the question", async || has(&cell.lines(), 2, "died")).await;
    // Nobody asks before its lease is over.
    let key = record_key(operation(Function::Reconcile), &cell.key);
    let observer = trial.backend.store().await;
    assert!(matches!(state(&*observer, &key).await, Some(State::Running { .. })), "{:#?}", cell.lines());
    trial.backend.advance(SETTLED).await;
    for (process, report) in calls.join_all().await {
        assert_eq!(report.is_none(), process == 2, "{process}");
        for answer in report.iter().flat_map(|report| &report.answers) {
            assert!(matches!(answer.as_deref(), Ok([3 | 4])), "{answer:?}");
        }
    }

    let lines = cell.lines();
    let mut asking = None;
    for line in &lines {
        match &*line.what {
            "asked" => assert_eq!(asking.replace(line.process), None, "two ask at a time: {lines:#?}"),
            what if what.starts_with("said") || what.starts_with("died before said") => {
                assert_eq!(asking.take(), Some(line.process), "{lines:#?}");
            }
            _ => {}
        }
    }
    let count = |what: &str| lines.iter().filter(|line| line.what == what).count();
    assert!(count("said unknown") >= 20, "{lines:#?}");
    assert_eq!((count("said not done"), count("finished charge")), (1, 1), "{lines:#?}");
}
