//! Writes records in a transaction that the caller has open. They are committed with the caller's own changes, or not at
//! all.
//!
//! ```text
//!  savepoint ─▶ claim ─▶ the body ─▶ complete ─▶ keep     and both are committed when the caller commits
//!                 │          │ Err
//!                 └──────────┴─▶ undo                     and there is neither
//! ```
//!
//! Nobody else sees the claim before the transaction ends, so it needs no lease: the database's own lock makes duplicates
//! wait. If a claim is neither completed nor undone, because its caller was dropped or panicked, the commit must fail.
//!
//! A run may also be claimed outside, where all see it, and end in a transaction of its own ([`Call::commit`]):
//!
//! ```text
//!  Store::claim ─▶ BEGIN ─▶ the body ─▶ end ─▶ COMMIT
//!                              │ Err
//!                              └─▶ ROLLBACK ─▶ Store::suspend or Store::release
//! ```
//!
//! [`Call::commit`]: crate::Call::commit

use std::{any::Any, fmt, time::Duration};

use async_trait::async_trait;

use super::{ClaimOutcome, ClaimRequest, Outcome, Record, RecordKey, StoreResult, Token};

/// A connection of the caller's, of a type that the store knows.
pub type Connection<'a> = &'a mut (dyn Any + Send);

/// The argument that `transaction = …` names: something that holds a connection in an open transaction.
///
/// With the feature `postgres` or `sqlite` these are `sqlx::Transaction<'_, DB>` and the connections `PgConnection` and
/// `SqliteConnection`. A store of your own that implements [`Transactional`] brings its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an open SQL transaction",
    label = "named by `transaction`",
    note = "help: take `&mut sqlx::Transaction<'_, sqlx::Postgres>` or `&mut sqlx::Transaction<'_, sqlx::Sqlite>`, with the feature `postgres` or `sqlite` of idempotent-runtime"
)]
pub trait OpenTransaction: Send {
    /// The connection that the transaction is open on.
    fn connection(&mut self) -> Connection<'_>;
}

/// The steps of a store in a transaction that its caller has open. See the [module](self) for their order. The conformance suite
/// (feature `testing`) has rules for them.
///
/// # Errors
///
/// Each step answers [`StoreError`](super::StoreError) for faults. After a fault the transaction may be unusable, until
/// [`undo`](Self::undo) has succeeded.
#[async_trait]
pub trait Transactional: Send + Sync {
    /// Sets a savepoint with this name, a plain identifier. A call within a call gives its savepoint another name. So if it
    /// is dropped and leaves its savepoint open, nobody takes that for the savepoint of the outer call.
    async fn savepoint(&self, connection: Connection<'_>, name: &str) -> StoreResult<()>;

    /// Takes the key in the transaction, or tells why it cannot, like [`Store::claim`](super::Store::claim). It waits up to
    /// `wait` for other transactions that have the key, and the token has its fence.
    async fn claim(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        request: &ClaimRequest,
        wait: Duration,
    ) -> StoreResult<ClaimOutcome>;

    /// The record as the transaction sees it, `None` where the key is vacant.
    async fn inspect(&self, connection: Connection<'_>, key: &RecordKey) -> StoreResult<Option<Record>>;

    /// Ends the run with an outcome, kept for `ttl` from now. Fails if the claim is not there any more.
    async fn complete(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<()>;

    /// Ends a run that was claimed outside of the transaction, with an outcome that is kept for `ttl` from now: the last step
    /// before the commit. `false` if the claim is gone, or the body has ended the transaction that was begun for it: then nothing
    /// that was done in the transaction can be committed any more, whatever its client does next.
    ///
    /// Others see the end once it is committed. Until then [`Store::suspend`](super::Store::suspend) waits, or fails.
    ///
    /// From here on the session may be idle for `idle` before the database ends it: a process that is stopped now would keep
    /// the record's lock.
    async fn end(
        &self,
        connection: Connection<'_>,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
        idle: Duration,
    ) -> StoreResult<bool>;

    /// True if the transaction sees the run of this claim under way.
    async fn owns(&self, connection: Connection<'_>, key: &RecordKey, token: &Token) -> StoreResult<bool>;

    /// Wakes those in this process who wait for the end of the key's run: it is committed.
    fn committed(&self, key: &RecordKey) {
        let _ = key;
    }

    /// True if a transaction keeps the store from changing any record until it ends, as on SQLite.
    ///
    /// Such a run takes its [`turn`](Self::turn) before it is claimed. Nobody can take it over while its transaction is open,
    /// and it cannot be renewed.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Waits until no other run of this process has its turn, where transactions are [exclusive](Self::is_exclusive).
    async fn turn(&self) -> Turn {
        Turn::none()
    }

    /// Goes back to the last savepoint of this name, and forgets it and all savepoints that were set after it.
    async fn undo(&self, connection: Connection<'_>, name: &str) -> StoreResult<()>;

    /// Forgets the last savepoint of this name and all savepoints after it. What was done since then stays in the
    /// transaction.
    async fn keep(&self, connection: Connection<'_>, name: &str) -> StoreResult<()>;
}

/// The turn of a run among those of its process. Dropped, it is the next one's.
pub struct Turn {
    _guard: Option<Box<dyn Any + Send + Sync>>,
}

impl Turn {
    /// For stores whose runs need not take turns.
    #[must_use]
    pub const fn none() -> Self {
        Self { _guard: None }
    }

    /// A turn that lasts as long as this guard.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self { _guard: Some(Box::new(guard)) }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}
