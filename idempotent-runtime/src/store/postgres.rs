//! Records in PostgreSQL 14 or later: durable, and shared by all processes that reach the server.
//!
//! A record is one row of `idempotent_records`, and each of its [steps](crate::step) one of `idempotent_records_steps`. Each
//! transition is one statement, decided under the record's row's lock, on the database's clock (`clock_timestamp()`: `now()`
//! is the start of the transaction). A hit is one statement that only reads, a miss two that write. With many callers at once,
//! claims of up to sixteen keys travel in one statement, and so do ends of runs: each is decided and answered for itself,
//! and one that fails, or whose row is locked, is asked again alone. A single caller waits for no company.
//!
//! Expired rows count as vacant at once. They are removed in passing: each minute
//! ([`sweep_interval`](PostgresStoreBuilder::sweep_interval)), a process that is granted a claim removes what has
//! expired, beside the call, in batches that skip what is locked. It leaves that to another process that is at it.
//! [`purge_expired`](Store::purge_expired) does the same on demand.
//!
//! # URLs
//!
//! | URL | what |
//! |---|---|
//! | `postgres://[user[:password]@]host[:port]/database` | one server; `postgresql://` is the same |
//! | `postgres:///database?host=/run/postgresql&user=name` | one server on this machine, through its socket |
//!
//! The host may be an IPv6 address in brackets: `postgres://app@[::1]/shop`. `?options=-csearch_path%3Dbilling` chooses a
//! schema. Credentials are percent-encoded and never shown; the usual `PG…` variables and `~/.pgpass` fill in
//! what the URL leaves out.
//!
//! # TLS
//!
//! With the feature `postgres-tls`, the connection is encrypted where the server can (`?sslmode=prefer`, the default). It
//! is *verified* only with `?sslmode=verify-full` or `verify-ca`, or where an authority is named:
//!
//! | | parameter | setting |
//! |---|---|---|
//! | an authority to trust besides the system's | `?sslrootcert=/path/ca.pem` | [`root_certificate`](PostgresStoreBuilder#method.root_certificate) |
//! | a certificate of ours, for a server that asks for it | `?sslcert=/path/own.pem&sslkey=/path/own.key` | [`client_certificate`](PostgresStoreBuilder#method.client_certificate) |
//!
//! The system's authorities are those of the operating system, or those in the file that the environment's
//! `SSL_CERT_FILE` names.
//!
//! # What is promised, and what is not
//!
//! | server | an acknowledged record survives | it does not survive |
//! |---|---|---|
//! | one primary, `fsync=on` | crashes of clients and of the server | the loss of the disk |
//! | the same with a synchronous standby | also a failover to it | |
//! | an asynchronous standby | crashes of clients and of the server | a failover: the latest records may be missing, and such keys run again |
//! | `fsync=off` or `full_page_writes=off` | crashes of clients and of the server | a crash of its machine may lose everything: refused, unless [allowed](PostgresStoreBuilder::allow_data_loss) |
//!
//! Each statement of the store's own turns `synchronous_commit=off` on again for itself, on every connection. In a
//! transaction of yours it is yours to set. What `fsync=off` may lose is told by a warning at `connect`, where it is
//! allowed. A server clock that jumps ahead ends leases early; one that goes back makes leases and results last longer
//! by as much. A standby is refused, even for hits: a record that it shows may be gone or changed.
//!
//! Fences come from one sequence, so they rise across the removal of a record. A fence is drawn when an owner first asks
//! ([`Store::fence`]); in a transaction of the caller's, with the claim.
//!
//! # Schema and privileges
//!
//! [`migrate`](PostgresStore::migrate) creates or upgrades the schema, from any number of processes at once, and so does
//! `connect`. It needs `CREATE` on the schema, unless the schema is up to date already. To use the store, a role needs no
//! more than
//!
//! ```sql
//! GRANT SELECT, INSERT, UPDATE, DELETE ON idempotent_records TO app;
//! GRANT SELECT, INSERT, DELETE ON idempotent_records_steps TO app;
//! GRANT SELECT, INSERT, UPDATE, DELETE ON idempotent_records_dead TO app; -- for consumers
//! GRANT USAGE ON SEQUENCE idempotent_records_fence TO app;
//! GRANT SELECT ON idempotent_records_schema TO app; -- for `connect` and `migrate`
//! ```
//!
//! People can read `idempotent_records_view`. It shows results and arguments as `jsonb` where they are JSON, and present
//! states in the words of [`State::as_str`](super::State::as_str): a `running` row whose lease is over is `lapsed`. JSON that
//! `jsonb` cannot hold, as with `\u0000` in it, is shown as a string. A replay has the bytes of
//! `idempotent_records.result`, since `jsonb` reorders keys and rewrites numbers.
//!
//! Triggers remove the steps in the statement that removes or completes their record, also where that is a `DELETE` by hand:
//! its role needs `DELETE` on both tables. `TRUNCATE` fires no triggers; the steps that it leaves behind belong to no record.
//!
//! A migration does not block hits for long: it waits at most 100 ms at a time for the lock on the table. After a migration
//! to version 4, the next call of a process of an older release gets [`Error::Store`](crate::Error::Store) (`Refused`),
//! before its body runs. Such a process can end the runs that it has begun. Deploy the new release everywhere, or expect
//! such refusals until you have. Version 4 brings the table of steps, version 5 that of dead letters: grant them to the roles
//! that use the store. Versions 5 and 6 change nothing for older processes. Version 6 brings the column `context`: what a claim says of its caller, or
//! who has resolved the record. A process of version 5 that takes a record over leaves the context of the claim before.
//!
//! # Transactions of the caller's
//!
//! With `transaction = tx` ([`Call::in_transaction`](crate::Call::in_transaction)) claim and record are written in
//! the caller's transaction, at any isolation level. Under READ COMMITTED a duplicate waits and gets the committed
//! result. Under REPEATABLE READ and SERIALIZABLE it may lose (SQLSTATE 40001), and gets a retryable
//! [`Error::Store`](crate::Error::Store): begin a new transaction. The transaction's `search_path` has to lead to the table.
//!
//! A deferred foreign key keeps half of a call from being committed. So a body must not run `SET CONSTRAINTS ALL IMMEDIATE`,
//! which checks the key before the call has ended; and `session_replication_role = replica` turns the key off.
//!
//! `wait` is the server's `lock_timeout`. Where the transactions ahead are rolled back one after the other, each begins
//! the wait anew, until the store's [`timeout`](PostgresStoreBuilder::timeout) ends it as well. A call that is not in a
//! transaction of its caller's waits four times 50 ms for the row of one, and takes the key as in flight then: it
//! asks again, up to its own `wait`, and has no connection in between. An operator's `forget` waits for it up to that timeout, and is told
//! [`Error::Store`](crate::Error::Store) (retryable). A `READ ONLY` transaction cannot claim, and so gets no
//! result either.
//!
//! # Connections
//!
//! Some for statements, closed unless they were answered in time; one in reserve for the owners of runs, and up to three
//! more of these while owners would have to wait; and, once somebody waits for a run, one for wake-ups (`LISTEN`), replaced
//! when it fails; all waiters are woken then, since notifications may have been missed. Runs that nobody waits for notify
//! nobody. A failed call is not repeated here, except for serialization failures and deadlocks, of which nothing was
//! applied: its outcome may be unknown, and the caller asks again with the same nonce.
//!
//! A pool of your own keeps its own rules: sqlx's asks each connection that comes back whether it is alive, which is one
//! more round trip a statement. Before the first claim, the store takes one connection out of the pool for the reserve
//! (`detach`), and the pool may open another in its place. So a run is renewed and ended in time although its bodies have
//! all connections of the pool. Claims do wait for the pool. Further connections of the reserve are opened as the pool
//! opens its own: with its present options (`set_connect_options`) and with its `after_connect`. Up to four statements of owners run at a time: with a
//! round trip of 5 ms that is 800 a second, enough to renew 1300 runs with a lease of 5 s.
//!
//! Leave room for five more connections of each process in the server's `max_connections`. Where the role's `CONNECTION
//! LIMIT` is the size of the pool, it is the pool that cannot open its last connection: make the pool smaller by one, or
//! `acquire` waits. With a limit of one connection, no claim is granted.
//!
//! # Poolers
//!
//! The store sets nothing on a session by SQL. What a statement needs is set within it, and ends with it; what makes
//! connections of the store's own better is in the parameters of their start (`options`), which poolers keep to
//! themselves; where one refuses them, they are left out.
//!
//! | between the store and the server | |
//! |---|---|
//! | `PgBouncer`, `pool_mode = session` | works, wake-ups too; a pool of your own needs `ignore_startup_parameters = extra_float_digits`, as sqlx does |
//! | `PgBouncer`, `pool_mode = transaction` or `statement` | refused by `connect`, [`migrate`](PostgresStore::migrate) and claims: prepared statements get lost, and notifications do not come in |
//!
//! This is found out once, by asking two connections in turn which sessions they have: in `connect` and `migrate`, and on a
//! pool of your own before the first claim, which is then refused, as all later ones are until the process is restarted. It
//! takes some fifty round trips. Calls in transactions of yours are not checked: these have one session to their end.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::PgPool;
use tokio::sync::OnceCell;

