//! The handle: a store, limits, and what calls in this process share.

#[cfg(feature = "local-cache")]
use std::time::Duration;
use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    sync::{Arc, atomic::AtomicUsize},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    engine::{Call, Flights},
    error::{Error, SetupError},
    operation::{ErrorPolicy, Operation},
    request::{arguments, arguments::Request, fingerprint::Fingerprint, key},
    store::{BoxFuture, Cursor, Page, Record, RecordKey, Store, transactional::OpenTransaction},
};

/// A store and the limits that calls through it keep.
///
/// Cloning is cheap and shares everything. Calls through one handle (and its clones) that are duplicates of each other
/// share one claim; give each process one handle per store.
///
/// ```
/// # use idempotent_runtime::{Error, Idempotency};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// let idempotency = Idempotency::memory();
/// let charge = async |amount: u64| {
///     idempotency.call("charge", "order-17", &amount, async { Ok::<_, Error>(format!("charged {amount}")) }).await
/// };
/// assert_eq!(charge(100).await?, "charged 100");
/// assert_eq!(charge(100).await?, "charged 100"); // not run again
/// assert!(matches!(charge(999).await, Err(Error::Mismatch { .. })));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Idempotency {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) limits: Limits,
    pub(crate) flights: Flights,
    pub(crate) waiters: AtomicUsize,
}

/// What a handle was built with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_key_len: usize,
    pub(crate) max_result_len: usize,
    pub(crate) max_waiters: usize,
    pub(crate) on_store_failure: OnStoreFailure,
    record_arguments: bool,
    max_arguments_len: usize,
}

impl Limits {
    /// How many bytes of arguments are recorded, where they are.
    pub(crate) fn recorded_len(&self) -> Option<usize> {
        self.record_arguments.then_some(self.max_arguments_len)
    }
}

impl Idempotency {
    /// A handle on this store, with the default limits.
    #[must_use]
    pub fn new(store: impl Store) -> Self {
        Self::builder().build(store)
    }

    /// A handle on a new embedded store: one process, lost on exit.
    #[cfg(feature = "memory")]
    #[must_use]
    pub fn memory() -> Self {
        Self::new(crate::store::memory::MemoryStore::new())
    }

    /// A handle on the store that the URL names, with the default limits.
    ///
    /// | URL | store | feature |
    /// |---|---|---|
    /// | `memory:` | embedded | `memory` |
    /// | `redis://[user:password@]host[:port][/db]`, `rediss://…` | Redis or Valkey | `redis`, `redis-tls` |
    /// | `redis+cluster://host:port,host:port,…` | a cluster of them | `redis` |
    /// | `redis+sentinel://host:port,…/master-name[/db]` | a primary that sentinels watch | `redis` |
    /// | `postgres://[user[:password]@]host[:port]/database` | PostgreSQL | `postgres`, `postgres-tls` |
    /// | `sqlite://relative/path`, `sqlite:///absolute/path` | a SQLite file | `sqlite` |
    ///
    /// # Errors
    ///
    /// [`SetupError::Scheme`] and [`SetupError::Url`] for a URL that is not understood, [`SetupError::Store`] for a store
    /// that cannot be reached or whose settings do not allow the promises.
    pub async fn connect(url: &str) -> Result<Self, SetupError> {
        Self::builder().connect(url).await
    }

    /// Other limits than the default ones.
    pub fn builder() -> IdempotencyBuilder {
        IdempotencyBuilder::default()
    }

