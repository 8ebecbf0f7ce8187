//! Records in PostgreSQL 14 or later: durable, and shared by all processes that reach the server.
//!
//! A record is one row of `idempotent_records`. Each transition is one statement, decided under the row's lock, on the
//! database's clock (`clock_timestamp()`: `now()` is the start of the transaction). A hit is one statement that only
//! reads, a miss two that write.
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
//! GRANT USAGE ON SEQUENCE idempotent_records_fence TO app;
//! GRANT SELECT ON idempotent_records_schema TO app; -- for `connect` and `migrate`
//! ```
//!
//! People can read `idempotent_records_view`. It shows results and arguments as `jsonb` where they are JSON, and present
//! states in the words of [`State::as_str`](super::State::as_str): a `running` row whose lease is over is `lapsed`. A replay
//! has the bytes of `idempotent_records.result`, since `jsonb` reorders keys and rewrites numbers.
//!
//! A migration does not block hits for long: it waits at most 100 ms at a time for the lock on the table. After a migration
//! to version 3, the next call of a process of an older release gets [`Error::Store`](crate::Error::Store) (`Refused`),
//! before its body runs. Such a process can end the runs that it has begun. Deploy the new release everywhere, or expect
//! such refusals until you have.
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
//! Some for statements, closed unless they were answered in time; one in reserve, opened when an owner of a run finds all
//! others in use; and, once somebody waits, one for wake-ups (`LISTEN`), replaced when it fails; all waiters are woken
//! then, since notifications may have been missed. Runs that nobody waits for notify nobody. A failed call is not
//! repeated here, except for serialization failures and deadlocks, of which nothing was applied: its outcome may be
//! unknown, and the caller asks again with the same nonce.
//!
//! A pool of your own keeps its own rules: sqlx's asks each connection that comes back whether it is alive, which is one
//! more round trip a statement. The reserve and the connection for wake-ups come on top of it, with the pool's options:
//! so a run is renewed and ended in time although its bodies have all connections of the pool. Leave room for two more
//! connections of each process in the server's `max_connections`. Claims do wait for the pool.
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
//! | `PgBouncer`, `pool_mode = transaction` or `statement` | refused by `connect` and [`migrate`](PostgresStore::migrate): prepared statements get lost, and notifications do not come in |
//!
//! On a pool of your own, a pooler that shares sessions is not looked for before each call. The store leaves nothing
//! behind there either, and its waiters poll. A pooler that loses prepared statements (before `PgBouncer` 1.21, SQLSTATE
//! 26000 and 42P05) is [`StoreErrorKind::Refused`].

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{PgPool, SqlStr};
use tokio::time::sleep;

use super::{
    ClaimOutcome, ClaimRequest, Cursor, Outcome, Page, Record, RecordKey, Store, StoreError, StoreErrorKind,
    StoreResult, Subscription, Token, Transactional, Transition, duration,
    sql::{
        states::{EndColumns, RowState},
        sweep::Sweep,
    },
};
use crate::error::SetupError;

mod builder;
mod executor;
pub(crate) mod fault;
mod listener;
mod migrate;
mod row;
mod sessions;
mod statements;
mod transaction;

pub use builder::PostgresStoreBuilder;
use executor::{Bound, Executor, User};
use fault::{is_lock_timeout, store_error, undecodable};
use listener::{Listener, payload};
use statements::{Statements, Table};

/// The number of tries of a step whose record changes between its two statements.
const TRIES: usize = 8;

/// The number of times that a claim waits for the lock of a row, 50 ms each.
const LOCK_WAITS: u32 = 4;
/// The pause between two of these, without a connection.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The time after which to ask again for a key that another transaction has. It is a guess: transactions have no lease.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The most records of a page of a listing, and of a batch of a purge.
const MAX_BATCH_LEN: usize = 10_000;

/// The records of a batch that is removed in passing: a statement holds up nobody for long.
const SWEEP_LEN: usize = 500;

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
    listener: Listener,
    sweep: Sweep,
    allow_data_loss: bool,
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
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("table", &self.shared.table.name()).finish_non_exhaustive()
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration::micros(duration)).unwrap_or(i64::MAX)
}

/// Binds the parameters that the owner's statements begin with.
fn of<'q>(query: Bound<'q>, key: &'q RecordKey, token: &'q Token) -> Bound<'q> {
    query.bind(key.operation()).bind(key.key()).bind(token.nonce.as_bytes().as_slice())
}

