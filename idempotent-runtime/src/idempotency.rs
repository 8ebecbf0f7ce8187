//! The public handle: a store, and the limits of calls through it.

use std::{fmt, sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    engine::shared::{Caller, Limits, OnStoreFailure, Shared},
    error::{Error, SetupError},
    operator::Operator,
    request::key,
    store::{Cursor, Page, Record, RecordKey, Store},
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
///     idempotency.call("charge").key("order-17").arguments(&amount).run(async { Ok::<_, Error>(format!("charged {amount}")) }).await
/// };
/// assert_eq!(charge(100).await?, "charged 100");
/// assert_eq!(charge(100).await?, "charged 100"); // not run again
/// assert!(matches!(charge(999).await, Err(Error::Mismatch { .. })));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Idempotency {
    pub(crate) shared: Arc<Shared>,
}

impl Idempotency {
    /// Makes a handle on this store, with the default limits.
    #[must_use]
    pub fn new(store: impl Store) -> Self {
        Self::builder().build(store)
    }

    /// Makes a handle on a new embedded store: one process, lost on exit.
    #[cfg(feature = "memory")]
    #[must_use]
    pub fn memory() -> Self {
        Self::new(crate::store::memory::MemoryStore::new())
    }

    /// Makes a handle that runs each body and keeps nothing: for unit tests of bodies alone.
    ///
    /// Each call is the first of its key, repeats and calls at once included, also with `transaction = tx`, whose statements are then
    /// those of the body.
    ///
    /// ```
    /// # use idempotent_runtime::{Error, Idempotency};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// let idempotency = Idempotency::passthrough();
    /// for run in 1..=2 {
    ///     assert_eq!(idempotency.call("mail.send").key("m-1").run(async { Ok::<_, Error>(run) }).await?, run);
    /// }
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn passthrough() -> Self {
        let mut builder = Self::builder();
        builder.limits.runs_duplicates = true;
        builder.build(crate::testing::passthrough::Passthrough)
    }

    /// Makes a handle on the store that the URL names, with the default limits.
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

    /// Builds a handle with other limits than the default ones.
    pub fn builder() -> IdempotencyBuilder {
        IdempotencyBuilder::default()
    }