    /// Runs the body once per key, or answers with the stored result: what the attribute does, without it.
    ///
    /// The arguments are hashed, so that the key with other arguments is refused. `operation` is a name, or an
    /// [`Operation`] with policies.
    ///
    /// # Errors
    ///
    /// The body's own, and [`Error`] converted into them.
    ///
    /// # Panics
    ///
    /// If the body does, or the `Serialize` of its arguments or key.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the body runs, the run is abandoned and the operation's policy decides ([`Operation::abandoned`]).
    /// Dropped before, nothing has happened; dropped after the body returned, its result is recorded all the same.
    pub async fn call<P, K, A, T, E, B>(
        &self,
        operation: impl Into<Operation<P>>,
        key: &K,
        arguments: &A,
        body: B,
    ) -> Result<T, E>
    where
        K: Serialize + ?Sized,
        A: Serialize + ?Sized,
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
        B: Future<Output = Result<T, E>>,
    {
        self.prepare(operation.into(), key, arguments).run(std::pin::pin!(Some(body))).await
    }

    /// The same with the body on a task of its own: dropping the caller's future does not stop it half-way.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    ///
    /// # Panics
    ///
    /// As [`call`](Self::call), and outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the body runs, it runs on and its result is recorded.
    pub async fn call_detached<P, K, A, T, E, B>(
        &self,
        operation: impl Into<Operation<P>>,
        key: &K,
        arguments: &A,
        body: B,
    ) -> Result<T, E>
    where
        K: Serialize + ?Sized,
        A: Serialize + ?Sized,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<Error> + Send + 'static,
        P: ErrorPolicy<E>,
        B: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.prepare(operation.into(), key, arguments).run_detached(body).await
    }

    /// The same in a transaction that the caller has open: the record and what the body writes are committed together,
    /// when the caller commits, or not at all. What `transaction = …` of the attribute does.
    ///
    /// The store has to be in the same database. A duplicate waits there until the other transaction has ended, up to
    /// the operation's `wait`. An `Err` of the body takes back what the body wrote, however the caller goes on.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call). After [`Error::Store`] the transaction has nothing of this call; if that error is
    /// retryable, begin a new transaction for the retry.
    ///
    /// # Panics
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// Dropped or panicking half-way, it leaves a transaction that the database refuses to commit, so that there is
    /// neither a record nor half of an effect.
    pub async fn call_in_transaction<X, P, K, A, T, E>(
        &self,
        transaction: &mut X,
        operation: impl Into<Operation<P>>,
        key: &K,
        arguments: &A,
        body: impl for<'a> FnOnce(&'a mut X) -> BoxFuture<'a, Result<T, E>>,
    ) -> Result<T, E>
    where
        X: OpenTransaction,
        K: Serialize + ?Sized,
        A: Serialize + ?Sized,
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
    {
        match self.prepare(operation.into(), key, arguments).begin(transaction, X::connection).await {
            ControlFlow::Break(answer) => answer,
            ControlFlow::Continue(mut begun) => {
                let (around, transaction) = begun.body();
                let output = around.run(std::pin::pin!(Some(body(transaction)))).await;
                begun.finish(output).await
            }
        }
    }

    fn prepare<P, K, A>(&self, operation: Operation<P>, key: &K, arguments: &A) -> Call<P>
    where
        K: Serialize + ?Sized,
        A: Serialize + ?Sized,
    {
        let request = Fingerprint::of(arguments).and_then(|fingerprint| {
            let recorded = self.inner.limits.recorded_len().map(|max_len| arguments::json(arguments, max_len));
            Ok(Request { fingerprint, arguments: recorded.transpose()? })
        });
        Call::new(Ok(self), operation, request, |writer, _| writer.value(key))
    }

    /// Removes the record of a key, whatever its state, and says whether there was one. For operators: this is how an
    /// abandoned key is resolved. The next call runs the body; a body that is running now cannot record its result.
    ///
    /// # Errors
    ///
    /// [`Error::Key`], [`Error::Store`].
    pub async fn forget<K: Serialize + ?Sized>(&self, operation: &str, key: &K) -> Result<bool, Error> {
        Ok(self.inner.store.forget(&self.record_key(operation, key)?).await?)
    }

    /// The record of a key, `None` if there is none. For operators.
    ///
    /// # Errors
    ///
    /// [`Error::Key`], [`Error::Store`], [`Error::Undecodable`].
    pub async fn inspect<K: Serialize + ?Sized>(&self, operation: &str, key: &K) -> Result<Option<Record>, Error> {
        Ok(self.inner.store.inspect(&self.record_key(operation, key)?).await?)
    }

    /// The records of one operation or of all, about `limit` at a time; a record can be listed twice. For operators.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> Result<Page, Error> {
        Ok(self.inner.store.list(operation, after, limit).await?)
    }

    /// Removes up to `limit` expired records and says how many. For stores that do not expire records by themselves.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn purge_expired(&self, limit: usize) -> Result<usize, Error> {
        Ok(self.inner.store.purge_expired(limit).await?)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    fn record_key<K: Serialize + ?Sized>(&self, operation: &str, key: &K) -> Result<RecordKey, Error> {
        key::record_key(operation, self.inner.limits.max_key_len, |writer| writer.value(key))
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("store", &self.inner.store)
            .field("limits", &self.inner.limits)
            .finish_non_exhaustive()
    }
}

