//! The contract between the engine and a store: bytes in, bytes out, one atomic transition a method.
//!
//! ```text
//!                claim                          complete
//!   vacant ───────────────────────▶ running ─────────────────▶ done
//!     ▲  ▲                          │ ▲ │  ▲ renew, append        │
//!     │  │   release, without steps │ │ │  └─┘                    │
//!     │  └──────────────────────────┘ │ │                         │
//!     │         claim (attempt + 1)   │ │ suspend, release, or    │
//!     │                               │ ▼ the lease lapses        │
//!     │ expiry, forget        failed, abandoned                   │
//!     ├───────────────────────────────┘                           │
//!     │ expiry, forget                                            │
//!     └───────────────────────────────────────────────────────────┘
//!
//!                resolve: from any of these to done, failed or vacant
//! ```
//!
//! The rules every store keeps, each tested by the conformance suite (feature `testing`):
//!
//! 1. Each method is one atomic transition on the store's own clock. Callers' clocks are never compared.
//! 2. A [`claim`](Store::claim) with another fingerprint gets [`Mismatch`](ClaimOutcome::Mismatch) in every state but vacant, and
//!    changes nothing.
//! 3. The owner of a lapsed claim may renew, complete, release or suspend it, or append to it, until it is taken over,
//!    forgotten or expired. After that each answers that the claim is lost, except a release of a vacant key, which is
//!    [`Applied`](Transition::Applied).
//! 4. Every method is idempotent by nonce. A repeated claim gets the same [`Claimed`](ClaimOutcome::Claimed) until its run has
//!    ended. Once its run is suspended, and until another claim is granted, the store never grants it again: such a try was
//!    delayed on its way, and nobody would have the run that it begins. It gets [`Suspended`](ClaimOutcome::Suspended), unless
//!    rule 8 has another answer. A repeated complete or suspend gets `Applied` while the record shows it, a repeated release
//!    while the key is vacant or failed, a repeated append while the run goes on. A repeat changes nothing; a repeated renewal
//!    or append moves the end of the lease again.
//! 5. Fences rise strictly per key, across takeover, expiry, forget and restart.
//! 6. A store keeps a running or lapsed record for its lease plus its `ttl`, a suspended one for its `keep` from its
//!    `not_before` on, a finished one for its `ttl`. Then the key is vacant, even if the record has not been removed yet.
//! 7. The arguments and the context of the claim that was granted last are in the record until the key is vacant, byte for
//!    byte. No other claim changes them. A resolution puts its own context in the place of the claim's.
//! 8. A claim looks at a record in this order: another request, a result, a live lease, an abandoned run that it may not take
//!    over, a time before which nobody may. A claim that takes over tells what was before, also when it is repeated.
//! 9. The journal of steps is the life's: takeovers keep it, and it goes in the same step as the record, or when the run is
//!    completed, but not as exhausted: an operator may have that key run again. A record with a journal is never released, but suspended as failed.
//! 10. A [`resolve`](Store::resolve) changes only the record that was seen, and no run that is alive unless it says so. To the
//!     owner before it is a takeover.

use std::{
    fmt::{self, Debug},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::{
    dead_letters::{DeadLetter, DeadLetters, Replay},
    error::{StoreError, StoreErrorKind},
    record::{Finished, KeyDigest, NotKept, Outcome, Record, RecordKey, RecordKeyError, State, Step},
    resolve::{Resolution, ResolveRequest, Resolved, Seen},
    subscriptions::{Subscribers, Subscription},
    token::{Generation, Nonce, Token},
};
use crate::{request::fingerprint::Fingerprint, store::record::Hidden};

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod batcher;
mod dead_letters;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod duration;
mod error;
mod forward;
#[doc(hidden)]
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
mod resolve;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod subscriptions;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod tls;
mod token;
pub mod transactional;
pub(crate) mod url;

use immediate::Immediate;
use transactional::Transactional;

/// A boxed, sendable future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The answer of a store, or the fault that kept it from answering.
pub type StoreResult<T> = Result<T, StoreError>;

/// A request for a key, made by the engine and read by a store.
///
/// ```
/// use std::time::Duration;
/// use idempotent_runtime::{Fingerprint, store::{ClaimRequest, Nonce, TakeOver}};
///
/// let fingerprint = Fingerprint::from_bytes([7; Fingerprint::LEN]);
/// let (lease, ttl) = (Duration::from_secs(30), Duration::from_secs(86_400));
/// let request = ClaimRequest::new(fingerprint, Nonce::random(), lease, ttl).with_take_over(TakeOver::Never);
/// assert!(request.arguments.is_none());
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// The hash of the caller's request; the record keeps it from here on.
    pub fingerprint: Fingerprint,
    /// 128 random bits that name this claim, and no other.
    pub nonce: Nonce,
    /// The time that the claim lives without being renewed.
    pub lease: Duration,
    /// The time that the record is kept after its lease has lapsed. With more than [`HELD`](Self::HELD), the claim holds
    /// its key.
    pub ttl: Duration,
    /// The abandoned and lapsed claims that may be taken over.
    pub take_over: TakeOver,
    /// The request itself, where the record keeps it beside its fingerprint.
    pub arguments: Option<Bytes>,
    /// The caller, for operators: what the record says of who has, or had, the key.
    pub context: Option<Arc<str>>,
}

