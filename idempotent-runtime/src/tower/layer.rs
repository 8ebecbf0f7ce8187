//! The layer.

use std::sync::Arc;

use tokio::sync::watch;
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
    /// How many handlers run.
    running: watch::Sender<usize>,
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
        Self { shared: Arc::new(Shared { config: Arc::new(config), running: watch::Sender::new(0) }) }
    }

    /// Waits until no handler runs whose key is claimed, and all of their responses are on record. For a shutdown that
    /// waits also for handlers whose clients have gone: after the server has stopped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn idle(&self) {
        // The sender is ours, so that it does not go before.
        let _ = self.shared.running.subscribe().wait_for(|running| *running == 0).await;
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService { inner, shared: Arc::clone(&self.shared) }
    }
}

/// A handler that runs.
pub(super) struct Running(Arc<Shared>);

impl Running {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.running.send_modify(|running| *running += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}
