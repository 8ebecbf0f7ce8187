//! The contract between the engine and a store: bytes in, bytes out, one atomic step per transition.
//!
//! ```text
//!                     claim                         complete
//!   vacant ────────────────────────▶ running ────────────────────▶ done
//!     ▲                              │ ▲  │ ▲ renew                  │
//!     │            release           │ │  └─┘                        │ expiry
//!     ├──────────────────────────────┘ │ claim (attempt + 1)         │
//!     │                                │                             │
//!     │  expiry, forget         abandoned (said so, or lease lapsed) │
//!     └────────────────────────────────┴─────────────────────────────┘
//! ```
//!
//! The rules every store keeps, each tested by the conformance suite (feature `testing`):
//!
//! 1. Each method is one atomic step on the store's own clock. Callers' clocks are never compared.
//! 2. [`claim`](Store::claim) answers [`Mismatch`](ClaimOutcome::Mismatch) for another fingerprint in every state that
//!    is not vacant, a lapsed one too, and changes nothing then.
//! 3. A claim that has lapsed still belongs to its owner until somebody takes it over, forgets it, or it expires: the
//!    owner's renew, complete, release and abandon succeed until then, and are [`Lost`](Transition::Lost) afterwards.
//! 4. Every method is idempotent by nonce: the same claim again answers the same [`Claimed`](ClaimOutcome::Claimed)
//!    while its run has not ended, and a transition that was already applied answers [`Applied`](Transition::Applied)
//!    where the record still shows it (complete, abandon) and changes nothing.
//! 5. Fences rise strictly per key, across takeover, expiry, forget and restart.
//! 6. A running or lapsed record stays for its lease plus its `ttl`, an abandoned one and a done one for their `ttl`;
//!    from then on the key is vacant, whether the record was removed yet or not.
//! 7. The arguments of the claim that was granted last are in the record until the key is vacant, byte for byte. No
//!    other claim changes them.

use std::{
    fmt::{self, Debug},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

pub use self::{
    error::{StoreError, StoreErrorKind},
    record::{Finished, NotKept, Outcome, Record, RecordKey, State},
    subscriptions::{Hub, Subscription},
    token::{Nonce, Token},
};
use crate::{
    error::{ConfigError, Error},
    request::fingerprint::Fingerprint,
    store::record::Hidden,
};

mod error;
pub mod immediate;
#[cfg(feature = "local-cache")]
pub(crate) mod local_cache;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
mod record;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod subscriptions;
mod token;
pub mod transactional;

use immediate::Immediate;
use transactional::Transactional;

/// A boxed, sendable future: what keeps [`Store`] object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The answer of a store, or why there is none.
pub type StoreResult<T> = Result<T, StoreError>;

/// What a claim asks for.
#[derive(Clone)]
pub struct ClaimRequest {
    /// What the caller's request hashes to; kept in the record from here on.
    pub fingerprint: Fingerprint,
    /// 128 random bits that name this claim, and no other.
    pub nonce: Nonce,
    /// How long the claim lives without being renewed.
    pub lease: Duration,
    /// How long the record is kept after its lease has lapsed.
    pub ttl: Duration,
    /// Whether an abandoned or lapsed claim may be taken over.
    pub take_over: bool,
    /// The request itself, where it is to be kept in the record beside its fingerprint.
    pub arguments: Option<Bytes>,
}

/// Arguments are not for logs.
impl Debug for ClaimRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fingerprint, nonce, lease, ttl, take_over, arguments } = self;
        f.debug_struct("ClaimRequest")
            .field("fingerprint", fingerprint)
            .field("nonce", nonce)
            .field("lease", lease)
            .field("ttl", ttl)
            .field("take_over", take_over)
            .field("arguments", &Hidden(arguments.as_ref()))
            .finish()
    }
}

/// What the key's record said to a claim.
#[derive(Clone, Debug)]
pub enum ClaimOutcome {
    /// The key is the caller's, from now for the length of the lease.
    Claimed {
        /// Proof of ownership for the transitions that follow.
        token: Token,
        /// 1 for the first run of a key, more after each takeover.
        attempt: u32,
    },
    /// Another claim is alive.
    InFlight {
        /// What is left of its lease. Never zero.
        retry_after: Duration,
    },
    /// A run has ended and its result is kept.
    Done(Finished),
    /// The owner is gone without an outcome, and the request does not allow a takeover.
    Abandoned {
        /// The attempt that was abandoned.
        attempt: u32,
    },
    /// The record was made by a request with another fingerprint. Nothing was changed.
    Mismatch,
}