impl ClaimRequest {
    /// 50 years. A record that is kept for longer than this from now on, and is not done, is *held*: it has no end in
    /// practice, and once its owner is gone only a claim with [`TakeOver::Always`] takes it over. Else its owner, or an
    /// operator, ends it.
    pub const HELD: Duration = Duration::from_secs(50 * 365 * 24 * 60 * 60);

    /// A request that may take over an abandoned or lapsed claim that is not held, and records neither arguments nor a context.
    #[must_use]
    pub const fn new(fingerprint: Fingerprint, nonce: Nonce, lease: Duration, ttl: Duration) -> Self {
        let take_over = TakeOver::UnlessHeld;
        Self { fingerprint, nonce, lease, ttl, take_over, arguments: None, context: None }
    }

    /// Sets which abandoned and lapsed claims may be taken over.
    #[must_use]
    pub const fn with_take_over(mut self, take_over: TakeOver) -> Self {
        self.take_over = take_over;
        self
    }

    /// Records these arguments beside the fingerprint; `None` records none.
    #[must_use]
    pub fn with_arguments(mut self, arguments: impl Into<Option<Bytes>>) -> Self {
        self.arguments = arguments.into();
        self
    }

    /// Records who makes this claim; `None` records nothing of that.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<Option<Arc<str>>>) -> Self {
        self.context = context.into();
        self
    }
}

/// The abandoned and lapsed claims that a claim may take over. A failed one it always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TakeOver {
    /// None: nobody knows whether their runs happened.
    Never,
    /// Those that are not [held](ClaimRequest::HELD).
    UnlessHeld,
    /// All: the claimer finds out first what happened.
    Always,
}

/// Arguments and contexts are not for logs.
impl Debug for ClaimRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fingerprint, nonce, lease, ttl, take_over, arguments, context } = self;
        f.debug_struct("ClaimRequest")
            .field("fingerprint", fingerprint)
            .field("nonce", nonce)
            .field("lease", lease)
            .field("ttl", ttl)
            .field("take_over", take_over)
            .field("arguments", &Hidden(arguments.as_deref()))
            .field("context", &Hidden(context.as_deref().map(str::as_bytes)))
            .finish()
    }
}

/// The answer of the key's record to a claim.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClaimOutcome {
    /// The key is the caller's, from now for the length of the lease.
    #[non_exhaustive]
    Claimed {
        /// Proof of ownership for the transitions that follow.
        token: Token,
        /// 1 for the first run of a key, more after each takeover.
        attempt: u32,
        /// The life of the key so far.
        past: Past,
    },
    /// Another claim is alive.
    #[non_exhaustive]
    InFlight {
        /// The rest of its lease. Never zero.
        retry_after: Duration,
    },
    /// A run has ended and its result is kept.
    Done(Finished),
    /// The owner is gone without an outcome, and the request does not allow a takeover.
    #[non_exhaustive]
    Abandoned {
        /// The attempt that was abandoned.
        attempt: u32,
    },
    /// The last run has ended, and it is too early for the next.
    #[non_exhaustive]
    Suspended {
        /// The time until the next may begin, or next to none where this is the claim of the run that has ended. Never zero.
        retry_after: Duration,
        /// The attempt that has ended.
        attempt: u32,
    },
    /// The record was made by a request with another fingerprint. Nothing was changed.
    Mismatch,
}

