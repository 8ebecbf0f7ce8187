//! The layer.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::HeaderValue;
use tokio::sync::Notify;
use tower_layer::Layer;

use super::{IdempotencyService, builder::ChooseScope, config::Config};
use crate::Idempotency;

/// Has a service answer each request with a key once. See the [module](super).
#[derive(Clone, Debug)]
pub struct IdempotencyLayer {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    /// How long a response is kept, as clients are told.
    pub(super) ttl: HeaderValue,
    /// How many handlers run.
    running: AtomicUsize,
    /// Told when none does.
    idle: Notify,
}

impl IdempotencyLayer {
    /// As the draft "The Idempotency-Key HTTP Header Field" has it: the key is required, errors are problem documents.
    pub const fn ietf(idempotency: Idempotency) -> ChooseScope {
        ChooseScope { idempotency, preset: Config::ietf }
    }

    /// As Stripe's API v1: POST with an optional key, Stripe's error objects, request ids and hints on retries. Responses of
    /// 500 are kept, too: whoever refuses a request before it has begun says so with [`NotBegun`](super::NotBegun).
    pub const fn stripe_v1(idempotency: Idempotency) -> ChooseScope {
        ChooseScope { idempotency, preset: Config::stripe_v1 }
    }

    /// As Stripe's API v2: POST and DELETE; successes are kept for 30 days, failures are run again.
    pub const fn stripe_v2(idempotency: Idempotency) -> ChooseScope {
        ChooseScope { idempotency, preset: Config::stripe_v2 }
    }

    pub(super) fn new(config: Config) -> Self {
        let ttl = config.operation.ttl.as_secs().into();
        let (running, idle) = (AtomicUsize::new(0), Notify::new());
        Self { shared: Arc::new(Shared { config: Arc::new(config), ttl, running, idle }) }
    }

    /// Waits until no handler runs whose key is claimed, and all of their responses are on record. For a shutdown that
    /// waits also for handlers whose clients have gone: after the server has stopped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn idle(&self) {
        loop {
            // Listens from here on, so that what ends between the look and the wait is not missed.
            let idle = self.shared.idle.notified();
            if self.shared.running.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService { inner, shared: Arc::clone(&self.shared) }
    }
}

/// A handler that runs.
#[derive(Debug)]
pub(super) struct Running(Arc<Shared>);

impl Running {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    #[test]
    fn idle_waits_for_the_last_handler() {
        let layer = IdempotencyLayer::ietf(Idempotency::memory()).unscoped().build().unwrap();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(pin!(layer.idle()).poll(cx).is_ready());

        let (one, other) = (Running::new(&layer.shared), Running::new(&layer.shared));
        let mut idle = pin!(layer.idle());
        assert!(idle.as_mut().poll(cx).is_pending());
        drop(one);
        assert!(idle.as_mut().poll(cx).is_pending());
        drop(other);
        // Another begins before who waits is polled.
        let next = Running::new(&layer.shared);
        assert!(idle.as_mut().poll(cx).is_pending());
        drop(next);
        assert!(idle.as_mut().poll(cx).is_ready());
        assert!(pin!(layer.idle()).poll(cx).is_ready());
    }
}
