//! A process that dies at a point of its choice, and what it writes down until then.
//!
//! Each call of the store has three points: before it is sent, while it is under way, and after its answer. Each line that a
//! body writes has one, before it is written. The ledger is a file that all processes append to: what is in it has happened,
//! whatever the store knows of it.
#![expect(clippy::expect_used, reason = "a test fails so")]

use std::{
    fs::{self, OpenOptions},
    future::{Future, poll_fn},
    io::Write as _,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use idempotent_runtime::store::{
    Appended, ClaimOutcome, ClaimRequest, Cursor, DeadLetter, DeadLetters, Finished, Outcome, Page, Record, RecordKey,
    Replay, ResolveRequest, Resolved, Step, Store, StoreResult, Subscription, Suspension, Token, Transition, Why,
    immediate::Immediate,
    transactional::{Connection, Transactional, Turn},
};
use serde::{Deserialize, Serialize};

/// The plan of a doomed worker, as JSON in its only argument.
///
/// It connects, writes `ready`, waits for a line on its standard input, makes its calls at once, and writes a [`Report`] in
/// one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The URL of the store.
    pub url: String,
    /// The ledger.
    pub ledger: PathBuf,
    /// Its name in the ledger.
    pub process: u32,
    /// The function that it calls.
    pub function: Function,
    /// The key of its calls.
    pub key: String,
    /// The number of calls.
    pub callers: u32,
    /// True if the function ends in an error.
    pub fails: bool,
    /// The number of questions, of all processes, that are answered with "unknown" first; if there are any, also all others
    /// until a process has died while it asked.
    pub unknown: usize,
    /// The point at which it dies; `None` if it lives.
    pub death: Option<Death>,
}

/// A function of the worker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Function {
    /// The step `charge`, and then the steps `ship` and `mail` at the same time.
    Steps,
    /// The effect `charge`; whether it happened is looked up in the ledger.
    Reconcile,
    /// None: it has the dead letter of the inbox [`GROUP`] and its key replayed, and works it off until it is gone. The handler
    /// writes a row into the table `effects`.
    Replay,
}

/// The consumer group of the workers.
pub const GROUP: &str = "doomed";

/// The point at which a process dies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Death {
    /// The point with this number, from 1 on.
    At(u32),
    /// Before it writes the first line that begins with this.
    Before(String),
}

/// The results of a worker that lived.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// One for each call: the value, or the code of the error.
    pub answers: Vec<Result<Vec<u32>, String>>,
    /// The number of its points.
    pub points: u32,
}

/// The operation of a function.
#[must_use]
pub const fn operation(function: Function) -> &'static str {
    match function {
        Function::Steps => "doomed.steps",
        Function::Reconcile => "doomed.reconcile",
        Function::Replay => GROUP,
    }
}

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The process that wrote it.
    pub process: u32,
    /// What happened.
    pub what: String,
}

/// Reads a ledger: its whole lines, in the order in which they were written.
///
/// # Errors
///
/// Where it cannot be read, or has a line that is none of ours.
pub fn read(ledger: &PathBuf) -> std::io::Result<Vec<Line>> {
    let text = match fs::read_to_string(ledger) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    text.lines()
        .map(|line| {
            let (process, what) = line.split_once(' ').ok_or(std::io::ErrorKind::InvalidData)?;
            let process = process.parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
            Ok(Line { process, what: what.to_owned() })
        })
        .collect()
}

/// A process's death, and its pen. Cloning shares both.
#[derive(Clone, Debug)]
pub struct Doom {
    plan: Arc<Plan>,
    points: Arc<AtomicU32>,
}

impl Doom {
    /// The doom of the process with this plan.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self { plan: Arc::new(plan), points: Arc::default() }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The number of points that were reached.
    #[must_use]
    pub fn points(&self) -> u32 {
        self.points.load(SeqCst)
    }

    /// Writes a line, unless the process dies before.
    ///
    /// # Errors
    ///
    /// Where the ledger cannot be written.
    pub fn write(&self, what: &str) -> std::io::Result<()> {
        let dies = match &self.plan.death {
            Some(Death::Before(start)) => what.starts_with(start.as_str()),
            Some(Death::At(_)) | None => false,
        };
        if self.is_reached() || dies {
            self.die(&format!("before {what}"));
        }
        self.append(what)
    }

    /// Counts a point, and says whether the process dies at it.
    fn is_reached(&self) -> bool {
        let point = self.points.fetch_add(1, SeqCst) + 1;
        self.plan.death == Some(Death::At(point))
    }

    /// In one call, so that the lines of two processes do not mix.
    fn append(&self, what: &str) -> std::io::Result<()> {
        let line = format!("{} {what}\n", self.plan.process);
        OpenOptions::new().append(true).create(true).open(&self.plan.ledger)?.write_all(line.as_bytes())
    }

    /// Ends the process as a crash does: no destructor runs, and nothing is sent.
    fn die(&self, r#where: &str) -> ! {
        let _ = self.append(&format!("died {where}"));
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort()
    }

