//! The task that renews a claim while its body runs.

use std::sync::Arc;

use tokio::{runtime::Handle, task::AbortHandle, time::Instant};

use super::{
    claim::{Claim, trusted},
    events,
    retry::Backoff,
};
use crate::store::{Token, Transition};

/// Renews a claim until it is dropped.
pub(super) struct Heartbeat {
    renewal: AbortHandle,
    pub(super) runtime: Handle,
}

impl Heartbeat {
    /// Starts renewing, if there is a runtime to do it on.
    pub(super) fn start(claim: &Arc<Claim>) -> Option<Self> {
        let token = claim.token?;
        let runtime = Handle::try_current().ok()?;
        let renewal = runtime.spawn(renew(Arc::clone(claim), token)).abort_handle();
        Some(Self { renewal, runtime })
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Renews at a third of the lease. Ends when the claim is lost.
async fn renew(claim: Arc<Claim>, token: Token) {
    let context = &claim.context;
    let (lease, ttl) = (context.request.lease, context.request.ttl);
    let trust = trusted(lease);
    let mut next = claim.until() - trust + lease / 3;
    let mut late = false;
    let mut backoff = Backoff::new(lease / 30, lease / 6);
    loop {
        tokio::time::sleep_until(next).await;
        let sent = Instant::now();
        match context.store().renew(&context.key, &token, lease, ttl).await {
            Ok(Transition::Applied) => {
                claim.renewed(sent + trust);
                context.flight.extend(sent + lease);
                next = sent + lease / 3;
                late = false;
                backoff = Backoff::new(lease / 30, lease / 6);
            }
            Ok(Transition::Lost) => {
                claim.set_lost();
                events::claim_lost(context.key.operation(), claim.attempt);
                return;
            }
            Err(error) => {
                next = Instant::now() + backoff.pause();
                // Once: the owner cannot know whether another has the key now.
                if !late && next >= claim.until() {
                    late = true;
                    events::lease_lapsed(context.key.operation(), claim.attempt, &error);
                }
            }
        }
    }
}