    /// Waits until no run is under way through this handle and its clones: bodies in place, detached, in transactions or
    /// behind the HTTP layer, and the recording of their ends in the background. Gives the number of runs that are left at
    /// the deadline, 0 if none is.
    ///
    /// For shutdowns: stop taking calls, and then wait. A call that begins meanwhile is waited for, too.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use idempotent_runtime::{Error, Idempotency};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let idempotency = Idempotency::memory();
    /// let handle = idempotency.clone();
    /// tokio::spawn(async move {
    ///     let mail = async { Ok::<_, Error>(tokio::time::sleep(Duration::from_millis(20)).await) };
    ///     handle.call("mail").key("m-1").detached().run(mail).await
    /// });
    /// tokio::task::yield_now().await;
    /// let left = idempotency.drain(Duration::from_secs(10)).await;
    /// assert_eq!(left, 0);
    /// assert!(idempotency.inspect("mail", "m-1").await.unwrap().is_some());
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// On a Tokio runtime without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the wait and nothing else.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let runs = &self.shared.runs;
        match tokio::time::timeout(deadline, runs.none()).await {
            Ok(()) => 0,
            Err(_) => runs.count(),
        }
    }

    /// Gives the record of a key, `None` if there is none. For operators.
    ///
    /// `key` is a value, as [`CallBuilder::key`](crate::CallBuilder::key) takes it. A key that a template or the hash of
    /// the arguments made is no value: see [`inspect_record`](Self::inspect_record).
    ///
    /// # Errors
    ///
    /// [`Error::Key`], [`Error::Store`], [`Error::Undecodable`].
    pub async fn inspect<K: Serialize + ?Sized>(&self, operation: &str, key: &K) -> Result<Option<Record>, Error> {
        self.inspect_record(&self.encode_key(operation, key)?).await
    }

    /// Gives the record with this key, `None` if there is none. For operators.
    ///
    /// The key comes from a [`Record`] that [`list`](Self::list) gave, or is parsed from its text, whoever made it: a
    /// value, a template, or the hash of the arguments.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, RecordKey, idempotent};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let idempotency = Idempotency::memory();
    /// #[idempotent(name = "payments.charge", key = "order:{order_id}", store = idempotency, skip(idempotency))]
    /// async fn charge(idempotency: &Idempotency, order_id: u32) -> Result<(), idempotent_runtime::Error> {
    ///     Ok(())
    /// }
    ///
    /// charge(&idempotency, 17).await?;
    /// let listed = idempotency.list(Some("payments.charge"), None, 10).await?;
    /// let key = &listed.records[0].key;
    /// assert_eq!(key.as_str(), "payments.charge|order:(~17)");
    /// assert!(idempotency.inspect_record(key).await?.is_some());
    /// assert!(idempotency.forget_record(&"payments.charge|order:(~17)".parse()?).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Store`], [`Error::Undecodable`].
    pub async fn inspect_record(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        Ok(self.shared.store.inspect(key).await?)
    }

    /// Removes the record of a key, whatever its state, and says whether there was one. The next call runs the body; a body that is
    /// running now cannot record its result. An operator ends what a record leaves open with
    /// [`Operator::resolve`](crate::operator::Operator::resolve), which changes only what was seen.
    ///
    /// `key` is a value, as [`inspect`](Self::inspect) takes it.
    ///
    /// # Errors
    ///
    /// [`Error::Key`], [`Error::Store`].
    pub async fn forget<K: Serialize + ?Sized>(&self, operation: &str, key: &K) -> Result<bool, Error> {
        self.forget_record(&self.encode_key(operation, key)?).await
    }

    /// Removes the record with this key, as [`forget`](Self::forget) does. The key comes from [`list`](Self::list), or is
    /// parsed from its text, as [`inspect_record`](Self::inspect_record) takes it.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn forget_record(&self, key: &RecordKey) -> Result<bool, Error> {
        Ok(self.shared.store.forget(key).await?)
    }

    /// Lists the records of one operation or of all, about `limit` at a time; a record can be listed twice. For operators.
    ///
    /// The operation is named as calls name it, or as [`RecordKey::operation`] of a record does.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> Result<Page, Error> {
        let operation = operation.map(key::operation);
        Ok(self.shared.store.list(operation.as_deref(), after, limit).await?)
    }

    /// Removes up to `limit` expired records and says how many. For stores that do not expire records by themselves.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn purge_expired(&self, limit: usize) -> Result<usize, Error> {
        Ok(self.shared.store.purge_expired(limit).await?)
    }

    /// A view of the records for operators: listings with filters, and what the next call of a key would get.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator::new(self.clone())
    }

    /// The store that this handle is on.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// Encodes a key as [`CallBuilder::key`](crate::CallBuilder::key) does.
    pub(crate) fn encode_key<K: Serialize + ?Sized>(&self, operation: &str, key: &K) -> Result<RecordKey, Error> {
        key::record_key(operation, self.shared.limits.max_key_len, |writer| writer.value(key))
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("store", &self.shared.store)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for IdempotencyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyBuilder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

const KEY_LIMIT: &str = "`max_key_len` is above 2,048 bytes, which is what every store can hold: lower it";

/// Builds a handle with other limits than the default ones.
#[derive(Clone, Default)]
#[must_use]
pub struct IdempotencyBuilder {
    limits: Limits,
    caller: Option<Caller>,
    #[cfg(feature = "local-cache")]
    local_cache: Option<usize>,
}

impl IdempotencyBuilder {
    /// The highest value of [`max_key_len`](Self::max_key_len): what the index of PostgreSQL holds beside the longest name
    /// of an operation. It is the same for every store, so that a change of the store refuses no key.
    pub const MAX_KEY_LEN: usize = 2_048;

    /// Sets the longest key, in bytes of its encoded form. 1,024 unless said otherwise, and up to
    /// [`MAX_KEY_LEN`](Self::MAX_KEY_LEN); longer ones are [`Error::Key`]. A handle with a higher limit cannot be built.
    pub const fn max_key_len(mut self, bytes: usize) -> Self {
        self.limits.max_key_len = bytes;
        self
    }

    /// Sets the largest result that is kept, in bytes of its serialized form. 1 MiB unless said otherwise; of larger ones
    /// only the fact is kept, and repeats get [`Error::ResultNotKept`].
    pub const fn max_result_len(mut self, bytes: usize) -> Self {
        self.limits.max_result_len = bytes;
        self
    }

    /// Sets how many [steps](crate::step) a run may have. 1,000 unless said otherwise; further ones are
    /// [`Error::Step`](crate::Error::Step).
    pub const fn max_steps(mut self, steps: usize) -> Self {
        self.limits.max_steps = steps;
        self
    }

    /// Sets how large the [steps](crate::step) of a run may be together, in bytes of their names and values. 1 MiB unless said
    /// otherwise; of the step that passes it only the fact is kept, and further ones are [`Error::Step`](crate::Error::Step).
    pub const fn max_steps_len(mut self, bytes: usize) -> Self {
        self.limits.max_steps_len = bytes;
        self
    }

    /// Sets how many calls may wait for running duplicates at a time, in this process. 10,000 unless said otherwise;
    /// further ones get [`Error::TooManyWaiters`].
    pub const fn max_waiters(mut self, calls: usize) -> Self {
        self.limits.max_waiters = calls;
        self
    }

    /// Sets the answer to a call whose claim finds the store out of reach. It fails unless said otherwise.
    pub const fn on_store_failure(mut self, what: OnStoreFailure) -> Self {
        self.limits.on_store_failure = what;
        self
    }

    /// The longest time that the [local cache](Self::local_cache) shows a result: 60 seconds.
    #[cfg(feature = "local-cache")]
    pub const LOCAL_CACHE_MAX_AGE: Duration = crate::store::local_cache::MAX_AGE;

    /// Keeps finished results in this process too, in about so many bytes, so that their repeats are answered without
    /// asking the store. Off unless said otherwise. For shared stores: the embedded one has nothing to gain.
    ///
    /// - The cache refuses a key with another request, as the store does.
    /// - It shows no result past its expiry on the store's clock. Only if that clock is set ahead, or the store loses its
    ///   records, can it show a result for [`LOCAL_CACHE_MAX_AGE`](Self::LOCAL_CACHE_MAX_AGE) after that.
    /// - [`forget`](Idempotency::forget) and [`resolve`](crate::operator::Operator::resolve) through this handle or a clone take
    ///   effect at once. Through another handle or process, they take effect here within `LOCAL_CACHE_MAX_AGE`.
    ///
    /// A result of a body that ran through this handle is cached as it completes. For a result of another process, the
    /// first repeat here asks the store twice, and again each time `LOCAL_CACHE_MAX_AGE` has passed.
    ///
    /// Each entry counts its key, its result and 300 bytes of overhead. When the cache is full, rarely used entries are
    /// evicted. A result that takes more than half of the bytes, or 2 MiB, is not cached.
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

    /// Keeps the arguments of each call in its record, as JSON, for audits: [`Record::arguments`] shows them. Where both
    /// calls recorded theirs, [`Error::Mismatch`] names the arguments that differ. Off unless said otherwise.
    ///
    /// The record of an annotated function has one object of the arguments that are hashed. Arguments in `skip(…)` are not
    /// in it: skip what must not be stored. Arguments may be personal data, which is then in the store and in its backups
    /// for as long as the record.
    ///
    /// The record of a request behind the layer for HTTP (feature `tower`) has the request: `method`, `path`, `query` and `body`, the
    /// latter as `json`, `text` or `base64`. A body that does not fit into [`max_arguments_len`](Self::max_arguments_len) is left out,
    /// and `omitted_bytes` says how long it was. Headers are not recorded, as they have credentials; a query or a body may have some, too.
    ///
    /// Every call then serializes its arguments once more, and sends them with its claim. Arguments that JSON cannot hold,
    /// such as a map whose keys are no text, are [`Error::Arguments`] before anything is claimed. Infinity and `Some(None)`
    /// are written as `null`.
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
    ///     audited.call("charge").key("order-17").arguments(&arguments).run(async { Ok::<_, Error>(()) }).await
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

    /// Sets the limit for the [recorded](Self::record_arguments) arguments of a call, in bytes of JSON. 64 KiB unless said
    /// otherwise; calls with more are [`Error::Arguments`], and requests behind the layer for HTTP are recorded without their body.
    pub const fn max_arguments_len(mut self, bytes: usize) -> Self {
        self.limits.max_arguments_len = bytes;
        self
    }

    /// Has each claim say who makes it, for operators: [`Record::context`](crate::Record::context) answers which request holds a key, or has run
    /// it. The function is called for each claim, where the call is made; up to 256 bytes of its text are kept, for as long as
    /// the record, and duplicates are not told. Nothing is said unless this is set; behind the layer for HTTP (feature `tower`)
    /// it is the request's `x-request-id` where this says nothing.
    ///
    /// ```
    /// # use idempotent_runtime::{Error, Idempotency, store::memory::MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// tokio::task_local! { static TRACE: String }
    ///
    /// let traced = || TRACE.try_with(Clone::clone).ok();
    /// let idempotency = Idempotency::builder().context(traced).build(MemoryStore::new());
    /// let charge = idempotency.call("charge").key("order-17").run(async { Ok::<_, Error>(()) });
    /// TRACE.scope("trace 4bf92f35".to_owned(), charge).await?;
    ///
    /// let record = idempotency.inspect("charge", "order-17").await?.expect("a record");
    /// assert_eq!(record.context.as_deref(), Some("trace 4bf92f35"));
    /// # Ok(()) }
    /// ```
    pub fn context(mut self, caller: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        self.caller = Some(Arc::new(caller));
        self
    }

    /// Makes a handle on this store.
    ///
    /// # Panics
    ///
    /// Where [`max_key_len`](Self::max_key_len) is above [`MAX_KEY_LEN`](Self::MAX_KEY_LEN).
    #[must_use]
    pub fn build(self, store: impl Store) -> Idempotency {
        assert!(self.limits.max_key_len <= Self::MAX_KEY_LEN, "{KEY_LIMIT}");
        self.share(Arc::new(store))
    }

    fn share(self, store: Arc<dyn Store>) -> Idempotency {
        #[cfg(feature = "local-cache")]
        let store = match self.local_cache {
            Some(max_bytes) => Arc::new(crate::store::local_cache::LocalCache::new(store, max_bytes)),
            None => store,
        };
        Idempotency { shared: Arc::new(Shared::new(store, self.limits, self.caller)) }
    }

    /// Makes a handle on the store that the URL names. See [`Idempotency::connect`].
    ///
    /// # Errors
    ///
    /// As [`Idempotency::connect`], and [`SetupError::Setting`] where [`max_key_len`](Self::max_key_len) is above
    /// [`MAX_KEY_LEN`](Self::MAX_KEY_LEN).
    pub async fn connect(self, url: &str) -> Result<Idempotency, SetupError> {
        if self.limits.max_key_len > Self::MAX_KEY_LEN {
            return Err(SetupError::Setting(KEY_LIMIT));
        }
        Ok(self.share(crate::store::url::connect(url).await?))
    }
}
