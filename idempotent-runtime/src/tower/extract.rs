//! For axum's handlers: the key as an extractor.

use std::{convert::Infallible, fmt, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use super::{IdempotencyKey, config::Config, dialect::Refusal};

/// In the extensions of a request that passed without a key, since it is optional: the layer.
#[derive(Clone)]
struct Passed(Arc<Config>);

/// Notes in a request whose key does not count that it passed the layer.
pub(super) fn pass(config: &Arc<Config>, mut parts: Parts) -> Parts {
    if config.methods.contains(&parts.method) {
        parts.extensions.insert(Passed(Arc::clone(config)));
    }
    parts
}

/// Why there is no key for a handler that asks for one.
///
/// The client's mistake where the layer takes keys and the request has none: it is answered as by a layer whose keys are
/// [required](super::Builder::required). The service's mistake, a 500, where no layer is around the handler, or none that
/// takes keys with the request's method.
pub struct KeyRejection(Option<Arc<Config>>);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = KeyRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, KeyRejection> {
        let passed = || parts.extensions.get().map(|Passed(layer)| Arc::clone(layer));
        parts.extensions.get().cloned().ok_or_else(|| KeyRejection(passed()))
    }
}

/// `None` where no layer gave a key.
impl<S: Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

impl IntoResponse for KeyRejection {
    fn into_response(self) -> Response {
        match &self.0 {
            Some(config) => config.dialect.refuse::<Body>(&Refusal::KeyMissing, &config.header).map(Body::new),
            None => (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response(),
        }
    }
}

impl fmt::Display for KeyRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "the request has no idempotency key",
            None => "no idempotency layer that takes keys with this method is around the handler",
        })
    }
}

impl fmt::Debug for KeyRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRejection({self})")
    }
}

impl std::error::Error for KeyRejection {}