/// What a call does when the store is out of reach at its claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnStoreFailure {
    /// Answers [`Error::Store`]; the body does not run.
    #[default]
    Fail,
    /// Runs the body without protection, and says so: duplicates can run, and nothing is stored.
    RunUnprotected,
}

/// Builds a handle with other limits than the default ones.
#[derive(Clone, Debug)]
#[must_use]
pub struct IdempotencyBuilder {
    limits: Limits,
    #[cfg(feature = "local-cache")]
    local_cache: Option<usize>,
}

impl Default for IdempotencyBuilder {
    fn default() -> Self {
        Self {
            limits: Limits {
                max_key_len: 1024,
                max_result_len: 1024 * 1024,
                max_waiters: 10_000,
                on_store_failure: OnStoreFailure::Fail,
                record_arguments: false,
                max_arguments_len: 64 * 1024,
            },
            #[cfg(feature = "local-cache")]
            local_cache: None,
        }
    }
}

impl IdempotencyBuilder {
    /// The longest key, in bytes of its encoded form. 1,024 unless said otherwise; longer ones are [`Error::Key`].
    pub const fn max_key_len(mut self, bytes: usize) -> Self {
        self.limits.max_key_len = bytes;
        self
    }

    /// The largest result that is kept, in bytes of its serialized form. 1 MiB unless said otherwise; of larger ones
    /// only the fact is kept, and repeats get [`Error::ResultNotKept`].
    pub const fn max_result_len(mut self, bytes: usize) -> Self {
        self.limits.max_result_len = bytes;
        self
    }

    /// How many calls may wait for running duplicates at a time, in this process. 10,000 unless said otherwise;
    /// further ones get [`Error::TooManyWaiters`].
    pub const fn max_waiters(mut self, calls: usize) -> Self {
        self.limits.max_waiters = calls;
        self
    }

    /// What a call does when the store is out of reach. Fails unless said otherwise.
    pub const fn on_store_failure(mut self, what: OnStoreFailure) -> Self {
        self.limits.on_store_failure = what;
        self
    }

    /// How long a result is shown from the [local cache](Self::local_cache) at most: 60 seconds.
    #[cfg(feature = "local-cache")]
    pub const LOCAL_CACHE_MAX_AGE: Duration = crate::store::local_cache::MAX_AGE;

    /// Keeps finished results in this process too, in about so many bytes, so that their repeats are answered without
    /// asking the store. Off unless said otherwise; for stores that are shared, since the embedded one has nothing to gain.
    ///
    /// - The key with another request is refused from here as from the store.
    /// - No result is shown past its expiry on the store's clock. Only where that clock is set ahead, or loses its records,
    ///   a result can be shown for [`LOCAL_CACHE_MAX_AGE`](Self::LOCAL_CACHE_MAX_AGE) after that.
    /// - [`forget`](Idempotency::forget) through this handle or a clone counts at once. Elsewhere, in another process or on
    ///   another handle, it counts here within `LOCAL_CACHE_MAX_AGE`.
    ///
    /// What was run through this handle is kept as it completes. Of what others ran, the first repeat here asks the
    /// store twice; it does so again for what is still asked for after `LOCAL_CACHE_MAX_AGE`.
    ///
    /// Counted are keys, results, and 300 bytes for each of them. When it is full, what is seldom asked for is dropped.
    /// A result that takes more than half of the bytes, or 2 MiB, is not kept.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), idempotent_runtime::SetupError> {
    /// use idempotent_runtime::Idempotency;
    ///
    /// let idempotency = Idempotency::builder().local_cache(64 << 20).connect("redis://localhost").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "local-cache")]
    pub const fn local_cache(mut self, max_bytes: usize) -> Self {
        self.local_cache = Some(max_bytes);
        self
    }

