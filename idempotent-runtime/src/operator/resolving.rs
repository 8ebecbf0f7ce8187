//! The end of what a record leaves open, by the word of an operator.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    codec,
    engine::events,
    error::Error,
    idempotency::Idempotency,
    readable::shortened,
    store::{Outcome, Record, Resolution, ResolveRequest, Resolved, State},
};

/// The most bytes that a record keeps of an operator's word.
const MAX_CONTEXT_LEN: usize = 1024;

/// The word of an operator about a record: what happened, who says so, and why. [`Operator::resolve`](super::Operator::resolve)
/// takes it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Verdict {
    resolution: Resolution,
    keep: Duration,
    context: Arc<str>,
    even_if_alive: bool,
}

impl Verdict {
    /// The time for which a resolved record is kept, unless said otherwise: a day, as with the attribute.
    const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

    fn new(resolution: Resolution, what: &str, by: &str, reason: &str) -> Self {
        let context = shortened(&format!("{what} by {by}: {reason}"), MAX_CONTEXT_LEN).into();
        Self { resolution, keep: Self::KEEP, context, even_if_alive: false }
    }

    /// It did happen, with this result: all further calls get it, from now on for a day.
    ///
    /// The result has to be what the function returns: one of another type is [`Error::Undecodable`] to its callers.
    ///
    /// # Errors
    ///
    /// Those of JSON, for a value that it cannot hold, or from which another one would come back: a float that is not finite, a
    /// `Some` of what is null.
    pub fn happened<T: Serialize + ?Sized>(result: &T, by: &str, reason: &str) -> Result<Self, serde_json::Error> {
        Ok(Self::happened_as(Outcome::Ok(codec::json(result)?.into()), by, reason))
    }

    /// It did fail for good, with this error: all further calls get it, from now on for a day. For functions that keep their
    /// errors.
    ///
    /// # Errors
    ///
    /// As [`happened`](Self::happened).
    pub fn failed<E: Serialize + ?Sized>(error: &E, by: &str, reason: &str) -> Result<Self, serde_json::Error> {
        Ok(Self::happened_as(Outcome::Err(codec::json(error)?.into()), by, reason))
    }

    /// It ended as an [`Outcome`] says, which has its result as JSON.
    pub fn happened_as(outcome: Outcome, by: &str, reason: &str) -> Self {
        let what = format!("resolved as {}", outcome.as_str());
        Self::new(Resolution::Done(outcome), &what, by, reason)
    }

    /// It did not happen: the next call runs it, as the first attempt. The steps that earlier runs recorded are not repeated.
    pub fn never_happened(by: &str, reason: &str) -> Self {
        Self::new(Resolution::Failed, "left to run again", by, reason)
    }

    /// The record is removed, with all that it says.
    pub fn forgotten(by: &str, reason: &str) -> Self {
        Self::new(Resolution::Vacant, "forgotten", by, reason)
    }

    /// Sets the time for which the record is kept from now on.
    pub const fn keep(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// Resolves a run whose lease has not lapsed, too. It may be at work: its owner is told that the claim is lost, and what it
    /// has done stays done.
    pub const fn even_if_alive(mut self) -> Self {
        self.even_if_alive = true;
        self
    }
}

/// The answer to an operator. See [`Operator::resolve`](super::Operator::resolve).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Resolving {
    /// The record is as the operator says.
    Applied,
    /// The record is not the one that was seen, or is gone; nothing was changed. Look again.
    Changed,
    /// The run is alive; nothing was changed.
    #[non_exhaustive]
    Running {
        /// The rest of its lease.
        lease_left: Duration,
    },
    /// The record has a result, which does not change: it can only be forgotten.
    Finished,
    /// The message is a dead letter: have it [replayed](crate::store::DeadLetters::replay) or discarded.
    DeadLetter,
}

pub(super) async fn resolve(idempotency: &Idempotency, seen: &Record, verdict: Verdict) -> Result<Resolving, Error> {
    let Verdict { resolution, keep, context, even_if_alive } = verdict;
    if resolution != Resolution::Vacant {
        match &seen.state {
            State::Done(Outcome::Ok(_) | Outcome::Err(_)) => return Ok(Resolving::Finished),
            State::Done(Outcome::Dead) => return Ok(Resolving::DeadLetter),
            _ => {}
        }
    }
    let request = ResolveRequest::new(seen.seen(), resolution, keep, context).even_if_alive(even_if_alive);
    let store = &idempotency.shared.store;
    let answer = match store.resolve(&seen.key, &request).await {
        // The reply may have been lost: a repeat finds what was applied.
        Err(error) if error.is_retryable() => store.resolve(&seen.key, &request).await?,
        answer => answer?,
    };
    Ok(match answer {
        Resolved::Applied => {
            events::resolved(&seen.key, request.resolution.as_str());
            Resolving::Applied
        }
        Resolved::Changed => Resolving::Changed,
        Resolved::Running { lease_left } => Resolving::Running { lease_left },
    })
}
