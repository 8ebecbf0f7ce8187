//! Records in a SQLite file: shared by all processes of one machine, and durable.
//!
//! A record is a row of the table `idempotent_records`, with the result as the codec wrote it, and each of its
//! [steps](crate::step) a row of `idempotent_records_steps`, which a trigger removes with the record. The view
//! `idempotent_records_view` shows results, arguments and times as text, and states in the words of
//! [`State::as_str`](super::State::as_str): a `running` row whose lease is over is `lapsed`. Each transition is one
//! statement, or one short transaction, which takes the file's write lock before it reads: this makes it atomic. A hit is one
//! statement that only reads, and waits for no writer. A miss is a read and a write for the claim, and a write for the end
//! of the run.
//!
//! # What is promised, and what is not
//!
//! | an acknowledged record survives | it does not survive |
//! |---|---|
//! | a kill of any process, a crash of the machine, a power cut | the loss of the file or of the `-wal` file beside it, a disk that says that it has written what it has not |
//!
//! This rests on `journal_mode=WAL` and `synchronous=FULL` or above. [`connect`](SqliteStore::connect) sets them, and the
//! store refuses a pool of your own that does not ([`StoreErrorKind::Refused`]). It also rests on file locks, and WAL rests
//! on shared memory. Network file systems have neither, so keep the file on a disk of the machine. Copy it with
//! `VACUUM INTO` or SQLite's backup, not with `cp`, which misses the `-wal` file.
//!
//! Time is the machine's wall clock, in milliseconds, read by SQLite within the statement: all processes have the same.
//! When it jumps ahead, leases and results end early by as much: the body of a live run may run a second time beside it,
//! until its owner renews, and a result may be gone before its time to live is over. Have the machine's clock set before the
//! process starts, and slewed rather than stepped afterwards (as `chrony` and `systemd-timesyncd` do).
//!
//! When it goes back, nothing ends early, not even if it is right again a moment later. A result is kept for longer, by the
//! jump. A run or a pause ends as late as it would have: the next claim of its key writes down, in `behind_until`, when
//! that is by the clock that went back, and this counts for as long as the clock is behind the time in `completed_at`. Each row
//! has there the time at which it was written: of a running record, its last claim or renewal. So a killed run is free
//! after one lease, and a live one keeps its key. A claim in a transaction of the caller's writes no such time, and so
//! leaves that to the next claim outside. Fences are the greater of the last one plus one and that clock in µs, and a
//! removed record's fence is remembered, so that they rise whatever the clock does.
//!
//! A file that is deleted or replaced while it is open would take writes that nobody ever reads. The store notices this, and
//! refuses each of its own reads and writes until the process is restarted; a step in a transaction of the caller's is not
//! checked. With a full disk the store refuses new claims ([`StoreErrorKind::Full`]), still replays what is there, and may
//! refuse the ends of runs too: the engine retries those until their lease is near its end.
//!
//! # Processes and writers
//!
//! SQLite has one writer at a time. Within a process, writers queue in the order in which they came. Between processes,
//! a writer tries for the lock again after 0.5 to 16 ms, at random, for up to the
//! [busy timeout](SqliteStoreBuilder::busy_timeout), without blocking a thread. A writer holds the lock for about as
//! long as the disk takes to sync. Claims that are pending by then share the next transaction, up to 64 of them, and so do ends
//! of runs: each is decided for itself and answered after the commit, and if one fails, each is written alone. A single caller
//! waits for no company.
//!
//! # How long a transaction may be
//!
//! **Keep every write transaction on the file shorter than two thirds of the shortest lease that is used on it**: the caller's own, also
//! those of [`commit`](crate::Call::commit), of `transaction = tx`, and of other programs. While one is open, nobody can renew a
//! lease, which owners do after a third of it. A claim that had to wait for the lock gives way to the owner, so that one longer
//! transaction ends no lease: what lapsed during the wait is not taken over, and what had lapsed before is not until the lock was
//! free for a sixth of the lease, at most the [busy timeout](SqliteStoreBuilder::busy_timeout), and the owner has not renewed.
//!
//! Shorter transactions one after the other do the same: an owner that waits tries again at pauses of up to 16 ms, and can miss the moments in
//! between. Leave the lock free for 20 ms now and then, as after each batch of an import, or give the functions on such a file leases that
//! are longer than the whole import.
//!
//! A claim that comes just when the lock is free, before the owner has tried again, cannot know that the owner was locked out,
//! nor can a claim in a transaction that has the lock already: they take over, and a second body runs beside the first one. An owner tries
//! again within 16 ms, and after a wait of more than the busy timeout within a sixth of its lease.
//!
//! # Waking
//!
//! The end of a run wakes waiters in its own process at once, and those in other processes within about 20 ms: while
//! somebody waits, one task of the store looks at the records of all waiters.
//!
//! # Transactions of the caller's
//!
//! With `transaction = tx` ([`Call::in_transaction`](crate::Call::in_transaction)) claim and record are written in
//! the caller's transaction, on the same file. Its connection needs `foreign_keys` (sqlx's default). A claim waits for
//! the lock of other writers for the operation's `wait`. SQLite cannot tell whether those have the same key, so the error
//! is then [`Error::Store`](crate::Error::Store). Begin with `BEGIN IMMEDIATE`, or call before you read: a transaction
//! that has read what another one changed meanwhile cannot write any more, and is told to begin anew. The transaction holds
//! the lock until the caller commits: see [how long it may be](#how-long-a-transaction-may-be). If it is rolled back, a fence that it
//! gave out may be given out again.
//!
//! The call's own statements overwrite the connection's `last_insert_rowid()` and `changes()`. Read those of a statement of yours before
//! the next call, or use `RETURNING` or sqlx's `SqliteQueryResult`.
//!
//! # Migration
//!
//! A migration to version 3 copies the table, once; later ones do not. Meanwhile hits are answered, and writers wait.
//! Afterwards the next claim of a process of an older release is refused, before its body runs. Such a process can end the runs that it has begun.
//! Deploy the new release everywhere, or expect such refusals until you have.
//!
//! # Expiry
//!
//! An expired record counts as vacant at once, and is overwritten by the next claim. Others are removed in passing: each
//! minute ([`sweep_interval`](SqliteStoreBuilder::sweep_interval)), a process that is granted a claim removes what has
//! expired, beside the call, in batches that let other writers pass in between.
//! [`purge_expired`](crate::Idempotency::purge_expired) does the same on demand. SQLite reuses their pages; the file itself
//! becomes smaller only by `VACUUM`.
//!
//! # Permissions
//!
//! The process needs to read and write the file and its folder, in which SQLite keeps the `-wal` and `-shm` files.
//! Results are in the file as they are: keep it from other users.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::sqlite::SqlitePool;

