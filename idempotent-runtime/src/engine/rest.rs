//! The end of a claim that has no outcome: what the record becomes, and how long that is tried.

use std::time::Duration;

use tokio::time::Instant;

use super::{claim::Claim, context::CallContext, prepare::LONGEST, retry::Pauses};
use crate::store::{Before, ClaimRequest, Token, Why};

/// A suspension: its reason, and its times from now on.
#[derive(Clone, Copy)]
pub(super) struct Rest {
    pub(super) why: Why,
    pub(super) not_before: Duration,
    pub(super) keep: Duration,
}

impl Rest {
    /// Of a run that began, and ended without an outcome.
    pub(super) fn abandoned(claim: &Claim) -> Self {
        let context = &claim.context;
        // Nobody may run it once more, and nobody can ask about it: it is held until an operator has looked.
        let is_last = claim.context.attempts.max.is_some_and(|max| claim.attempt >= max);
        let keep = if is_last { LONGEST } else { context.request.ttl };
        Self { why: Why::Abandoned, not_before: context.pause_after(claim.attempt), keep }
    }

    /// Of a run whose body said `Err`.
    pub(super) fn failed(claim: &Claim) -> Self {
        let context = &claim.context;
        Self { why: Why::Failed, not_before: context.pause_after(claim.attempt), keep: context.ttl }
    }

    /// Of a claim whose body did not start.
    pub(super) fn unstarted(context: &CallContext, before: Before) -> Self {
        // A failed record leaves no doubt, so that it has an end, whoever claimed it.
        let in_doubt = matches!(before, Before::Abandoned { .. });
        let keep = if in_doubt { context.request.ttl } else { context.ttl };
        Self { why: Why::Unstarted, not_before: Duration::ZERO, keep }
    }
}

/// The time for which the end of a held key is tried beyond its lease: nobody else takes it, and nobody else ends it.
const HELD_FOR: Duration = Duration::from_secs(60 * 60);

/// The time until which the end of a claim is tried.
pub(super) fn last_try(context: &CallContext, lease_end: Instant) -> Instant {
    if context.request.ttl > ClaimRequest::HELD { lease_end + HELD_FOR } else { lease_end }
}

/// Releases a claim, again while the store fails, until its lease would be over anyway.
pub(super) async fn release_until(context: &CallContext, token: &Token, deadline: Instant) {
    let deadline = last_try(context, deadline);
    let mut pauses = Pauses::new(Duration::from_millis(50), Duration::from_secs(1));
    while context.store().release(&context.key, token, context.ttl).await.is_err() {
        if !pauses.sleep_before(deadline).await {
            return;
        }
    }
}

/// Suspends a claim, as persistently. `keep` is the time for which the record is kept.
pub(super) async fn suspend_until(
    context: &CallContext,
    token: &Token,
    Rest { why, not_before, keep }: Rest,
    deadline: Instant,
) {
    let deadline = last_try(context, deadline);
    let mut pauses = Pauses::new(Duration::from_millis(50), Duration::from_secs(1));
    while context.store().suspend(&context.key, token, why, not_before, keep).await.is_err() {
        if !pauses.sleep_before(deadline).await {
            return;
        }
    }
}