    async fn call<T>(&self, what: &str, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        if self.is_reached() {
            self.die(&format!("before {what}"));
        }
        let mut call = pin!(call);
        if self.is_reached() {
            poll_fn(|cx| {
                let _ = call.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
            // The request goes out meanwhile, and may or may not be applied.
            std::thread::sleep(Duration::from_micros(300));
            self.die(&format!("during {what}"));
        }
        let answer = call.await;
        // No point of its own: the answer is what the next point has behind it.
        let _ = self.append(&format!("{} {what}", if answer.is_ok() { "answered" } else { "unanswered" }));
        if self.is_reached() {
            self.die(&format!("after {what}"));
        }
        answer
    }
}

/// A store whose process dies at one of its calls.
#[derive(Debug)]
pub struct DoomedStore {
    store: Arc<dyn Store>,
    doom: Doom,
}

impl DoomedStore {
    /// A store with this doom.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, doom: Doom) -> Self {
        Self { store, doom }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for DoomedStore {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        let claim = async {
            let answer = self.store.claim(key, request).await;
            if let Ok(ClaimOutcome::Claimed { attempt, .. }) = &answer {
                let _ = self.doom.append(&format!("claimed {attempt}"));
            }
            answer
        };
        self.doom.call("claim", claim).await
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        self.doom.call("renew", self.store.renew(key, token, lease, ttl)).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        self.doom.call("complete", self.store.complete(key, token, outcome, ttl)).await
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        self.doom.call("release", self.store.release(key, token, keep)).await
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        let what = format!("suspend {why:?}");
        self.doom.call(&what, self.store.suspend(key, token, why, not_before, keep)).await
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        let what = format!("append {}", step.name);
        self.doom.call(&what, self.store.append(key, token, step, lease, ttl)).await
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        self.doom.call("steps", self.store.steps(key, token)).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        self.doom.call("fence", self.store.fence(key, token)).await
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        self.doom.call("forget", self.store.forget(key)).await
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        self.doom.call("resolve", self.store.resolve(key, request)).await
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.doom.call("inspect", self.store.inspect(key)).await
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.store.list(operation, after, limit).await
    }

    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        self.store.purge_expired(limit).await
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        self.store.subscribe(key).await
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        self.store.dead_letters().map(|_| self as &dyn DeadLetters)
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        self.store.transactional().map(|_| self as &dyn Transactional)
    }

    fn immediate(&self) -> Option<&dyn Immediate> {
        None
    }

    fn peek(&self, key: &RecordKey) -> Option<Finished> {
        self.store.peek(key)
    }

    fn at_hand(&self, key: &RecordKey) -> Option<Finished> {
        self.peek(key)
    }
}

impl DoomedStore {
    fn letters_inside(&self) -> &dyn DeadLetters {
        self.store.dead_letters().expect("a store that keeps dead letters goes on keeping them")
    }

    fn inside(&self) -> &dyn Transactional {
        self.store.transactional().expect("a store with transactions goes on having them")
    }
}

/// Steps that only look have no points: they change nothing, and nobody knows how often a consumer looks.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl DeadLetters for DoomedStore {
    async fn bury(
        &self,
        key: &RecordKey,
        token: &Token,
        letter: &DeadLetter,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        self.doom.call("bury", self.letters_inside().bury(key, token, letter, ttl)).await
    }

    async fn put(&self, letter: &DeadLetter) -> StoreResult<()> {
        self.doom.call("put", self.letters_inside().put(letter)).await
    }

    async fn operations(&self, after: &str, limit: usize) -> StoreResult<Vec<String>> {
        self.letters_inside().operations(after, limit).await
    }

    async fn letters(&self, operation: &str, after: i64, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        self.letters_inside().letters(operation, after, limit).await
    }

    async fn replaying(&self, operation: &str, after: i64, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        self.letters_inside().replaying(operation, after, limit).await
    }

    async fn replay(&self, operation: &str, id: i64) -> StoreResult<Replay> {
        self.doom.call("replay", self.letters_inside().replay(operation, id)).await
    }

    async fn worked_off(&self, operation: &str, id: i64) -> StoreResult<bool> {
        self.doom.call("worked_off", self.letters_inside().worked_off(operation, id)).await
    }

    async fn dead_again(&self, operation: &str, id: i64) -> StoreResult<()> {
        self.doom.call("dead_again", self.letters_inside().dead_again(operation, id)).await
    }

    async fn discard(&self, operation: &str, id: i64) -> StoreResult<bool> {
        self.doom.call("discard", self.letters_inside().discard(operation, id)).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transactional for DoomedStore {
    async fn savepoint(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        self.doom.call("savepoint", self.inside().savepoint(connection, name)).await
    }

    async fn claim(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        request: &ClaimRequest,
        wait: Duration,
    ) -> StoreResult<ClaimOutcome> {
        self.doom.call("claim inside", self.inside().claim(connection, key, request, wait)).await
    }

    async fn inspect(&self, connection: Connection<'_>, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.doom.call("inspect inside", self.inside().inspect(connection, key)).await
    }

    async fn complete(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<()> {
        self.doom.call("complete inside", self.inside().complete(connection, key, token, outcome, ttl)).await
    }

    async fn end(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
        idle: Duration,
    ) -> StoreResult<bool> {
        self.doom.call("end", self.inside().end(connection, key, token, outcome, ttl, idle)).await
    }

    async fn owns(&self, connection: Connection<'_>, key: &RecordKey, token: &Token) -> StoreResult<bool> {
        self.doom.call("owns", self.inside().owns(connection, key, token)).await
    }

    fn committed(&self, key: &RecordKey) {
        self.inside().committed(key);
    }

    fn is_exclusive(&self) -> bool {
        self.inside().is_exclusive()
    }

    async fn turn(&self) -> Turn {
        self.inside().turn().await
    }

    async fn undo(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        self.doom.call("undo", self.inside().undo(connection, name)).await
    }

    async fn keep(&self, connection: Connection<'_>, name: &str) -> StoreResult<()> {
        self.doom.call("keep", self.inside().keep(connection, name)).await
    }
}
