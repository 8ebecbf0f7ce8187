//! The run that is under way, as its body sees it.

use std::{fmt, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};

use crate::{
    engine::{claim::Claim, scope::Scope},
    error::Error,
    hex,
};

/// One run of an idempotent function, as its body sees it.
///
/// ```
/// # use idempotent_runtime::{Error, Execution, Idempotency, idempotent, install};
/// #[idempotent(name = "payments.charge", key = order_id)]
/// async fn charge(order_id: &str) -> Result<String, Error> {
///     let run = Execution::current().expect("inside an idempotent function");
///     Ok(run.child_key("card-network")) // the same in every attempt: pass it on to a system that takes a key
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # install(Idempotency::memory())?;
/// assert_eq!(charge("order-17").await?.len(), 64);
/// assert!(Execution::current().is_none());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Execution {
    claim: Arc<Claim>,
}

impl Execution {
    /// The execution that the caller is part of: inside the body of an idempotent function, `None` elsewhere.
    ///
    /// It follows the task: a task that the body spawns is not part of it.
    #[must_use]
    pub fn current() -> Option<Self> {
        Some(Self { claim: Scope::claim()? })
    }

    pub(crate) const fn of(claim: Arc<Claim>) -> Self {
        Self { claim }
    }

    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The operation's name.
    #[must_use]
    pub fn operation(&self) -> &str {
        self.claim.context().key().operation()
    }

    /// The key within the operation, in its encoded form (see [`key`](crate::key)).
    #[must_use]
    pub fn key(&self) -> &str {
        self.claim.context().key().key()
    }

    /// 1 for the first run of the key, more after each run that ended without an outcome, or failed and is counted.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.claim.attempt()
    }

    /// The time since the run before this one was abandoned, or its lease lapsed, on the store's clock; `None` where the run
    /// before failed, or there was none.
    #[must_use]
    pub fn abandoned_for(&self) -> Option<Duration> {
        self.claim.abandoned_for()
    }

    /// A number that rises with every claim of the key, for downstream systems that can refuse stale writers.
    ///
    /// Checked against ownership: may cost a round trip.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimLost`] when the claim is not this run's any more, or never was on record (a run without
    /// protection); [`Error::Store`] when the store cannot say.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn fence(&self) -> Result<u64, Error> {
        if let Some(fence) = self.claim.certain_fence() {
            return Ok(fence);
        }
        let token = self.claim.token().ok_or(Error::ClaimLost)?;
        let context = self.claim.context();
        context.store().fence(context.key(), token).await?.ok_or(Error::ClaimLost)
    }

    /// A key for a call to another system on behalf of this run: the same in every attempt, and another for every
    /// operation, key and label. 64 hexadecimal digits, so that any system can take it.
    #[must_use]
    pub fn child_key(&self, label: &str) -> String {
        let record = self.claim.context().key().as_str();
        let mut hash = Sha256::new();
        hash.update(b"idempotent child key 1\0");
        // The record key has no zero byte, so that the two cannot run into each other.
        hash.update(record.as_bytes());
        hash.update(b"\0");
        hash.update(label.as_bytes());
        let key = hash.finalize().into_iter().flat_map(hex::lower).collect::<String>();
        #[cfg(feature = "testing")]
        crate::testing::probe::made_child_key(self.claim.context().key(), label, &key);
        key
    }
}

/// Without the key, which is not for logs.
impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execution")
            .field("operation", &self.operation())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
