//! Operators and consumers that die at every point of a replay: before, during and after each call of the store, and before each
//! line that the handler writes. A second process dies at the same point, and a third one lives.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use idempotent_runtime::{
    Idempotency,
    consumer::{Inbox, Settled},
    store::{postgres::PostgresStore, sqlite::SqliteStore},
    testing::ScriptedBroker,
};
use idempotent_tests::{
    database::Database,
    doomed::{Death, Function, GROUP, Line, Plan, Report, read},
    on_each_database,
    process::Process,
};
use tempfile::TempDir;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::desk::{Failed, message};

on_each_database! {
    t13_killed_at_every_point_of_a_replay,
}

/// The processes that run at once. They mostly wait.
const AT_ONCE: usize = 6;
/// Longer than the lease of a worker.
const SETTLED: Duration = Duration::from_mins(1);

/// A dead letter of an inbox of its own, and the point at which the first two processes die that replay it.
#[derive(Clone)]
struct Cell {
    death: Option<u32>,
    key: String,
    ledger: PathBuf,
}

impl Cell {
    fn lines(&self) -> Vec<Line> {
        read(&self.ledger).unwrap()
    }

    fn has(&self, process: u32, start: &str) -> bool {
        self.lines().iter().any(|line| line.process == process && line.what.starts_with(start))
    }
}

struct Trial {
    database: Database,
    idempotency: Idempotency,
    folder: TempDir,
}

impl Trial {
    async fn new(database: Database) -> Self {
        let url = database.url();
        let idempotency = match database {
            Database::Postgres(_) => Idempotency::new(PostgresStore::connect(&url).await.unwrap()),
            Database::Sqlite(_) => Idempotency::new(SqliteStore::connect(&url).await.unwrap()),
        };
        let columns = "message TEXT NOT NULL, process BIGINT NOT NULL, attempt BIGINT NOT NULL";
        database.execute(&format!("CREATE TABLE effects ({columns})")).await;
        Self { database, idempotency, folder: tempfile::tempdir().unwrap() }
    }

    fn inbox(&self, cell: &Cell) -> Inbox<Failed> {
        let inbox = Inbox::builder(self.idempotency.clone(), GROUP, &cell.key).permanent(|_| true);
        inbox.build().unwrap()
    }

    /// A message that is given up.
    async fn cell(&self, death: Option<u32>) -> Cell {
        let key = format!("k-{}", death.unwrap_or_default());
        let cell = Cell { death, ledger: self.folder.path().join(&key), key };
        let settled = self.deliver(&cell, Err(Failed::Now)).await;
        assert!(matches!(settled, Settled::Dead(_)), "{settled:?}");
        cell
    }

    async fn deliver(&self, cell: &Cell, end: Result<(), Failed>) -> Settled {
        let broker = ScriptedBroker::new();
        broker.send(message("m"));
        self.inbox(cell).handle(broker.deliver().unwrap(), async |_, _| end).await
    }

    /// Has a process replay each letter, and tells what came of it.
    async fn replay(&self, cells: &[Cell], process: u32) -> Vec<(Cell, Option<Report>)> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut replays = JoinSet::new();
        for cell in cells.iter().cloned() {
            let plan = Plan {
                url: self.database.url(),
                ledger: cell.ledger.clone(),
                process,
                function: Function::Replay,
                key: cell.key.clone(),
                callers: 1,
                fails: false,
                unknown: 0,
                death: cell.death.filter(|_| process <= 2).map(Death::At),
            };
            let places = Arc::clone(&places);
            replays.spawn(async move {
                let _place = places.acquire().await.unwrap();
                let plan = serde_json::to_string(&plan).unwrap();
                let mut worker = Process::talk(Command::new(env!("CARGO_BIN_EXE_doomed_worker")).arg(plan));
                assert_eq!(worker.line().await.as_deref(), Some("ready"));
                worker.say("go");
                let report = worker.line().await;
                assert_eq!(worker.wait().await.success(), report.is_some(), "it died without dying");
                (cell, report.map(|report| serde_json::from_str(&report).unwrap()))
            });
        }
        replays.join_all().await
    }

    async fn effects(&self, cell: &Cell, and: &str) -> i64 {
        self.database.number(&format!("SELECT count(*) FROM effects WHERE message = '{}'{and}", cell.key)).await
    }
}

async fn t13_killed_at_every_point_of_a_replay(database: Database) {
    let trial = Trial::new(database).await;
    let undisturbed = trial.cell(None).await;
    let (_, report) = trial.replay(&[undisturbed], 1).await.pop().unwrap();
    let points = report.unwrap().points;
    assert!(points >= 14, "replay, claim, end and its letter's end have three each, and the handler has two: {points}");

    let mut cells = Vec::new();
    for point in 1..=points {
        cells.push(trial.cell(Some(point)).await);
    }
    for process in 1..=2 {
        for (cell, report) in trial.replay(&cells, process).await {
            // The second process may find less to do than the first, and live.
            let has_died = cell.has(process, "died");
            assert_eq!(has_died, report.is_none(), "{}: {:#?}", cell.key, cell.lines());
            assert!(has_died || process == 2, "{}: no such point", cell.key);
            let letters = trial.inbox(&cell).dead_letters(0, 10).await.unwrap();
            let effects = trial.effects(&cell, "").await;
            // It is a letter until it has settled. A consumer that committed may have died before the letter went.
            assert!(letters.len() == 1 && effects <= 1 || letters.is_empty() && effects == 1, "{:#?}", cell.lines());
        }
        trial.database.advance(SETTLED).await;
    }
    for (cell, report) in trial.replay(&cells, 3).await {
        let lines = cell.lines();
        assert!(report.is_some(), "{}: {lines:#?}", cell.key);
        assert_eq!(trial.effects(&cell, "").await, 1, "{}: {lines:#?}", cell.key);
        // A run counts once it is claimed, and no run before the replay does. A claim may be granted to a process that is dead.
        let count = |start: &str| lines.iter().filter(|line| line.what.starts_with(start)).count();
        let (granted, unheard) = (count("claimed"), count("died during claim"));
        let counted = format!(" AND attempt BETWEEN 1 AND {}", granted + unheard);
        assert_eq!(trial.effects(&cell, &counted).await, 1, "{}: {lines:#?}", cell.key);
        assert!(unheard > 0 || count("claimed 1") == 1, "{}: {lines:#?}", cell.key);
        assert_eq!(trial.inbox(&cell).dead_letters(0, 10).await.unwrap(), []);
        // The broker's late delivery.
        let settled = trial.deliver(&cell, Ok(())).await;
        assert!(matches!(settled, Settled::Duplicate), "{}: {settled:?}", cell.key);
    }
}
