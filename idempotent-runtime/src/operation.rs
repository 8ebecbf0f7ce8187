//! An operation: its name and its policies.

use std::{borrow::Cow, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

/// An operation's stable name and its policies. The attribute's options are these.
///
/// ```
/// use std::time::Duration;
/// use idempotent_runtime::{OnAbandoned, Operation};
///
/// let charge = Operation::new("payments.charge")
///     .ttl(Duration::from_secs(7 * 24 * 60 * 60))
///     .abandoned(OnAbandoned::Refuse);
/// # let _ = charge;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Operation<P = ReleaseErrors> {
    pub(crate) name: Cow<'static, str>,
    pub(crate) ttl: Duration,
    pub(crate) lease: Duration,
    pub(crate) wait: Duration,
    pub(crate) abandoned: OnAbandoned,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) retry_after: Option<Backoff>,
    pub(crate) settle_after: Option<Duration>,
    pub(crate) errors: P,
}

impl Operation {
    /// The time that a finished result is kept unless said otherwise: 24 hours.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);
    /// The time that a claim lives without a sign of life unless said otherwise: 30 seconds.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);
    /// The time that a duplicate waits for the running call unless said otherwise: 10 seconds.
    pub const DEFAULT_WAIT: Duration = Duration::from_secs(10);

    /// Makes an operation with this name and the default policies.
    ///
    /// The name is part of every stored key: renaming an operation forgets its results.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self::with_name(name.into())
    }

    /// Makes an operation at compile time, to be called by reference.
    ///
    /// ```
    /// # use idempotent_runtime::{Error, Idempotency, Operation};
    /// static CHARGE: Operation = Operation::from_static("payments.charge");
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// # let idempotency = Idempotency::memory();
    /// let receipt = idempotency.call(&CHARGE).key("order-17").run(async { Ok::<_, Error>(4_200) }).await?;
    /// # assert_eq!(receipt, 4_200);
    /// # Ok(()) }
    /// ```
    pub const fn from_static(name: &'static str) -> Self {
        Self::with_name(Cow::Borrowed(name))
    }

    const fn with_name(name: Cow<'static, str>) -> Self {
        Self {
            name,
            ttl: Self::DEFAULT_TTL,
            lease: Self::DEFAULT_LEASE,
            wait: Self::DEFAULT_WAIT,
            abandoned: OnAbandoned::Rerun,
            max_attempts: None,
            retry_after: None,
            settle_after: None,
            errors: ReleaseErrors,
        }
    }

    /// Keeps errors and replays them, instead of freeing the key for a retry.
    pub fn keep_errors(self) -> Operation<KeepErrors> {
        self.with_errors(KeepErrors)
    }

    /// Keeps the errors that `keep` is true for, and frees the key for a retry after the others.
    pub fn keep_errors_if<E>(self, keep: fn(&E) -> bool) -> Operation<KeepErrorsIf<E>> {
        self.with_errors(KeepErrorsIf(keep))
    }

    fn with_errors<P>(self, errors: P) -> Operation<P> {
        let Self { name, ttl, lease, wait, abandoned, max_attempts, retry_after, settle_after, errors: ReleaseErrors } =
            self;
        Operation { name, ttl, lease, wait, abandoned, max_attempts, retry_after, settle_after, errors }
    }
}

impl<P> Operation<P> {
    /// Sets how long a finished result is kept, counted from completion; and what a run that did not finish leaves (its attempts, its
    /// steps), counted from its end.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how long a claim lives without a sign of life. It is renewed at a third of this while the body runs.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long a duplicate waits for the running call. Zero refuses at once.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets the policy for a claim whose owner vanished. [`OnAbandoned::Rerun`] unless said otherwise.
    pub const fn abandoned(mut self, abandoned: OnAbandoned) -> Self {
        self.abandoned = abandoned;
        self
    }

    /// Sets how often a key is run at most. No limit unless said otherwise.
    ///
    /// A run counts from its claim on, before the body begins: a body that kills its process is counted, too, and so is a run
    /// that a deployment kills. What counts is the limit of the call that would run the key once more. It gets
    /// [`Error::Exhausted`](crate::Error::Exhausted) instead, and so do its repeats, for the operation's `ttl`. If the last run
    /// vanished, it may have happened: it is reconciled first ([`Call::reconcile`](crate::Call::reconcile)), or the key is held and
    /// its calls get [`Error::Abandoned`](crate::Error::Abandoned) until an operator resolves it or a call with `reconcile` finds out. A last run whose process was killed holds
    /// the key from the next call on, which has to come within the `ttl`. A process that is killed in the moment in which it ends an exhausted
    /// key looks like such a run: the key is held, although its body did not run.
    ///
    /// A run counts also if it only learned that a nested function cannot say yet what became of its own run: so many attempts, with the pauses
    /// of [`retry_after`](Self::retry_after), have to outlast an outage of other systems, and the `lease` and
    /// [`settle_after`](Self::settle_after) of nested functions. For a nested `lease` of 2 s and a `settle_after` of 1 s, the
    /// pauses have to add up to more than 3 s.
    ///
    /// The recorded steps of an exhausted key stay with it: if an operator has it run again, it goes on after them.
    ///
    /// The library calls nothing by itself: after each run that failed, somebody makes the same call again.
    ///
    /// With a limit, an `Err` that is not kept leaves a record that counts it, so that other arguments are a mismatch.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Sets the pause after a run that failed or was abandoned, on the store's clock. A run whose process was killed has its lease for a
    /// pause. Until it is over, calls get a retryable
    /// [`Error::Suspended`](crate::Error::Suspended) at once. A constant pause is a `Duration`; no pause unless said otherwise.
    ///
    /// ```
    /// use std::time::Duration;
    /// use idempotent_runtime::{Backoff, Operation};
    ///
    /// let mail = Operation::new("mail.send")
    ///     .max_attempts(5)
    ///     .retry_after(Backoff::exponential(Duration::from_secs(1), Duration::from_secs(300)));
    /// # let _ = mail;
    /// ```
    pub fn retry_after(mut self, pause: impl Into<Backoff>) -> Self {
        self.retry_after = Some(pause.into());
        self
    }

