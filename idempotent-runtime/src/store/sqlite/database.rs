//! Runs statements on one file: each in its turn, and again while the file is locked.

use std::{
    cmp::Ordering,
    sync::{Arc, Weak},
    time::Duration,
};

use rand::RngExt as _;
use sqlx::{
    Connection as _, Execute as _, Row as _, SqlStr, Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use tokio::{
    sync::{Mutex, OnceCell, Semaphore},
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};

use super::{
    fault::{is_busy, store_error},
    file::OpenedFile,
    inputs::signed,
    listener::Listener,
    statements::{STEPS, Statements, TableName},
};
use crate::store::{
    ClaimOutcome, StoreError,
    StoreErrorKind::{Refused, Unavailable},
    StoreResult,
    batcher::{Answers, Batcher, Limits, Request, Turn},
    sql::{connections::Connections, sweep::Sweep},
};

/// The most rows that are removed at once: a writer is not to keep others waiting.
const PURGE_BATCH_LEN: usize = 250;

/// SQLite's number for `synchronous=FULL`; `EXTRA` is above.
const SYNCHRONOUS_FULL: i64 = 2;

/// The bounds of the longest pause before another process's lock is tried again. It doubles from the first to the second.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 1..=16;

/// A statement with its inputs.
pub(super) type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

/// A statement with its inputs, which can be run again.
#[derive(Clone)]
struct Statement {
    sql: SqlStr,
    inputs: SqliteArguments,
}

impl Statement {
    fn of(mut query: Bound<'_>) -> StoreResult<Self> {
        let inputs = query.take_arguments();
        let inputs = inputs.map_err(|_| StoreError::new(Refused, "SQLite does not take what was bound"))?;
        Ok(Self { sql: query.sql(), inputs: inputs.unwrap_or_default() })
    }

    fn query(&self) -> Bound<'static> {
        sqlx::query_with(self.sql.clone(), self.inputs.clone())
    }
}

/// A statement that writes, and the time until which it waits for other writers.
#[derive(Clone)]
pub(super) struct Pending {
    statement: Statement,
    deadline: Instant,
    weight: usize,
}

/// Any of them can share a transaction: if one fails, so does it, and each is run alone.
impl Request for Pending {
    type Answer = Vec<SqliteRow>;
    type Store = Database;

    fn fits(&self, _: &Self) -> bool {
        true
    }

    fn weight(&self) -> usize {
        self.weight
    }

    async fn send(database: Arc<Database>, batch: Vec<Self>) -> Answers<Self> {
        let Some(deadline) = batch.iter().map(|pending| pending.deadline).min() else { return Vec::new() };
        let statements = batch.into_iter().map(|pending| pending.statement).collect();
        let answers = database.write_in_turn(statements, deadline).await.unwrap_or_default();
        answers.into_iter().map(Some).collect()
    }
}

/// The most statements in a transaction, and the most bytes of several. Hits are answered meanwhile; other writers wait.
const LONGEST_BATCH: usize = 64;
const HEAVIEST_BATCH: usize = 4 << 20;

/// Runs a step on a task of its own, and aborts the task if the caller drops this future.
///
/// A step holds what others wait for: the turn to write, a connection. On the caller's task it would keep them for as
/// long as the caller is not polled, and callers may wait for one another.
async fn on_task<T: Send + 'static>(step: impl Future<Output = StoreResult<T>> + Send + 'static) -> StoreResult<T> {
    let mut task = AbortOnDrop(tokio::spawn(step));
    match (&mut task.0).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::new(Unavailable, "the runtime is shutting down")),
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) struct Database {
    readers: Connections<Sqlite>,
    /// One connection, unless the caller's pool lends them: its cache stays valid as long as nobody else writes.
    writer: Connections<Sqlite>,
    pub(super) table: TableName,
    pub(super) statements: Statements,
    /// The longest wait for other writers.
    patience: Duration,
    /// The turn to write. SQLite has one writer at a time: the writers of this process queue here, in the order in which
    /// they came, instead of all trying for the lock.
    turn: Semaphore,
    /// The turn of a run with a transaction of its own, which keeps the file's lock to its end.
    pub(super) runs: Arc<Mutex<()>>,
    /// Claims that travel together, and ends of runs that do: never both, since claims may find the disk full.
    pub(super) claims: Arc<Batcher<Pending>>,
    pub(super) ends: Arc<Batcher<Pending>>,
    pub(super) listener: Arc<Listener>,
    file: OnceCell<OpenedFile>,
    sweep: Sweep,
    /// For sweeps, which end with the store.
    this: Weak<Database>,
}