use super::{
    Appended, ClaimOutcome, ClaimRequest, Cursor, DeadLetters, Outcome, Page, Record, RecordKey, ResolveRequest,
    Resolved, Step, Store, StoreError, StoreErrorKind, StoreResult, Subscription, Suspension, Token, Transactional,
    Transition, Why,
};
use crate::error::SetupError;

mod builder;
mod database;
mod dead_letters;
pub(crate) mod fault;
mod file;
mod inputs;
mod listener;
mod row;
pub(crate) mod statements;
mod times;
pub(crate) mod transaction;
mod transitions;

pub use builder::SqliteStoreBuilder;
use database::Database;
use inputs::{named, signed};
use row::{SqliteRecord, SqliteState};

/// The most records of a page.
const MAX_PAGE_LEN: usize = 1000;

/// A store in a SQLite file. See the [module](self) for what it promises.
///
/// ```no_run
/// # async fn example() -> Result<(), idempotent_runtime::SetupError> {
/// use idempotent_runtime::store::sqlite::SqliteStore;
///
/// let store = SqliteStore::connect("sqlite:///var/lib/shop/records.db").await?;
/// # Ok(())
/// # }
/// ```
pub struct SqliteStore {
    database: Arc<Database>,
}

impl SqliteStore {
    /// Opens a file with the default settings: `sqlite://relative/path`, or `sqlite:///absolute/path`. Creates the file if
    /// it is missing, and [migrates](Self::migrate).
    ///
    /// # Errors
    ///
    /// As [`SqliteStoreBuilder::connect`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: at most the file and its schema are left behind.
    pub async fn connect(url: &str) -> Result<Self, SetupError> {
        Self::builder().connect(url).await
    }