    /// Sets how long a run must have been abandoned before [`Reconciled::NotDone`](crate::Reconciled::NotDone) is believed: its
    /// process may be alive, and about to act. The `lease` unless said otherwise.
    pub const fn settle_after(mut self, time: Duration) -> Self {
        self.settle_after = Some(time);
        self
    }
}

/// The pauses between the runs of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// The same pause after each run.
    #[must_use]
    pub const fn constant(pause: Duration) -> Self {
        Self { first: pause, longest: pause }
    }

    /// A pause that doubles from `first` with each run, up to `longest`.
    #[must_use]
    pub const fn exponential(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The pause after the run of this number.
    #[must_use]
    pub fn after(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest())
    }

    pub(crate) fn longest(&self) -> Duration {
        self.longest.max(self.first)
    }
}

impl From<Duration> for Backoff {
    fn from(pause: Duration) -> Self {
        Self::constant(pause)
    }
}

impl From<&'static str> for Operation {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Operation {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// So that an operation can be made once and called often.
impl<P: Clone> From<&Operation<P>> for Operation<P> {
    fn from(operation: &Operation<P>) -> Self {
        operation.clone()
    }
}

/// The policy for a claim whose owner vanished: crashed, panicked, was dropped, or let its lease lapse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnAbandoned {
    /// The next call runs the body again, with a higher attempt.
    #[default]
    Rerun,
    /// No call runs the body again: each gets [`Error::Abandoned`](crate::Error::Abandoned) until an operator resolves it, or a
    /// call of the same key with [`reconcile`](crate::Call::reconcile) finds out.
    ///
    /// A run that was begun under [`Rerun`](Self::Rerun) does not hold its key. Calls under this policy refuse it while its record
    /// is there, and run the body once its `ttl` is over.
    Refuse,
    /// Set by [`Call::reconcile`](crate::Call::reconcile) and by the attribute, which know whom to ask.
    #[doc(hidden)]
    Reconcile,
}

/// The policy for an `Err` of the body, whose error type is `E`. Sealed: [`ReleaseErrors`], [`KeepErrors`] and
/// [`KeepErrorsIf`] are all there is.
pub trait ErrorPolicy<E>: sealed::Sealed + Clone + Send + Sync + Unpin + 'static {
    /// True if some errors are kept.
    #[doc(hidden)]
    const MAY_KEEP: bool;
    /// True if this error is kept.
    #[doc(hidden)]
    fn keeps(&self, error: &E) -> bool;
    /// The error, serialized.
    #[doc(hidden)]
    fn encode(&self, error: &E) -> Result<Vec<u8>, crate::codec::NotFaithful>;
    /// The error, as it was kept.
    #[doc(hidden)]
    fn decode(&self, bytes: &[u8]) -> Result<E, crate::Error>;
}

/// An `Err` frees the key, so that a retry runs the body again. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReleaseErrors;

/// An `Err` is kept and replayed like a result.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepErrors;

/// An `Err` is kept where the function says so; otherwise it frees the key.
pub struct KeepErrorsIf<E>(pub(crate) fn(&E) -> bool);

impl<E> Clone for KeepErrorsIf<E> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<E> std::fmt::Debug for KeepErrorsIf<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeepErrorsIf(..)")
    }
}

impl<E> ErrorPolicy<E> for ReleaseErrors {
    const MAY_KEEP: bool = false;
    fn keeps(&self, _: &E) -> bool {
        false
    }
    fn encode(&self, _: &E) -> Result<Vec<u8>, crate::codec::NotFaithful> {
        Err(crate::codec::NotFaithful::Changed)
    }
    fn decode(&self, _: &[u8]) -> Result<E, crate::Error> {
        Err(crate::Error::Undecodable(crate::error::Undecodable::StoredError))
    }
}

impl<E: Serialize + DeserializeOwned> ErrorPolicy<E> for KeepErrors {
    const MAY_KEEP: bool = true;
    fn keeps(&self, _: &E) -> bool {
        true
    }
    fn encode(&self, error: &E) -> Result<Vec<u8>, crate::codec::NotFaithful> {
        crate::codec::encode(error)
    }
    fn decode(&self, bytes: &[u8]) -> Result<E, crate::Error> {
        crate::codec::decode(bytes)
    }
}

impl<E: Serialize + DeserializeOwned + 'static> ErrorPolicy<E> for KeepErrorsIf<E> {
    const MAY_KEEP: bool = true;
    fn keeps(&self, error: &E) -> bool {
        (self.0)(error)
    }
    fn encode(&self, error: &E) -> Result<Vec<u8>, crate::codec::NotFaithful> {
        crate::codec::encode(error)
    }
    fn decode(&self, bytes: &[u8]) -> Result<E, crate::Error> {
        crate::codec::decode(bytes)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ReleaseErrors {}
    impl Sealed for super::KeepErrors {}
    impl<E> Sealed for super::KeepErrorsIf<E> {}
}
