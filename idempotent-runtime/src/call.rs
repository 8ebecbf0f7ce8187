//! Calls without the attribute: an operation, its key and its arguments, then the body.

use std::{fmt, future::Future, ops::ControlFlow, pin::pin};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    engine::{self, Prepared},
    error::Error,
    execution::Execution,
    idempotency::Idempotency,
    operation::{ErrorPolicy, OnAbandoned, Operation, ReleaseErrors},
    reconcile::{self, Reconciled},
    request::{arguments::Request, error::ArgumentsError},
    store::{BoxFuture, RecordKey, transactional::OpenTransaction},
};

/// A call that has no key yet: made by [`Idempotency::call`].
#[must_use = "nothing happens until the call has a key and `run` is awaited"]
pub struct CallBuilder<'i, P = ReleaseErrors> {
    idempotency: &'i Idempotency,
    operation: Operation<P>,
}

/// A call with its key: give it the [`arguments`](Self::arguments), then the body.
#[must_use = "nothing happens until `run` is awaited"]
pub struct Call<'i, P = ReleaseErrors> {
    idempotency: &'i Idempotency,
    operation: Operation<P>,
    key: Result<RecordKey, Error>,
    /// `None` where no arguments were given.
    request: Option<Result<Request, ArgumentsError>>,
}

/// A call that first finds out what became of a run that vanished: made by [`Call::reconcile`].
#[must_use = "nothing happens until `run` is awaited"]
pub struct ReconciledCall<'i, A, P = ReleaseErrors> {
    call: Call<'i, P>,
    ask: A,
}

/// A call whose body runs on a task of its own: made by [`Call::detached`].
#[must_use = "nothing happens until `run` is awaited"]
pub struct DetachedCall<'i, P = ReleaseErrors>(Call<'i, P>);

/// A call in a transaction that its caller has open: made by [`Call::in_transaction`].
#[must_use = "nothing happens until `run` is awaited"]
pub struct TransactionCall<'i, 't, X, P = ReleaseErrors> {
    call: Call<'i, P>,
    transaction: &'t mut X,
}

impl Idempotency {
    /// Starts a call without the attribute. `operation` is a name, or an [`Operation`] with policies.
    ///
    /// ```
    /// # use idempotent_runtime::{Error, Idempotency};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// # let idempotency = Idempotency::memory();
    /// let body = async { Ok::<_, Error>("charged 4200".to_owned()) };
    /// let receipt = idempotency.call("payments.charge").key("order-17").arguments(&4_200).run(body).await?;
    /// assert_eq!(receipt, "charged 4200");
    /// # Ok(()) }
    /// ```
    pub fn call<P>(&self, operation: impl Into<Operation<P>>) -> CallBuilder<'_, P> {
        CallBuilder { idempotency: self, operation: operation.into() }
    }
}

impl<'i, P> CallBuilder<'i, P> {
    /// Sets the key: what identifies the call within its operation. A string, an integer, a tuple of such, or whatever
    /// else [`key`](crate::key) can write.
    ///
    /// # Panics
    ///
    /// If the key's `Serialize` does.
    pub fn key<K: Serialize>(self, key: K) -> Call<'i, P> {
        let Self { idempotency, operation } = self;
        let key = idempotency.encode_key(&operation.name, &key);
        Call { idempotency, operation, key, request: None }
    }
}

impl<'i, P> Call<'i, P> {
    /// Hashes the arguments, so that the key with other arguments is refused. Several are a tuple, or a struct.
    ///
    /// # Panics
    ///
    /// If the arguments' `Serialize` does.
    pub fn arguments<A: Serialize + ?Sized>(mut self, arguments: &A) -> Self {
        self.request = Some(self.request_of(arguments));
        self
    }