impl ClaimOutcome {
    /// [`Claimed`](Self::Claimed) with this proof of ownership, as the key's run of this number, after this past.
    #[must_use]
    pub const fn claimed(token: Token, attempt: u32, past: Past) -> Self {
        Self::Claimed { token, attempt, past }
    }

    /// [`InFlight`](Self::InFlight) with this much of the other claim's lease left, which must not be zero.
    #[must_use]
    pub const fn in_flight(retry_after: Duration) -> Self {
        Self::InFlight { retry_after }
    }

    /// [`Abandoned`](Self::Abandoned) by this attempt.
    #[must_use]
    pub const fn abandoned(attempt: u32) -> Self {
        Self::Abandoned { attempt }
    }

    /// [`Suspended`](Self::Suspended) for this long, which must not be zero, after this attempt.
    #[must_use]
    pub const fn suspended(retry_after: Duration, attempt: u32) -> Self {
        Self::Suspended { retry_after, attempt }
    }

    /// [`Suspended`](Self::Suspended) for next to no time: the claim's own run was this attempt, and has ended.
    #[must_use]
    pub const fn ended(attempt: u32) -> Self {
        Self::suspended(Duration::from_millis(1), attempt)
    }
}

/// The life of a key before a claim that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Past {
    /// The life.
    pub generation: Generation,
    /// The end of the run before.
    pub before: Before,
    /// The number of runs that ended in an error. All others before vanished.
    pub failed: u32,
    /// True if there is a journal.
    pub has_steps: bool,
}

impl Past {
    /// The past of a vacant key that was claimed with this nonce.
    #[must_use]
    pub fn none(nonce: Nonce) -> Self {
        Self { generation: nonce.into(), before: Before::Fresh, failed: 0, has_steps: false }
    }

    /// The past of a key that was taken over.
    #[must_use]
    pub const fn new(generation: Generation, before: Before, failed: u32, has_steps: bool) -> Self {
        Self { generation, before, failed, has_steps }
    }
}

/// The end of the run before a claim that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Before {
    /// There was none.
    Fresh,
    /// It said that it failed, and left nothing in doubt.
    Failed,
    /// It vanished, or said that it ended without an outcome: it may have happened.
    #[non_exhaustive]
    Abandoned {
        /// The time since it said so, or since its lease ended.
        since: Duration,
    },
}

impl Before {
    /// [`Abandoned`](Self::Abandoned) for this long.
    #[must_use]
    pub const fn abandoned(since: Duration) -> Self {
        Self::Abandoned { since }
    }
}

/// The reason to suspend a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// It ended without an outcome: it may have happened.
    Abandoned,
    /// Its body said `Err`: nothing is in doubt.
    Failed,
    /// Its body never started: the key is as it was before the claim, vacant included.
    Unstarted,
}

/// The answer of the key's record to a suspension.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Suspension {
    /// The run is suspended, now or since an earlier request.
    Applied,
    /// A run of the key is done; nothing was changed.
    #[non_exhaustive]
    Ended {
        /// Its outcome.
        how: Outcome,
        /// True if it is the caller's run.
        by_us: bool,
    },
    /// The record is another claim's; nothing was changed.
    Taken,
    /// There is no record.
    Vacant,
}

impl Suspension {
    /// [`Ended`](Self::Ended) with this outcome, by the caller's run or by another.
    pub const fn ended(how: Outcome, by_us: bool) -> Self {
        Self::Ended { how, by_us }
    }
}

/// The answer of the key's journal to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Appended {
    /// The step is in the journal, and the lease is renewed.
    Applied,
    /// An earlier attempt has recorded a step of this name, with this value. Nothing was changed but the lease.
    Recorded(Result<Bytes, NotKept>),
    /// The claim is not the caller's any more; nothing was changed.
    Lost,
}

/// The answer of the key's record to a transition by the owner of a claim.
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
#[non_exhaustive]
pub struct Page {
    /// The records, in no particular order.
    pub records: Vec<Record>,
    /// The position at which the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

impl Page {
    /// A page of these records, with the position at which the next one begins.
    #[must_use]
    pub const fn new(records: Vec<Record>, next: Option<Cursor>) -> Self {
        Self { records, next }
    }
}

/// A position in a listing. Opaque: only the store that made it can read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// A position that the store has written as this text, or that a caller has kept as text between two pages.
    #[must_use]
    pub fn new(position: impl Into<String>) -> Self {
        Self(position.into())
    }