/// Binds the parameters of `claim.sql`. Only claims in a transaction of the caller's have a `wait`.
fn claim<'q>(query: Bound<'q>, key: &'q RecordKey, request: &'q ClaimRequest, wait: Option<Duration>) -> Bound<'q> {
    query
        .bind(key.operation())
        .bind(key.key())
        .bind(request.fingerprint.as_bytes().as_slice())
        .bind(request.nonce.as_bytes().as_slice())
        .bind(micros(if wait.is_some() { Duration::MAX } else { request.lease }))
        .bind(micros(request.ttl))
        .bind(request.take_over)
        .bind(wait.map(lock_timeout))
        .bind(request.arguments.as_deref())
}

/// Writes a `lock_timeout`, in whole milliseconds. It is at least one, since 0 means for ever.
fn lock_timeout(wait: Duration) -> String {
    const MAX_MILLIS: u128 = i32::MAX as u128;
    wait.as_millis().clamp(1, MAX_MILLIS).to_string()
}

/// Binds the parameters of `end.sql`.
fn end<'q>(query: Bound<'q>, key: &'q RecordKey, token: &'q Token, end: EndColumns<'q>, ttl: Duration) -> Bound<'q> {
    of(query, key, token).bind(end.state).bind(end.result).bind(end.reason).bind(micros(ttl)).bind(payload(key))
}

fn contended() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "gave up: the record kept changing between read and write")
}

/// The owner of a record that a transition did not find running under its own nonce.
enum Owner {
    Vacant,
    Other,
    Ours(RowState),
}