impl Database {
    pub(super) fn new(
        [writer, readers]: [Connections<Sqlite>; 2],
        table: TableName,
        patience: Duration,
        sweep_interval: Duration,
    ) -> Arc<Self> {
        let statements = Statements::new(&table);
        let (turn, file, sweep) = (Semaphore::new(1), OnceCell::new(), Sweep::every(sweep_interval));
        let (runs, listener) = (Arc::default(), Listener::new());
        let limits = || Limits { lanes: 1, requests: LONGEST_BATCH, weight: HEAVIEST_BATCH, patience };
        Arc::new_cyclic(|this| Self {
            claims: Batcher::new(limits(), this),
            ends: Batcher::new(limits(), this),
            readers,
            writer,
            table,
            statements,
            patience,
            turn,
            runs,
            listener,
            file,
            sweep,
            this: Weak::clone(this),
        })
    }

    /// Removes up to this many expired rows, and says how many.
    pub(super) async fn purge(self: &Arc<Self>, limit: usize) -> StoreResult<usize> {
        let mut removed = 0;
        while removed < limit {
            let batch = (limit - removed).min(PURGE_BATCH_LEN);
            let query = sqlx::query(self.statements.purge.clone());
            let rows = self.write(query.bind(signed(batch))).await?;
            removed += rows.len();
            if rows.len() < batch {
                break;
            }
        }
        Ok(removed)
    }

    /// Starts a sweep if one is due after this answer to a claim.
    pub(super) fn pass(&self, answer: &StoreResult<ClaimOutcome>) {
        self.sweep.passing(answer, || {
            let this = Weak::clone(&self.this);
            move || {
                let database = this.upgrade();
                Box::pin(async move {
                    let Some(database) = database else { return Ok(false) };
                    Ok(database.purge(PURGE_BATCH_LEN).await? == PURGE_BATCH_LEN)
                })
            }
        });
    }

    /// Runs a statement that does not write, and returns its rows.
    pub(super) async fn read(self: &Arc<Self>, query: Bound<'_>) -> StoreResult<Vec<SqliteRow>> {
        let (database, statement) = (Arc::clone(self), Statement::of(query)?);
        on_task(async move {
            database.opened().await?.check()?;
            Self::run_one(&database.readers, statement, Tries::new(database.patience)).await
        })
        .await
    }

    /// Runs a statement that writes, and returns its rows. By then the change is on the disk.
    pub(super) async fn write(self: &Arc<Self>, query: Bound<'_>) -> StoreResult<Vec<SqliteRow>> {
        Ok(self.write_all(vec![query]).await?.pop().unwrap_or_default())
    }

    /// Runs a statement that writes as [`write`](Self::write) does, in a transaction with those that are pending, too.
    pub(super) async fn write_with_others(
        self: &Arc<Self>,
        others: &Arc<Batcher<Pending>>,
        query: Bound<'_>,
        weight: usize,
    ) -> StoreResult<Vec<SqliteRow>> {
        let deadline = Instant::now() + self.patience;
        let pending = Pending { statement: Statement::of(query)?, deadline, weight };
        let lane = match others.turn(deadline, || pending.clone()).await {
            Turn::Answered(rows) => return Ok(rows),
            Turn::Alone(lane) => lane,
            Turn::Late => return Err(TOO_MANY),
        };
        let database = Arc::clone(self);
        let rows = on_task(async move {
            let _lane = lane;
            database.write_in_turn(vec![pending.statement], pending.deadline).await
        });
        Ok(rows.await?.pop().unwrap_or_default())
    }