    /// Keeps the arguments of each call in its record, as JSON, for audits: [`Record::arguments`] shows them. And where
    /// both calls did so, [`Error::Mismatch`] names the arguments that differ. Off unless said otherwise.
    ///
    /// Of an annotated function it is one object of the arguments that are hashed. Those in `skip(…)` are not in it: leave
    /// out what must not be stored. Arguments may be personal data, which then is in the store, and in its backups,
    /// for as long as the record.
    ///
    /// Every call serializes its arguments once more then, and sends them along with its claim. What has no JSON, such as
    /// a map whose keys are no text, is [`Error::Arguments`] before anything is claimed; what JSON has only `null` for
    /// (infinity, `Some(None)`) is `null`.
    ///
    /// ```
    /// # use idempotent_runtime::{Error, Idempotency, store::memory::MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// #[derive(serde::Serialize)]
    /// struct Charge {
    ///     amount_cents: u64,
    ///     currency: &'static str,
    /// }
    ///
    /// let audited = Idempotency::builder().record_arguments(true).build(MemoryStore::new());
    /// let charge = async |amount_cents| {
    ///     let arguments = Charge { amount_cents, currency: "EUR" };
    ///     audited.call("charge", "order-17", &arguments, async { Ok::<_, Error>(()) }).await
    /// };
    /// charge(4_200).await?;
    /// let record = audited.inspect("charge", "order-17").await?.expect("a record");
    /// assert_eq!(record.arguments.as_deref(), Some(&br#"{"amount_cents":4200,"currency":"EUR"}"#[..]));
    ///
    /// let refused = charge(9_999).await.unwrap_err();
    /// assert!(matches!(refused, Error::Mismatch { arguments, .. } if *arguments == ["amount_cents"]));
    /// # Ok(()) }
    /// ```
    ///
    /// [`Record::arguments`]: crate::Record::arguments
    pub const fn record_arguments(mut self, record: bool) -> Self {
        self.limits.record_arguments = record;
        self
    }

    /// The most of a call's arguments that is [recorded](Self::record_arguments), in bytes of JSON. 64 KiB unless said
    /// otherwise; calls with more are [`Error::Arguments`].
    pub const fn max_arguments_len(mut self, bytes: usize) -> Self {
        self.limits.max_arguments_len = bytes;
        self
    }

    /// A handle on this store.
    #[must_use]
    pub fn build(self, store: impl Store) -> Idempotency {
        let store: Arc<dyn Store> = Arc::new(store);
        #[cfg(feature = "local-cache")]
        let store = match self.local_cache {
            Some(max_bytes) => Arc::new(crate::store::local_cache::Cached::new(store, max_bytes)),
            None => store,
        };
        Idempotency {
            inner: Arc::new(Inner {
                store,
                limits: self.limits,
                flights: Flights::new(),
                waiters: AtomicUsize::new(0),
            }),
        }
    }

    /// A handle on the store that the URL names. See [`Idempotency::connect`].
    ///
    /// # Errors
    ///
    /// As [`Idempotency::connect`].
    pub async fn connect(self, url: &str) -> Result<Idempotency, SetupError> {
        let store: Arc<dyn Store> = crate::store::url::connect(url).await?;
        Ok(self.build(store))
    }
}