impl PostgresShared {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        let mut waits = 0;
        for _ in 0..TRIES {
            let bind = |query| claim(query, key, request, None);
            let row = match self.executor.try_row(User::Anybody, &self.statements.claim, bind).await? {
                // Many claims of a key at once queue for its row. By a later look the first of them is committed, and
                // answers the others: among them this very claim, if it was sent twice.
                Err(error) if is_lock_timeout(&error) => {
                    waits += 1;
                    if waits == LOCK_WAITS {
                        return Ok(ClaimOutcome::InFlight { retry_after: RETRY_AFTER });
                    }
                    sleep(LOCK_PAUSE).await;
                    continue;
                }
                answer => answer.map_err(store_error)?.ok_or_else(undecodable)?,
            };
            if let Some(outcome) = row::claim_outcome(&row, request)? {
                return Ok(outcome);
            }
        }
        Err(contended())
    }

    /// Reads whose the record is now.
    async fn owner(&self, key: &RecordKey, token: &Token) -> StoreResult<Owner> {
        let answer = self.executor.row(User::Owner, &self.statements.owner, |query| of(query, key, token));
        let Some(row) = answer.await? else { return Ok(Owner::Vacant) };
        let state = row::state(&row, 0)?;
        Ok(if row::get(&row, 1)? { Owner::Ours(state) } else { Owner::Other })
    }

    /// Runs a transition's statement. It is applied if it returns a row, or if the record already `shows` its effect.
    async fn transition<'q>(
        &self,
        key: &RecordKey,
        token: &Token,
        statement: &SqlStr,
        bind: impl Fn(Bound<'q>) -> Bound<'q>,
        shows: fn(&Owner) -> bool,
    ) -> StoreResult<Transition> {
        for _ in 0..TRIES {
            if self.executor.row(User::Owner, statement, &bind).await?.is_some() {
                return Ok(Transition::Applied);
            }
            match self.owner(key, token).await? {
                // Our own claim, sent twice, was committed between the statement and this look: tries again.
                Owner::Ours(RowState::Running) => {}
                owner if shows(&owner) => return Ok(Transition::Applied),
                _ => return Ok(Transition::Lost),
            }
        }
        Err(contended())
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        let bind = |query| of(query, key, token).bind(micros(lease)).bind(micros(ttl));
        self.transition(key, token, &self.statements.renew, bind, |_| false).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        let shows = |owner: &Owner| matches!(owner, Owner::Ours(RowState::Done));
        self.end(key, token, EndColumns::of(outcome), ttl, shows).await
    }

    async fn abandon(&self, key: &RecordKey, token: &Token, ttl: Duration) -> StoreResult<Transition> {
        let shows = |owner: &Owner| matches!(owner, Owner::Ours(RowState::Abandoned));
        self.end(key, token, EndColumns::ABANDONED, ttl, shows).await
    }

    async fn end(
        &self,
        key: &RecordKey,
        token: &Token,
        columns: EndColumns<'_>,
        ttl: Duration,
        shows: fn(&Owner) -> bool,
    ) -> StoreResult<Transition> {
        let bind = |query| end(query, key, token, columns, ttl);
        self.transition(key, token, &self.statements.end, bind, shows).await
    }

    async fn release(&self, key: &RecordKey, token: &Token) -> StoreResult<Transition> {
        let bind = |query| of(query, key, token).bind(payload(key));
        self.transition(key, token, &self.statements.release, bind, |owner| matches!(owner, Owner::Vacant)).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        for _ in 0..TRIES {
            let answer = self.executor.row(User::Owner, &self.statements.fence, |query| of(query, key, token));
            if let Some(row) = answer.await? {
                return row::fence(&row, 0);
            }
            if !matches!(self.owner(key, token).await?, Owner::Ours(RowState::Running)) {
                return Ok(None);
            }
        }
        Err(contended())
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        let answer = self.executor.row(User::Anybody, &self.statements.forget, |query| {
            query.bind(key.operation()).bind(key.key()).bind(payload(key))
        });
        answer.await?.map_or(Ok(false), |row| row::get(&row, 0))
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        let answer = self
            .executor
            .row(User::Anybody, &self.statements.inspect, |query| query.bind(key.operation()).bind(key.key()));
        answer.await?.as_ref().map(row::record).transpose()
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        // Operations and keys are printable ASCII: a blank sorts before all that follows a key, and a delete character
        // after every operation.
        let last = operation.unwrap_or("\x7f");
        let (first, key) = match after {
            None => (operation.unwrap_or_default().to_owned(), String::new()),
            Some(cursor) => {
                let foreign = StoreError::new(StoreErrorKind::Refused, "the cursor was not made by this store");
                let done: RecordKey = cursor.as_str().parse().map_err(|_| foreign)?;
                (done.operation().to_owned(), format!("{} ", done.key()))
            }
        };
        let limit = limit.clamp(1, MAX_BATCH_LEN);
        let answer = self.executor.rows(&self.statements.list, |query| {
            query.bind(first.clone()).bind(key.clone()).bind(last).bind(i64::try_from(limit).unwrap_or(i64::MAX))
        });
        let rows = answer.await?;
        let mut page = Page::default();
        if rows.len() == limit
            && let Some(row) = rows.last()
        {
            let (operation, key): (&str, &str) = (row::get(row, 0)?, row::get(row, 1)?);
            page.next = Some(Cursor::new(format!("{operation}{}{key}", RecordKey::SEPARATOR)));
        }
        for row in &rows {
            match row::record(row) {
                Ok(record) => page.records.push(record),
                // A row that is no record is left out; a claim of its key says so.
                Err(error) if error.kind() == StoreErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }

    async fn purge_expired(&self, limit: usize, leave_to_others: bool) -> StoreResult<usize> {
        let limit = i64::try_from(limit.min(MAX_BATCH_LEN)).unwrap_or(i64::MAX);
        let answer =
            self.executor.row(User::Anybody, &self.statements.purge, |query| query.bind(limit).bind(leave_to_others));
        let Some(row) = answer.await? else {
            return Ok(0);
        };
        Ok(usize::try_from(row::get::<i64>(&row, 0)?).unwrap_or_default())
    }

    /// Starts a sweep if one is due after this answer to a claim.
    fn pass(&self, answer: &StoreResult<ClaimOutcome>) {
        self.sweep.passing(answer, || {
            let this = Weak::clone(&self.this);
            move || {
                let shared = this.upgrade();
                Box::pin(async move {
                    let Some(shared) = shared else { return Ok(false) };
                    Ok(shared.purge_expired(SWEEP_LEN, true).await? == SWEEP_LEN)
                })
            }
        });
    }

    async fn subscribe(&self, key: &RecordKey) -> Subscription {
        let subscription = self.listener.subscribe(key).await;
        // After a failure the subscription may be silent. Its owner polls as well.
        let _ = self.executor.rows(&self.statements.wait, |query| query.bind(key.operation()).bind(key.key())).await;
        subscription
    }
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

    async fn release(&self, key: &RecordKey, token: &Token) -> StoreResult<Transition> {
        self.shared.release(key, token).await
    }

    async fn abandon(&self, key: &RecordKey, token: &Token, ttl: Duration) -> StoreResult<Transition> {
        self.shared.abandon(key, token, ttl).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        self.shared.fence(key, token).await
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        self.shared.forget(key).await
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
}