    /// The text, for the store that made it. It may hold a key: keep it out of logs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A cursor may hold a key.
impl Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor(..)")
    }
}

/// The place where records live.
///
/// Implementations are shared behind `Arc<dyn Store>` and called concurrently. All methods are cancel safe in the sense
/// that a dropped future leaves the record either before or after the transition, never between.
///
/// An implementation puts [`#[async_trait]`](https://docs.rs/async-trait) over its `impl Store for …` and writes the
/// methods as `async fn`; the conformance suite (feature `testing`) tells whether it keeps the rules of this
/// [module](self).
///
/// # Errors
///
/// A method answers [`StoreError`] for faults only (unreachable, timed out, full, a record that is not ours); the
/// outcomes of races are values. After an error the transition may or may not have been applied: the caller asks
/// again with the same nonce.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Takes the key for one run, or tells why it cannot. See [`ClaimOutcome`].
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome>;

    /// Moves the end of the lease to `lease` from now, and keeps the record for `ttl` beyond it.
    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition>;

    /// Ends the run with an outcome, kept for `ttl` from now. Wakes subscribers.
    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition>;

    /// Ends the run as if it had never been: the key is vacant again. Wakes subscribers.
    ///
    /// A vacant key is as asked for: [`Transition::Applied`], so that a repeat succeeds. Only a record that shows
    /// another owner, or an end of this run other than its release, is [`Transition::Lost`]. A record with a journal is
    /// [suspended](Self::suspend) as failed instead, without a pause and for `keep`: what its steps did has happened.
    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition>;

    /// Ends the run without an outcome. No call runs the key again before `not_before` from now; the record is kept for
    /// `keep` beyond that. Wakes subscribers.
    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension>;

    /// Records a step of the run that is under way, and renews its lease like [`renew`](Self::renew).
    ///
    /// A step of this name that this claim has recorded is [`Appended::Applied`], whatever its value.
    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended>;

    /// The steps that this and earlier attempts have recorded, in the order in which they were; `None` when the claim is not
    /// the caller's any more.
    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>>;

    /// The fence of a claim that is still the caller's; `None` when it is not.
    ///
    /// Stores that know the fence when they grant the claim put it into the [`Token`]; the others make it here, once.
    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>>;

    /// Removes the record whatever its state; says whether there was one. Wakes subscribers. For operators.
    async fn forget(&self, key: &RecordKey) -> StoreResult<bool>;

    /// Leaves the key as an operator says, if its record is the one that was seen. Wakes subscribers. For operators.
    ///
    /// A vacant key is as asked for where it is to be [`Vacant`](Resolution::Vacant). A repeat is [`Resolved::Applied`] while the
    /// record shows it.
    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved>;

    /// The record as it stands, `None` where the key is vacant. For operators.
    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>>;

    /// The records of one operation, or of all, about `limit` at a time. For operators.
    ///
    /// Records that exist from the first page to the last are listed at least once.
    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page>;

    /// Removes up to `limit` expired records and says how many. Zero from stores that expire records by themselves.
    async fn purge_expired(&self, limit: usize) -> StoreResult<usize>;

    /// Starts listening for the end of the key's current run: from the moment this resolves, a complete, release,
    /// suspend or forget of the key, by any process, wakes the subscription.
    ///
    /// A notification is a hint; callers poll as well. A store without notifications answers [`Subscription::never`].
    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription>;

    /// The store's steps in a transaction that its caller has open; `None` from stores that are no SQL database.
    fn transactional(&self) -> Option<&dyn Transactional> {
        None
    }

    /// The dead letters of a store that keeps them; `None` from stores that leave them to the broker.
    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        None
    }

    /// The store's steps without futures; `None` from stores that may have to wait.
    #[doc(hidden)]
    fn immediate(&self) -> Option<&dyn Immediate> {
        None
    }

    /// A finished record that can be shown at once, without I/O. `None` means "ask with a claim".
    fn peek(&self, key: &RecordKey) -> Option<Finished> {
        let _ = key;
        None
    }

    /// Shows what [`peek`](Self::peek) does, with a result in the form that the engine reads fastest.
    #[doc(hidden)]
    fn at_hand(&self, key: &RecordKey) -> Option<Finished> {
        self.peek(key)
    }
}