    /// Makes a store on the caller's own pool, with the default settings. It does not [migrate](Self::migrate).
    ///
    /// The pool's options need `journal_mode=WAL` and `synchronous=FULL` and should have a short busy timeout: the
    /// store waits for locks itself. The first call checks the settings, and refuses others. The store reads on the
    /// pool's connections, and writes on one more of its own with the pool's options: so a run is renewed and ended in
    /// time although its bodies have all connections of the pool. A body that holds the file's write lock for longer than
    /// a lease does keep its own renewals waiting.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use idempotent_runtime::store::sqlite::SqliteStore;
    /// use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
    ///
    /// let options = SqliteConnectOptions::new()
    ///     .filename("shop.db")
    ///     .journal_mode(SqliteJournalMode::Wal)
    ///     .synchronous(SqliteSynchronous::Full);
    /// let store = SqliteStore::new(SqlitePool::connect_with(options).await?);
    /// store.migrate().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new(pool: SqlitePool) -> Self {
        Self::with_defaults(pool)
    }

    /// Starts with the default settings.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), idempotent_runtime::SetupError> {
    /// use idempotent_runtime::store::sqlite::SqliteStore;
    ///
    /// let store = SqliteStore::builder().table("billing_records").connect("sqlite://shop.db").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> SqliteStoreBuilder {
        SqliteStoreBuilder::new()
    }

    /// Creates the schema, or upgrades an older one. Many processes may do so at the same time.
    ///
    /// # Errors
    ///
    /// [`SetupError::Store`] where the file cannot be written, is locked for too long, or has the schema of a newer release.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the schema is as it was before, or up to date.
    pub async fn migrate(&self) -> Result<(), SetupError> {
        Ok(self.database.migrate().await?)
    }

    async fn list_page(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        let unknown = StoreError::new(StoreErrorKind::Refused, "the cursor was not made by this store");
        let after: i64 = match after {
            Some(cursor) => cursor.as_str().parse().map_err(|_| unknown)?,
            None => 0,
        };
        let limit = limit.clamp(1, MAX_PAGE_LEN);
        let query = sqlx::query(self.database.statements.list.clone());
        let rows = self.database.read(query.bind(operation).bind(after).bind(signed(limit))).await?;
        let last = rows.last().filter(|_| rows.len() == limit);
        let next = last.map(row::id).transpose()?.map(|id| Cursor::new(id.to_string()));
        // Leaves out a row that is no record. A claim of its key says so.
        let records = rows.iter().filter_map(|row| row::decode(row).ok()).map(SqliteRecord::into_record).collect();
        Ok(Page::new(records, next))
    }
}

fn changing() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "gave up: the record kept changing between read and write")
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("table", &self.database.table.as_str()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        let answer = self.try_claim(key, request).await;
        self.database.pass(&answer);
        answer
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        self.try_renew(key, token, lease, ttl).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        self.try_complete(key, token, outcome, ttl).await
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        self.try_release(key, token, keep).await
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        self.try_suspend(key, token, why, not_before, keep).await
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        self.try_append(key, token, step, lease, ttl).await
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        self.try_steps(key, token).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        let found = self.look(key).await?;
        let ours =
            found.filter(|stored| stored.nonce == token.nonce && matches!(stored.state, SqliteState::Running(_)));
        Ok(ours.map(|stored| stored.fence))
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        let rows = self.database.write(named(&self.database.statements.forget, key)).await?;
        self.database.listener.ended(key);
        rows.first().map_or(Ok(false), row::was_alive)
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        self.try_resolve(key, request).await
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        Ok(self.look(key).await?.map(SqliteRecord::into_record))
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.list_page(operation, after, limit).await
    }

    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        self.database.purge(limit).await
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        Ok(self.database.listener.subscribe(key, &self.database))
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        Some(&*self.database)
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(self)
    }
}