/// What became of a transition by the owner of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Transition {
    /// The record is as asked for.
    Applied,
    /// The claim is not the caller's any more; nothing was changed.
    Lost,
}

/// A page of [`Store::list`].
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The records, in no particular order.
    pub records: Vec<Record>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Where a listing goes on. Opaque; meaningful only to the store that made it.
#[derive(Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// It may hold a key.
impl Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor(..)")
    }
}

/// Where records live.
///
/// Implementations are shared behind `Arc<dyn Store>` and called concurrently. All methods are cancel safe in the sense
/// that a dropped future leaves the record either before or after the transition, never between.
///
/// # Errors
///
/// A method answers [`StoreError`] for faults only (unreachable, timed out, full, a record that is not ours); the
/// outcomes of races are values. After an error the transition may or may not have been applied: the caller asks
/// again with the same nonce.
pub trait Store: Debug + Send + Sync + 'static {
    /// Takes the key for one run, or says why not. See [`ClaimOutcome`].
    fn claim<'a>(&'a self, key: &'a RecordKey, request: &'a ClaimRequest) -> BoxFuture<'a, StoreResult<ClaimOutcome>>;

    /// Moves the end of the lease to `lease` from now, and keeps the record for `ttl` beyond it.
    fn renew<'a>(
        &'a self,
        key: &'a RecordKey,
        token: &'a Token,
        lease: Duration,
        ttl: Duration,
    ) -> BoxFuture<'a, StoreResult<Transition>>;

    /// Ends the run with an outcome, kept for `ttl` from now. Wakes subscribers.
    fn complete<'a>(
        &'a self,
        key: &'a RecordKey,
        token: &'a Token,
        outcome: &'a Outcome,
        ttl: Duration,
    ) -> BoxFuture<'a, StoreResult<Transition>>;

    /// Ends the run as if it had never been: the key is vacant again. Wakes subscribers.
    ///
    /// A vacant key is as asked for: [`Transition::Applied`], so that a repeat succeeds. Only a record that shows
    /// another owner, or an end of this run other than its release, is [`Transition::Lost`].
    fn release<'a>(&'a self, key: &'a RecordKey, token: &'a Token) -> BoxFuture<'a, StoreResult<Transition>>;

    /// Ends the run without an outcome, kept for `ttl` from now. Wakes subscribers.
    fn abandon<'a>(
        &'a self,
        key: &'a RecordKey,
        token: &'a Token,
        ttl: Duration,
    ) -> BoxFuture<'a, StoreResult<Transition>>;

    /// The fence of a claim that is still the caller's; `None` when it is not.
    ///
    /// Stores that know the fence when they grant the claim put it into the [`Token`]; the others make it here, once.
    fn fence<'a>(&'a self, key: &'a RecordKey, token: &'a Token) -> BoxFuture<'a, StoreResult<Option<u64>>>;

    /// Removes the record whatever its state; says whether there was one. Wakes subscribers. For operators.
    fn forget<'a>(&'a self, key: &'a RecordKey) -> BoxFuture<'a, StoreResult<bool>>;

    /// The record as it stands, `None` where the key is vacant. For operators.
    fn inspect<'a>(&'a self, key: &'a RecordKey) -> BoxFuture<'a, StoreResult<Option<Record>>>;

    /// The records of one operation, or of all, about `limit` at a time. For operators.
    ///
    /// Records that exist from the first page to the last are listed at least once.
    fn list<'a>(
        &'a self,
        operation: Option<&'a str>,
        after: Option<&'a Cursor>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<Page>>;

    /// Removes up to `limit` expired records and says how many. Zero from stores that expire records by themselves.
    fn purge_expired(&self, limit: usize) -> BoxFuture<'_, StoreResult<usize>>;

    /// Starts listening for the end of the key's current run: from the moment this resolves, a complete, release,
    /// abandon or forget of the key, by any process, wakes the subscription.
    ///
    /// A notification is a hint; callers poll as well. A store without notifications answers [`Subscription::never`].
    fn subscribe<'a>(&'a self, key: &'a RecordKey) -> BoxFuture<'a, StoreResult<Subscription>>;

    /// What the store can do in a transaction that its caller has open; `None` from stores that are no SQL database.
    fn transactional(&self) -> Option<&dyn Transactional> {
        None
    }

    /// The store's steps without futures; `None` from stores that may have to wait.
    fn immediate(&self) -> Option<&dyn Immediate> {
        None
    }

    /// A finished record that can be shown at once, without I/O. `None` means "ask with a claim".
    fn peek(&self, key: &RecordKey) -> Option<Finished> {
        let _ = key;
        None
    }
}