    /// Runs the body on a task of its own: dropping the caller's future does not stop it half-way.
    pub const fn detached(self) -> DetachedCall<'i, P> {
        DetachedCall(self)
    }

    /// Asks what became of a run that vanished, before the body runs again. `abandoned = reconcile(…)` of the attribute does the
    /// same. See [`Reconciled`](crate::Reconciled).
    ///
    /// ```
    /// # use idempotent_runtime::{Error, Execution, Idempotency, Reconciled};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// # let idempotency = Idempotency::memory();
    /// # async fn find(_: &str) -> Option<String> { None }
    /// let ask = async |run: Execution| match find(&run.child_key("bank")).await {
    ///     Some(receipt) => Ok(Reconciled::Done(receipt)),
    ///     None => Ok(Reconciled::NotDone),
    /// };
    /// let body = async { Ok::<_, Error>("charged".to_owned()) };
    /// assert_eq!(idempotency.call("charge").key("order-17").reconcile(ask).run(body).await?, "charged");
    /// # Ok(()) }
    /// ```
    pub const fn reconcile<A>(self, ask: A) -> ReconciledCall<'i, A, P> {
        ReconciledCall { call: self, ask }
    }

    /// Writes the record in this open transaction: record and effects are committed together when the caller commits,
    /// or not at all. `transaction = …` of the attribute does the same.
    ///
    /// The store has to be in the same database. A duplicate waits there until the other transaction has ended, up to
    /// the operation's `wait`. An `Err` of the body takes back what the body wrote, however the caller goes on. On SQLite, the call
    /// overwrites the connection's `last_insert_rowid()` and `changes()`.
    pub const fn in_transaction<X: OpenTransaction>(self, transaction: &mut X) -> TransactionCall<'i, '_, X, P> {
        TransactionCall { call: self, transaction }
    }

    /// Runs the body if it is this call's to run, or answers with the stored result.
    ///
    /// # Errors
    ///
    /// The body's own, and [`Error`] converted into them.
    ///
    /// # Panics
    ///
    /// If the body does. Outside a Tokio runtime, or on one without timers, where the call has to wait: nothing could renew
    /// its claim.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the body runs, the run is abandoned and the operation's policy decides ([`Operation::abandoned`]).
    /// Dropped before, nothing has happened; dropped after the body returned, its result is recorded all the same.
    pub async fn run<T, E, B>(self, body: B) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
        B: Future<Output = Result<T, E>>,
    {
        self.prepare().run(pin!(Some(body))).await
    }

    /// Runs the body in a transaction of its own, if it is this call's to run: what the body writes there and its record are
    /// committed together, or not at all. The pool has to be of the store's database.
    ///
    /// Unlike [`in_transaction`](Self::in_transaction), the key is claimed before the transaction begins, where all see it.
    /// So a run is counted although it is rolled back or its process is killed, its lease is renewed, and duplicates wait
    /// for it without a connection. An `Err` rolls back; one that is kept is recorded after that.
    ///
    /// The body has no [steps](crate::step). A transaction begins READ COMMITTED, and the body leaves it so. On SQLite it begins with
    /// `BEGIN IMMEDIATE` and keeps the file's write lock to its end: the runs of a process take turns, a run has to end within its
    /// lease and ttl, since it is not renewed, and whatever it calls must not wait for a record of the same file outside the
    /// transaction. Nobody else can renew a lease on that file meanwhile, so a run has to end within two thirds of the shortest lease
    /// there, of whatever operation and process. Where the commit itself fails, the record is *failed*: other arguments are a mismatch until it expires.
    ///
    /// ```no_run
    /// # use idempotent_runtime::{Error, Idempotency};
    /// # #[derive(Debug)] enum Failed { Sql, Idempotency }
    /// # impl From<sqlx::Error> for Failed { fn from(_: sqlx::Error) -> Self { Self::Sql } }
    /// # impl From<Error> for Failed { fn from(_: Error) -> Self { Self::Idempotency } }
    /// # #[cfg(feature = "sqlite")]
    /// async fn deposit(idempotency: &Idempotency, pool: &sqlx::SqlitePool, id: &str, cents: i64) -> Result<i64, Failed> {
    ///     let deposit = idempotency.call("accounts.deposit").key(id).arguments(&cents);
    ///     deposit
    ///         .commit(pool, |tx| {
    ///             Box::pin(async move {
    ///                 let add = sqlx::query_scalar("UPDATE account SET cents = cents + ?1 RETURNING cents");
    ///                 Ok(add.bind(cents).fetch_one(&mut **tx.0).await?)
    ///             })
    ///         })
    ///         .await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run). [`Error::Store`] where nothing was committed, also if that is found out only afterwards;
    /// [`Error::CommitUnknown`] where the database did not say.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// Dropped while the body runs, its transaction is rolled back and the run is abandoned. Dropped after the body returned, the
    /// commit goes on.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub async fn commit<'a, DB, T, E>(
        self,
        pool: &sqlx::Pool<DB>,
        body: impl for<'t> FnOnce(crate::InTransaction<'t, 'a, DB>) -> BoxFuture<'t, Result<T, E>>,
    ) -> Result<T, E>
    where
        DB: crate::TransactionDatabase,
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
    {
        self.prepare().commit(pool, body).await
    }

    fn request_of<A: Serialize + ?Sized>(&self, arguments: &A) -> Result<Request, ArgumentsError> {
        Request::of(arguments, self.idempotency.shared.limits.recorded_len())
    }

    fn prepare(mut self) -> engine::Call<P> {
        // Only a call that asks may take over a key that is held.
        if self.operation.abandoned == OnAbandoned::Reconcile {
            self.operation.abandoned = OnAbandoned::Refuse;
        }
        self.prepare_as_it_is()
    }

    fn prepare_as_it_is(mut self) -> engine::Call<P> {
        let request = self.request.take().unwrap_or_else(|| self.request_of(&()));
        let shared = &self.idempotency.shared;
        let prepared = self.key.and_then(|key| Ok(Prepared { shared, key, request: request?, request_id: None }));
        engine::Call::new(self.operation, prepared)
    }
}

