//! Access for operators: which records there are, and what the next call of a key would get.

mod explanation;
mod facts;
mod filter;
mod next_request;
mod records;
mod resolving;

use std::fmt;

use serde::Serialize;

#[cfg(feature = "admin")]
pub(crate) use self::records::Position;
pub use self::{
    explanation::{Explanation, NextCall, RunReason},
    facts::{facts, printable, time},
    filter::{Filter, StateFilter},
    next_request::{NextRequest, RequestCheck},
    records::Records,
    resolving::{Resolving, Verdict},
};
use crate::{
    error::Error,
    idempotency::Idempotency,
    store::{Record, RecordKey},
};

/// A view of a handle's records for the people who run the service. [`Idempotency::operator`] makes it.
///
/// It takes part in no call, and changes a record only by [`resolve`](Self::resolve).
///
/// ```
/// use idempotent_runtime::{Error, Idempotency, operator::{Filter, NextRequest, StateFilter}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// let idempotency = Idempotency::memory();
/// idempotency.call("charge").key("order-17").run(async { Ok::<_, Error>(4_200) }).await?;
///
/// let operator = idempotency.operator();
/// let mut records = operator.list(Filter::new().operation("charge").state(StateFilter::Ok));
/// while let Some(page) = records.next_page().await? {
///     for record in page {
///         println!("{} has run {} times", record.key.key(), record.attempt);
///         let explained = operator.explain_record(&record.key, &NextRequest::Unknown).await?;
///         println!("{}", explained.next_call(Default::default(), None));
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Operator {
    idempotency: Idempotency,
}

impl Operator {
    pub(crate) const fn new(idempotency: Idempotency) -> Self {
        Self { idempotency }
    }

    /// Lists the records that a filter lets pass, page by page.
    pub fn list(&self, filter: Filter) -> Records {
        Records::new(self.idempotency.clone(), filter)
    }

    /// Explains what the next call of a key would get, and why.
    ///
    /// `key` is a value, as [`CallBuilder::key`](crate::CallBuilder::key) takes it; see
    /// [`explain_record`](Self::explain_record) for others.
    ///
    /// ```
    /// use idempotent_runtime::{Error, Idempotency, OnAbandoned, operator::{NextCall, NextRequest}};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// let idempotency = Idempotency::builder().record_arguments(true).build(idempotent_runtime::store::memory::MemoryStore::new());
    /// #[derive(serde::Serialize)]
    /// struct Charge { amount_cents: u64 }
    /// let charge = Charge { amount_cents: 4_200 };
    /// idempotency.call("charge").key("order-17").arguments(&charge).run(async { Ok::<_, Error>(()) }).await?;
    ///
    /// let other = NextRequest::of(&Charge { amount_cents: 9_999 })?;
    /// let explained = idempotency.operator().explain("charge", "order-17", &other).await?;
    /// let next = explained.next_call(OnAbandoned::Rerun, None);
    /// assert!(matches!(next, NextCall::Mismatch { arguments, .. } if arguments == ["amount_cents"]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Key`], [`Error::Store`], [`Error::Undecodable`].
    pub async fn explain<K: Serialize + ?Sized>(
        &self,
        operation: &str,
        key: &K,
        request: &NextRequest,
    ) -> Result<Explanation, Error> {
        self.explain_record(&self.idempotency.encode_key(operation, key)?, request).await
    }

    /// Explains what the next call of the key of a record would get, and why.
    ///
    /// It is about calls: an inbox decides itself what it does with a message. The answer holds for the moment in which the
    /// record was read. A claim in a transaction that is still open is on
    /// record only once that is committed: until then its duplicates wait, although the key looks new.
    ///
    /// # Errors
    ///
    /// [`Error::Store`], [`Error::Undecodable`].
    pub async fn explain_record(&self, key: &RecordKey, request: &NextRequest) -> Result<Explanation, Error> {
        let record = self.idempotency.inspect_record(key).await?;
        Ok(Explanation::new(record, request))
    }

    /// Ends what a record leaves open: a run that vanished, is refused or exhausted, or whose result could not be kept.
    ///
    /// The record is changed only if it is the one that was `seen`: a run that began or ended meanwhile, or another operator,
    /// comes first. To a late owner it is a takeover: it cannot record its end, and its caller gets the outcome that the
    /// operator has recorded. [`Record::context`] says who has resolved the record, and why, until another claim of the
    /// key is granted; an event says that it was resolved.
    ///
    /// ```
    /// use std::{future::pending, time::Duration};
    /// use idempotent_runtime::{Error, Idempotency, OnAbandoned, Operation, operator::{Resolving, Verdict}};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let idempotency = Idempotency::memory();
    /// let charging = || Operation::new("charge").abandoned(OnAbandoned::Refuse);
    /// let charge = || idempotency.call(charging()).key("order-17");
    /// // Its caller leaves, and nobody knows whether the card was charged.
    /// let vanished = charge().run(pending::<Result<u64, Error>>());
    /// # tokio::time::timeout(Duration::from_millis(10), vanished).await.unwrap_err();
    /// # idempotency.drain(Duration::from_secs(1)).await;
    ///
    /// let seen = idempotency.inspect("charge", "order-17").await?.expect("a record");
    /// let verdict = Verdict::happened(&4_200, "alice", "the card's statement has it")?;
    /// let resolving = idempotency.operator().resolve(&seen, verdict).await?;
    /// assert_eq!(resolving, Resolving::Applied);
    ///
    /// assert_eq!(charge().run(async { Ok::<u64, Error>(0) }).await?, 4_200);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Store`]. The record may have been resolved then: look again.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the record is as it was, or resolved.
    pub async fn resolve(&self, seen: &Record, verdict: Verdict) -> Result<Resolving, Error> {
        resolving::resolve(&self.idempotency, seen, verdict).await
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").field("idempotency", &self.idempotency).finish()
    }
}
