//! The task that renews a claim while its body runs.

use std::{pin::pin, sync::Arc};

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, Sleep},
};

use super::{
    claim::{Claim, trusted},
    events,
    retry::Pauses,
};
use crate::store::{Token, Transition};

/// Renews a claim until it is dropped.
pub(super) struct Heartbeat {
    renewal: AbortHandle,
    pub(super) runtime: Handle,
}

impl Heartbeat {
    /// Starts renewing. `None` where there is no claim to renew.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, and on one without timers: the body would run on without its claim.
    pub(super) fn start(claim: &Arc<Claim>) -> Option<Self> {
        let token = claim.token.filter(|_| !claim.context.is_exclusive())?;
        #[expect(clippy::expect_used, reason = "documented")]
        let runtime = Handle::try_current().expect("a body that waits needs a Tokio runtime, which renews its claim");
        // Made here: without timers it panics, and the caller has to see that.
        let first = tokio::time::sleep_until(Self::first(claim));
        let renewal = runtime.spawn(renew(Arc::clone(claim), token, first)).abort_handle();
        Some(Self { renewal, runtime })
    }

    /// True if it renews no more: the claim is lost, or the runtime has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.renewal.is_finished()
    }

    /// The time of the first renewal: a third of the lease after the claim was sent.
    pub(super) fn first(claim: &Claim) -> Instant {
        let lease = claim.context.request.lease;
        claim.until() - trusted(lease) + lease / 3
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Renews once.
pub(super) async fn renew_once(claim: Arc<Claim>) {
    let Some(token) = claim.token else { return };
    let (context, sent) = (&claim.context, Instant::now());
    match context.store().renew(&context.key, &token, context.request.lease, context.request.ttl).await {
        Ok(Transition::Applied) => claim.renewed_at(sent),
        Ok(Transition::Lost) => claim.tell_lost(),
        // It is asked again.
        Err(_) => {}
    }
}

/// Renews at a third of the lease. Ends when the claim is lost.
async fn renew(claim: Arc<Claim>, token: Token, first: Sleep) {
    let context = &claim.context;
    let (lease, ttl) = (context.request.lease, context.request.ttl);
    let mut sleep = pin!(first);
    let mut late = false;
    let mut backoff = Pauses::new(lease / 30, lease / 6);
    loop {
        sleep.as_mut().await;
        let next;
        let sent = Instant::now();
        match context.store().renew(&context.key, &token, lease, ttl).await {
            Ok(Transition::Applied) => {
                claim.renewed_at(sent);
                next = sent + lease / 3;
                late = false;
                backoff = Pauses::new(lease / 30, lease / 6);
            }
            Ok(Transition::Lost) => {
                claim.tell_lost();
                return;
            }
            Err(error) => {
                next = Instant::now() + backoff.pause();
                // Once: the owner cannot know whether another has the key now.
                if !late && next >= claim.until() {
                    late = true;
                    events::lease_lapsed(&context.key, claim.attempt, &error);
                }
            }
        }
        sleep.as_mut().reset(next);
    }
}

#[cfg(all(test, feature = "memory"))]
#[expect(clippy::unwrap_used, reason = "a test fails so")]
mod tests {
    use std::{
        future::{Future, pending},
        panic::{AssertUnwindSafe, catch_unwind},
        pin::pin,
        task::{Context, Waker},
    };

    use crate::{Error, Idempotency, State};

    fn poll_once<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    fn a_call_that_waits_panics(idempotency: &Idempotency) {
        let waits = idempotency.call("charge").key("waits").run(pending::<Result<(), Error>>());
        let panic = catch_unwind(AssertUnwindSafe(|| poll_once(waits)));
        assert!(panic.is_err(), "its claim would lapse beside it");
        let record = poll_once(idempotency.inspect("charge", "waits")).unwrap().unwrap().unwrap();
        assert_eq!(record.state, State::Abandoned);
        let at_once = idempotency.call("charge").key("at once").run(async { Ok::<_, Error>(1) });
        assert_eq!(poll_once(at_once).unwrap().unwrap(), 1);
    }

    #[test]
    fn a_call_that_waits_needs_a_runtime() {
        a_call_that_waits_panics(&Idempotency::memory());
    }

    #[test]
    fn a_call_that_waits_needs_timers() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        a_call_that_waits_panics(&Idempotency::memory());
    }
}