use super::{
    Appended, ClaimOutcome, ClaimRequest, Cursor, DeadLetters, Outcome, Page, Record, RecordKey, ResolveRequest,
    Resolved, Step, Store, StoreError, StoreErrorKind, StoreResult, Subscription, Suspension, Token, Transactional,
    Transition, Why, sql::sweep::Sweep,
};
use crate::error::SetupError;

mod batches;
mod builder;
mod dead_letters;
mod executor;
pub(crate) mod fault;
mod listener;
mod migrate;
mod operators;
mod parameters;
mod row;
mod sessions;
pub(crate) mod statements;
mod timestamp;
mod transaction;
mod transitions;

use batches::Batches;
pub use builder::PostgresStoreBuilder;
use executor::Executor;
use listener::Listener;
use statements::{Statements, Table};

/// A store in PostgreSQL. See the [module](self) for what it promises.
///
/// ```no_run
/// # async fn example() -> Result<(), idempotent_runtime::SetupError> {
/// use idempotent_runtime::store::postgres::PostgresStore;
///
/// let store = PostgresStore::connect("postgres://app@localhost/shop").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    shared: Arc<PostgresShared>,
}

struct PostgresShared {
    table: Table,
    statements: Statements,
    executor: Executor,
    batches: Batches,
    listener: Listener,
    sweep: Sweep,
    allow_data_loss: bool,
    /// True if a pooler shares the sessions, once that is known.
    sessions: OnceCell<bool>,
    /// For sweeps, which end with the store.
    this: Weak<PostgresShared>,
}