macro_rules! forward_store {
    ($($pointer:ty),*) => {$(
        impl<S: Store + ?Sized> Store for $pointer {
            fn claim<'a>(
                &'a self,
                key: &'a RecordKey,
                request: &'a ClaimRequest,
            ) -> BoxFuture<'a, StoreResult<ClaimOutcome>> {
                (**self).claim(key, request)
            }
            fn renew<'a>(
                &'a self,
                key: &'a RecordKey,
                token: &'a Token,
                lease: Duration,
                ttl: Duration,
            ) -> BoxFuture<'a, StoreResult<Transition>> {
                (**self).renew(key, token, lease, ttl)
            }
            fn complete<'a>(
                &'a self,
                key: &'a RecordKey,
                token: &'a Token,
                outcome: &'a Outcome,
                ttl: Duration,
            ) -> BoxFuture<'a, StoreResult<Transition>> {
                (**self).complete(key, token, outcome, ttl)
            }
            fn release<'a>(
                &'a self,
                key: &'a RecordKey,
                token: &'a Token,
            ) -> BoxFuture<'a, StoreResult<Transition>> {
                (**self).release(key, token)
            }
            fn abandon<'a>(
                &'a self,
                key: &'a RecordKey,
                token: &'a Token,
                ttl: Duration,
            ) -> BoxFuture<'a, StoreResult<Transition>> {
                (**self).abandon(key, token, ttl)
            }
            fn fence<'a>(
                &'a self,
                key: &'a RecordKey,
                token: &'a Token,
            ) -> BoxFuture<'a, StoreResult<Option<u64>>> {
                (**self).fence(key, token)
            }
            fn forget<'a>(&'a self, key: &'a RecordKey) -> BoxFuture<'a, StoreResult<bool>> {
                (**self).forget(key)
            }
            fn inspect<'a>(
                &'a self,
                key: &'a RecordKey,
            ) -> BoxFuture<'a, StoreResult<Option<Record>>> {
                (**self).inspect(key)
            }
            fn list<'a>(
                &'a self,
                operation: Option<&'a str>,
                after: Option<&'a Cursor>,
                limit: usize,
            ) -> BoxFuture<'a, StoreResult<Page>> {
                (**self).list(operation, after, limit)
            }
            fn purge_expired(&self, limit: usize) -> BoxFuture<'_, StoreResult<usize>> {
                (**self).purge_expired(limit)
            }
            fn subscribe<'a>(
                &'a self,
                key: &'a RecordKey,
            ) -> BoxFuture<'a, StoreResult<Subscription>> {
                (**self).subscribe(key)
            }
            fn transactional(&self) -> Option<&dyn Transactional> {
                (**self).transactional()
            }
            fn immediate(&self) -> Option<&dyn Immediate> {
                (**self).immediate()
            }
            fn peek(&self, key: &RecordKey) -> Option<Finished> {
                (**self).peek(key)
            }
        }
    )*};
}

forward_store!(Arc<S>, Box<S>);

/// The store that a URL names.
#[cfg_attr(
    not(any(feature = "postgres", feature = "redis", feature = "sqlite")),
    expect(clippy::unused_async, reason = "the embedded store is not waited for")
)]
pub(crate) async fn connect(url: &str) -> Result<Arc<dyn Store>, Error> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        #[cfg(feature = "memory")]
        "memory" => Ok(Arc::new(memory::MemoryStore::new())),
        #[cfg(not(feature = "memory"))]
        "memory" => Err(ConfigError::Scheme { feature: Some("memory") }.into()),
        #[cfg(feature = "redis")]
        _ if scheme.starts_with("redis") || scheme == "unix" => Ok(Arc::new(redis::RedisStore::connect(url).await?)),
        #[cfg(not(feature = "redis"))]
        _ if scheme.starts_with("redis") => Err(ConfigError::Scheme { feature: Some("redis") }.into()),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(postgres::PostgresStore::connect(url).await?)),
        #[cfg(not(feature = "postgres"))]
        "postgres" | "postgresql" => Err(ConfigError::Scheme { feature: Some("postgres") }.into()),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(sqlite::SqliteStore::connect(url).await?)),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(ConfigError::Scheme { feature: Some("sqlite") }.into()),
        _ => Err(ConfigError::Scheme { feature: None }.into()),
    }
}
