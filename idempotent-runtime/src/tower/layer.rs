//! The layer, and what all services behind it share.

use std::sync::Arc;

use http::HeaderValue;
use tower_layer::Layer;

use super::{IdempotencyService, config::Config, running::RunningHandlers};

/// Lets a service answer each request with a key once. See the [module](super).
#[derive(Clone, Debug)]
pub struct IdempotencyLayer {
    state: Arc<LayerState>,
}

#[derive(Debug)]
pub(super) struct LayerState {
    pub(super) config: Arc<Config>,
    /// The time to live of a response in seconds, as clients are told it.
    pub(super) ttl: HeaderValue,
    pub(super) handlers: Arc<RunningHandlers>,
}

impl IdempotencyLayer {
    pub(super) fn new(config: Config) -> Self {
        let ttl = config.operation.ttl.as_secs().into();
        Self { state: Arc::new(LayerState { config: Arc::new(config), ttl, handlers: Arc::default() }) }
    }

    /// Waits until no handler runs under a claim and all responses are on record. Call it at shutdown, after the server has
    /// stopped: a handler whose client has gone may still run.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn idle(&self) {
        self.state.handlers.idle().await;
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService { inner, state: Arc::clone(&self.state) }
    }
}