impl<A, P> ReconciledCall<'_, A, P> {
    /// Answers with the stored result, with what `ask` finds out, or runs the body if it is this call's to run.
    ///
    /// # Errors
    ///
    /// As [`Call::run`]. Where `ask` cannot say what happened, a retryable [`Error::Abandoned`].
    ///
    /// # Panics
    ///
    /// As [`Call::run`], and if `ask` does.
    ///
    /// # Cancel safety
    ///
    /// As [`Call::run`]. Dropped while `ask` runs, the record is as it was before.
    pub async fn run<T, E, B, F>(self, body: B) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
        A: FnOnce(Execution) -> F,
        F: Future<Output = Result<Reconciled<T>, E>>,
        B: Future<Output = Result<T, E>>,
    {
        let Self { mut call, ask } = self;
        call.operation.abandoned = OnAbandoned::Reconcile;
        let body = async move {
            if let Some(run) = reconcile::begin() {
                let found = ask(run.clone()).await;
                if let Some(answer) = reconcile::end(&run, found) {
                    return answer;
                }
            }
            body.await
        };
        call.prepare_as_it_is().run(pin!(Some(body))).await
    }
}

impl<P> DetachedCall<'_, P> {
    /// Runs the body on its own task, or answers with the stored result.
    ///
    /// # Errors
    ///
    /// As [`Call::run`].
    ///
    /// # Panics
    ///
    /// As [`Call::run`], and outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the body runs, it runs on and its result is recorded.
    // Not an `async fn`: the body is boxed here, before it is moved through frames that may be too small for it.
    pub fn run<T, E, B>(self, body: B) -> impl Future<Output = Result<T, E>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<Error> + Send + 'static,
        P: ErrorPolicy<E>,
        B: Future<Output = Result<T, E>> + Send + 'static,
    {
        let body = Box::pin(body);
        async move { self.0.prepare().run_detached(body).await }
    }
}

impl<X: OpenTransaction, P> TransactionCall<'_, '_, X, P> {
    /// Runs the body in the transaction, or answers with the stored result.
    ///
    /// # Errors
    ///
    /// As [`Call::run`]. After [`Error::Store`] the transaction has nothing of this call; if that error is retryable,
    /// begin a new transaction for the retry.
    ///
    /// # Panics
    ///
    /// As [`Call::run`].
    ///
    /// # Cancel safety
    ///
    /// Dropped or panicking half-way, it leaves a transaction that the database refuses to commit, so that there is
    /// neither a record nor half of an effect.
    pub async fn run<T, E>(self, body: impl for<'a> FnOnce(&'a mut X) -> BoxFuture<'a, Result<T, E>>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
    {
        let Self { call, transaction } = self;
        match call.prepare().begin(transaction, X::connection).await {
            ControlFlow::Break(answer) => answer,
            ControlFlow::Continue(mut begun) => {
                let (scope, transaction) = begun.body();
                let output = scope.run(pin!(Some(body(transaction)))).await;
                begun.finish(output).await
            }
        }
    }
}

/// Keys and arguments are not for logs.
impl<P> fmt::Debug for CallBuilder<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallBuilder").field("operation", &self.operation.name).finish_non_exhaustive()
    }
}

/// Keys and arguments are not for logs.
impl<P> fmt::Debug for Call<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("operation", &self.operation.name).finish_non_exhaustive()
    }
}

impl<A, P> fmt::Debug for ReconciledCall<'_, A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconciledCall").field("call", &self.call).finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for DetachedCall<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DetachedCall").field(&self.0).finish()
    }
}

impl<X, P> fmt::Debug for TransactionCall<'_, '_, X, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionCall").field("call", &self.call).finish_non_exhaustive()
    }
}