    /// Runs a statement that writes as [`write`](Self::write) does, unless another writer is before it: then nothing is done.
    pub(super) async fn write_at_once(self: &Arc<Self>, query: Bound<'_>) -> StoreResult<Option<Vec<SqliteRow>>> {
        let (database, statement) = (Arc::clone(self), Statement::of(query)?);
        on_task(async move {
            let file = database.opened().await?;
            let Ok(_turn) = database.turn.try_acquire() else { return Ok(None) };
            file.check()?;
            match Self::try_run(&database.writer, &[statement]).await {
                Err(error) if is_busy(&error) => Ok(None),
                answer => Ok(Some(answer.map_err(|error| store_error(&error))?.pop().unwrap_or_default())),
            }
        })
        .await
    }

    /// Waits until the file's lock is free. Until the time that it returns, owners with this lease may need to renew: they have
    /// waited for the lock, too, or pause before they ask again.
    pub(super) async fn lock_was_free(self: &Arc<Self>, lease: Duration) -> StoreResult<Instant> {
        self.write_all(Vec::new()).await?;
        Ok(Instant::now() + (lease / 6).min(self.patience) + 2 * Duration::from_millis(*PAUSE_MS.end()))
    }

    /// Runs statements that write, in one transaction, and returns the rows of each.
    pub(super) async fn write_all(self: &Arc<Self>, queries: Vec<Bound<'_>>) -> StoreResult<Vec<Vec<SqliteRow>>> {
        let database = Arc::clone(self);
        let statements = queries.into_iter().map(Statement::of).collect::<StoreResult<Vec<_>>>()?;
        let deadline = Instant::now() + self.patience;
        on_task(async move { database.write_in_turn(statements, deadline).await }).await
    }

    async fn write_in_turn(&self, statements: Vec<Statement>, deadline: Instant) -> StoreResult<Vec<Vec<SqliteRow>>> {
        let file = self.opened().await?;
        let tries = Tries::until(deadline);
        let Ok(Ok(_turn)) = timeout_at(deadline, self.turn.acquire()).await else {
            return Err(TOO_MANY);
        };
        file.check()?;
        Self::run(&self.writer, statements, tries).await
    }

    /// Runs a statement until the file is not busy.
    async fn run_one(
        connections: &Connections<Sqlite>,
        statement: Statement,
        tries: Tries,
    ) -> StoreResult<Vec<SqliteRow>> {
        Ok(Self::run(connections, vec![statement], tries).await?.pop().unwrap_or_default())
    }

    /// Runs statements until the file is not busy. It always fetches all rows: a statement that writes commits with its
    /// last step, so if one row alone were fetched, its change might never be committed.
    async fn run(
        connections: &Connections<Sqlite>,
        statements: Vec<Statement>,
        mut tries: Tries,
    ) -> StoreResult<Vec<Vec<SqliteRow>>> {
        loop {
            match Self::try_run(connections, &statements).await {
                Err(error) if is_busy(&error) && tries.another().await => {}
                answer => return answer.map_err(|error| store_error(&error)),
            }
        }
    }

    async fn try_run(connections: &Connections<Sqlite>, statements: &[Statement]) -> sqlx::Result<Vec<Vec<SqliteRow>>> {
        let mut lent = connections.take().await?;
        let answer = match statements {
            [one] => one.query().fetch_all(&mut *lent).await.map(|rows| vec![rows]),
            several => transaction(&mut lent, several).await,
        };
        // A transaction that SQLite has rolled back by itself, as on a full disk, sqlx takes to be still open.
        let is_sound = match &answer {
            Ok(_) => true,
            Err(error @ sqlx::Error::Database(_)) => statements.len() == 1 || is_busy(error),
            Err(_) => false,
        };
        if is_sound {
            lent.give_back();
        }
        answer
    }

    /// The file, once its schema and its settings have been found to be fit for the promises.
    async fn opened(&self) -> StoreResult<&OpenedFile> {
        self.file.get_or_try_init(|| self.check()).await
    }