impl PostgresStore {
    /// Connects with the default settings and brings the schema up to date; the [module](self) lists the URLs.
    ///
    /// # Errors
    ///
    /// As [`PostgresStoreBuilder::connect`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the schema is at one version or the next.
    pub async fn connect(url: &str) -> Result<Self, SetupError> {
        Self::builder().connect(url).await
    }

    /// A store on a pool of the caller's, with the default settings. The schema has to be there: see
    /// [`migrate`](Self::migrate).
    ///
    /// # Errors
    ///
    /// As [`PostgresStoreBuilder::build`].
    pub fn new(pool: PgPool) -> Result<Self, SetupError> {
        Self::builder().build(pool)
    }

    /// Starts with the default settings.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), idempotent_runtime::SetupError> {
    /// use idempotent_runtime::store::postgres::PostgresStore;
    ///
    /// let store = PostgresStore::builder().table("billing_records").connect("postgres://localhost/shop").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder::new()
    }

    /// Creates the schema, or upgrades an older one. Any number of processes may do so at once.
    ///
    /// # Errors
    ///
    /// [`SetupError::Store`] where the server cannot be reached, is older than PostgreSQL 14, a standby, or one that
    /// [may lose records](PostgresStoreBuilder::allow_data_loss), the role may not change the schema, or the schema is
    /// newer than this library.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the schema is at one version or the next.
    pub async fn migrate(&self) -> Result<(), SetupError> {
        Ok(self.shared.migrate().await?)
    }

    /// Checks that the schema is the one that this release writes and reads, and changes nothing.
    ///
    /// # Errors
    ///
    /// [`SetupError::Store`] where the server cannot be reached or refuses, or the schema is missing, older or newer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn check_schema(&self) -> Result<(), SetupError> {
        Ok(self.shared.check_schema().await?)
    }
}

impl PostgresShared {
    /// Refuses a pooler that shares sessions: a statement is then run for another client's connection, answers get lost, and
    /// bodies run twice. Looks once; claims that come meanwhile wait for the answer.
    async fn check_sessions(&self) -> StoreResult<()> {
        if !*self.sessions.get_or_try_init(|| Box::pin(self.executor.sessions_are_shared())).await? {
            return Ok(());
        }
        Err(StoreError::new(
            StoreErrorKind::Refused,
            "a pooler shares the sessions of PostgreSQL between clients (`pool_mode = transaction`): connect to the \
             server itself, or through a pool with `pool_mode = session`, and restart this process",
        ))
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("table", &self.shared.table.name()).finish_non_exhaustive()
    }
}

fn contended() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "gave up: the record kept changing between read and write")
}

#[async_trait]
impl Store for PostgresStore {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        let answer = self.shared.claim(key, request).await;
        self.shared.pass(&answer);
        answer
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        self.shared.renew(key, token, lease, ttl).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        self.shared.complete(key, token, outcome, ttl).await
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        self.shared.release(key, token, keep).await
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        self.shared.suspend(key, token, why, not_before, keep).await
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        self.shared.append(key, token, step, lease, ttl).await
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        self.shared.steps(key, token).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        self.shared.fence(key, token).await
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        self.shared.forget(key).await
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        self.shared.resolve(key, request).await
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.shared.inspect(key).await
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.shared.list(operation, after, limit).await
    }

    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        self.shared.purge_expired(limit, false).await
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        Ok(self.shared.subscribe(key).await)
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        Some(&*self.shared)
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(&*self.shared)
    }
}
