//! A claim that is held: its token, how long it lives, and the task that keeps it alive.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle, time::Instant};

use super::{background::Backoff, context::Context};
use crate::{
    engine::events,
    store::{Token, Transition},
};

/// How long a lease is trusted, counted from when it was asked for: a tenth less than it was asked for, for clocks
/// that run at different rates and for a scheduler that is late.
pub(super) fn trusted(lease: Duration) -> Duration {
    lease.saturating_sub(lease / 10)
}

/// A claim in the hands of its owner.
pub(crate) struct Claim {
    pub(super) context: Arc<Context>,
    /// `None` for a run that the store does not know of.
    pub(super) token: Option<Token>,
    pub(super) attempt: u32,
    /// Whether it is in a transaction of the caller's: nobody else can take it before that ends.
    in_transaction: bool,
    held: Mutex<Held>,
}

#[derive(Clone, Copy)]
struct Held {
    until: Instant,
    lost: bool,
}

impl Claim {
    pub(super) fn new(context: Arc<Context>, token: Option<Token>, attempt: u32, sent: Instant) -> Self {
        let until = sent + trusted(context.request.lease);
        Self { context, token, attempt, in_transaction: false, held: Mutex::new(Held { until, lost: false }) }
    }

    pub(super) fn in_transaction(context: Arc<Context>, token: Token, attempt: u32) -> Self {
        Self { in_transaction: true, ..Self::new(context, Some(token), attempt, Instant::now()) }
    }

    /// The fence, where it is known and cannot have been overtaken.
    pub(crate) fn certain_fence(&self) -> Option<u64> {
        self.token.filter(|_| self.in_transaction)?.fence
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when the claim is surely ours.
    pub(super) fn until(&self) -> Instant {
        self.held().until
    }

    /// Until when the claim may be ours: what others are told.
    pub(super) fn lease_end(&self) -> Instant {
        let lease = self.context.request.lease;
        self.until() + lease.saturating_sub(trusted(lease))
    }

    /// Whether the store said that it is not ours any more.
    pub(super) fn is_lost(&self) -> bool {
        self.held().lost
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) const fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    pub(crate) const fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// Renews a claim until it is dropped.
pub(super) struct Heart {
    beat: AbortHandle,
    pub(super) runtime: Handle,
}

impl Heart {
    /// Starts renewing, if there is a runtime to do it on.
    pub(super) fn start(claim: &Arc<Claim>) -> Option<Self> {
        let token = claim.token?;
        let runtime = Handle::try_current().ok()?;
        let beat = runtime.spawn(beat(Arc::clone(claim), token)).abort_handle();
        Some(Self { beat, runtime })
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.beat.abort();
    }
}

/// Renews at a third of the lease. Ends when the claim is lost.
async fn beat(claim: Arc<Claim>, token: Token) {
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
                claim.held().until = sent + trust;
                context.flight.extend(sent + lease);
                next = sent + lease / 3;
                late = false;
                backoff = Backoff::new(lease / 30, lease / 6);
            }
            Ok(Transition::Lost) => {
                claim.held().lost = true;
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