    async fn check(&self) -> StoreResult<OpenedFile> {
        let file = OpenedFile::new(self.writer.opener().options().get_filename().to_owned());
        let statement = Statement::of(sqlx::query(self.statements.check.clone()))?;
        let rows = Self::run_one(&self.writer, statement, Tries::new(self.patience)).await?;
        let row = rows.first().ok_or(StoreError::new(Refused, "SQLite does not tell its settings"))?;
        let settings =
            || -> sqlx::Result<(Option<i64>, String, i64)> { Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)) };
        let (version, journal, synchronous) = settings().map_err(|error| store_error(&error))?;
        check_version(version.ok_or(NO_SCHEMA)?)?;
        if journal != "wal" {
            return Err(StoreError::new(Refused, "the SQLite file's journal_mode is not WAL"));
        }
        if synchronous < SYNCHRONOUS_FULL {
            return Err(StoreError::new(Refused, "SQLite's synchronous is below FULL: a power cut would lose records"));
        }
        // A file that was replaced meanwhile is not the one that was checked.
        file.check()?;
        Ok(file)
    }

    /// Brings the schema up to date, and then checks it. Processes that do so at the same time wait for each other.
    pub(super) async fn migrate(&self) -> StoreResult<()> {
        let mut tries = Tries::new(self.patience);
        loop {
            match self.try_migrate().await {
                Err(error) if is_busy(&error) && tries.another().await => {}
                answer => break answer.map_err(|error| store_error(&error))?,
            }
        }
        self.opened().await.map(drop)
    }

    /// Takes the missing steps in one transaction. Leaves a schema alone that is newer than this release.
    async fn try_migrate(&self) -> sqlx::Result<()> {
        // Takes the write lock from the start, so that no other process takes a step that was found missing.
        let mut lent = self.writer.take().await?;
        let mut transaction = lent.begin_with("BEGIN IMMEDIATE").await?;
        let exists = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")
            .bind(format!("{}_schema", self.table.as_str()))
            .fetch_all(&mut *transaction)
            .await?;
        let version: i64 = if exists.is_empty() {
            0
        } else {
            let version = self.table.fill("SELECT version FROM {table}_schema");
            sqlx::query_scalar(version).fetch_one(&mut *transaction).await?
        };
        let missing = STEPS.iter().skip(usize::try_from(version).unwrap_or(STEPS.len()));
        if missing.len() > 0 {
            for step in missing {
                sqlx::raw_sql(self.table.fill(step)).execute(&mut *transaction).await?;
            }
            let done = self.table.fill("UPDATE {table}_schema SET version = ?1");
            sqlx::query(done).bind(newest()).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        lent.give_back();
        Ok(())
    }
}

/// Runs statements in a transaction that has the write lock from its start.
async fn transaction(connection: &mut SqliteConnection, statements: &[Statement]) -> sqlx::Result<Vec<Vec<SqliteRow>>> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut answers = Vec::new();
    for statement in statements {
        answers.push(statement.query().fetch_all(&mut *transaction).await?);
    }
    transaction.commit().await?;
    Ok(answers)
}

const TOO_MANY: StoreError = StoreError::new(Unavailable, "too many writers are waiting for the SQLite file");

const NO_SCHEMA: StoreError = StoreError::new(Refused, "the SQLite file has no schema: run `migrate`");

/// The version that this release writes and reads.
fn newest() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

fn check_version(version: i64) -> StoreResult<()> {
    match version.cmp(&newest()) {
        Ordering::Less => {
            Err(StoreError::new(Refused, "the schema in the SQLite file is of an older release: run `migrate`"))
        }
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(StoreError::new(Refused, "the schema in the SQLite file is of a newer release")),
    }
}

/// The pauses between tries of a busy file. SQLite's own handler would block the connection's thread, for up to 100 ms
/// a time.
pub(super) struct Tries {
    deadline: Instant,
    longest_ms: u64,
}

impl Tries {
    fn new(patience: Duration) -> Self {
        Self::until(Instant::now() + patience)
    }

    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, longest_ms: *PAUSE_MS.start() }
    }

    /// Pauses at random, so that processes do not keep step; `false` when the time is up.
    pub(super) async fn another(&mut self) -> bool {
        let pause = Duration::from_micros(rand::rng().random_range(500..=self.longest_ms * 1000));
        if Instant::now() + pause >= self.deadline {
            return false;
        }
        self.longest_ms = (self.longest_ms * 2).min(*PAUSE_MS.end());
        sleep(pause).await;
        true
    }
}
