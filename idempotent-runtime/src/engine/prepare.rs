//! *Prepare*: from an identified call to a question for the store, or to the answer that is at hand.

use std::{borrow::Cow, sync::Arc, time::Duration};

use super::{
    context::{Attempts, CallContext, OwnTransaction},
    disposition::Disposition,
    events::About,
    reply::Answer,
    shared::Shared,
    single_flight::Flight,
};
use crate::{
    error::{Error, OperationError},
    operation::{OnAbandoned, Operation},
    request::arguments::Request,
    store::{ClaimRequest, Nonce, RecordKey, TakeOver},
};

/// Five hundred years: never. A longer time would overflow the clock of some store. So much longer than
/// [`ClaimRequest::HELD`] that a key stays held although the store's clock was decades off when it was claimed.
pub(crate) const LONGEST: Duration = Duration::from_secs(500 * 365 * 24 * 60 * 60);

/// A call that is identified: its key, and the fingerprint of its arguments.
pub(crate) struct Prepared<'h> {
    pub(crate) shared: &'h Arc<Shared>,
    pub(crate) key: RecordKey,
    pub(crate) request: Request,
    /// The id of the HTTP request that it answers.
    pub(crate) request_id: Option<&'h str>,
}

/// A call that is ready to be answered.
pub struct Call<P> {
    pub(super) preparation: Preparation,
    pub(super) errors: P,
}

/// The result of preparation.
pub(super) enum Preparation {
    /// Answered without asking the store.
    AtHand(Result<Answer, Error>, Called),
    /// The store is to be asked.
    Ask(Arc<CallContext>),
}

/// The call that is answered at hand: its operation, or its key where that is known.
pub(super) enum Called {
    Operation(Cow<'static, str>),
    Record(RecordKey),
}

impl Called {
    pub(super) fn about(&self) -> About<'_> {
        match self {
            Self::Operation(name) => About::Operation(name),
            Self::Record(key) => About::Record(key),
        }
    }
}

impl<P> Call<P> {
    /// Looks for an answer that is at hand. Claims nothing, waits for nothing.
    pub(crate) fn new(operation: Operation<P>, prepared: Result<Prepared<'_>, Error>) -> Self {
        let Operation { name, ttl, lease, wait, abandoned, max_attempts, retry_after, settle_after, errors } =
            operation;
        // A record without an outcome is kept for this long after its lease.
        let (take_over, keep) = match abandoned {
            OnAbandoned::Rerun => (TakeOver::UnlessHeld, ttl),
            OnAbandoned::Refuse => (TakeOver::Never, LONGEST),
            OnAbandoned::Reconcile => (TakeOver::Always, LONGEST),
        };
        let settle_after = (abandoned == OnAbandoned::Reconcile).then(|| settle_after.unwrap_or(lease));
        let attempts = Attempts { max: max_attempts, pauses: retry_after, settle_after };
        let preparation = prepared.and_then(|Prepared { shared, key, request, request_id }| {
            check_durations(lease, ttl)?;
            check_attempts(attempts, ttl)?;
            let Request { fingerprint, arguments } = request;
            #[cfg(all(feature = "testing", feature = "memory"))]
            if crate::testing::fingerprint::capture(fingerprint) {
                return Err(Error::NotInstalled);
            }
            match shared.store.at_hand(&key) {
                Some(finished) if finished.fingerprint == fingerprint => {
                    let answer = Answer::Other(finished.outcome, Disposition::Replayed);
                    Ok(Preparation::AtHand(Ok(answer), Called::Record(key)))
                }
                // Which arguments differ is in the store's record, and asking for it may wait: the claim does so.
                Some(_) if arguments.is_none() => {
                    let mismatch = Error::Mismatch { arguments: Arc::default() };
                    Ok(Preparation::AtHand(Err(mismatch), Called::Record(key)))
                }
                _ => {
                    let request = ClaimRequest::new(fingerprint, Nonce::random(), lease, keep)
                        .with_take_over(take_over)
                        .with_arguments(arguments)
                        .with_context(shared.context(request_id));
                    let shared = Arc::clone(shared);
                    let flight = Flight::new();
                    let (own_transaction, is_of_message) = (OwnTransaction::No, false);
                    let context = CallContext {
                        shared,
                        key,
                        ttl,
                        request,
                        wait,
                        attempts,
                        own_transaction,
                        is_of_message,
                        flight,
                    };
                    Ok(Preparation::Ask(Arc::new(context)))
                }
            }
        });
        let preparation = preparation.unwrap_or_else(|error| Preparation::AtHand(Err(error), Called::Operation(name)));
        Self { preparation, errors }
    }
}

fn check_attempts(attempts: Attempts, ttl: Duration) -> Result<(), OperationError> {
    if attempts.max == Some(0) {
        return Err(OperationError::NoAttempts);
    }
    if attempts.pauses.is_some_and(|pauses| pauses.longest() > ttl) {
        return Err(OperationError::RetryAfterAboveTtl);
    }
    Ok(())
}

pub(crate) const fn check_durations(lease: Duration, ttl: Duration) -> Result<(), OperationError> {
    if lease.as_millis() < 10 {
        return Err(OperationError::LeaseTooShort);
    }
    if ttl.as_nanos() < lease.as_nanos() {
        return Err(OperationError::TtlBelowLease);
    }
    if ttl.as_nanos() > ClaimRequest::HELD.as_nanos() {
        return Err(OperationError::TtlTooLong);
    }
    Ok(())
}
