//! For axum's handlers: the key as an extractor.

use std::{convert::Infallible, fmt, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
    request::Parts,
};

use super::{
    IdempotencyKey, NotBegun,
    config::Config,
    replies::{PROBLEM_BASE, PROBLEM_CONTENT_TYPE, Refusal, problem},
};
use crate::Error;

/// The layer that a request passed without a key. Kept in the request's extensions.
#[derive(Clone)]
struct Passed(Arc<Config>);

/// Notes in a request without a key that it passed the layer, if the layer takes keys with its method.
pub(super) fn pass(config: &Arc<Config>, mut parts: Parts) -> Parts {
    if config.methods.contains(&parts.method) {
        parts.extensions.insert(Passed(Arc::clone(config)));
    }
    parts
}

/// The rejection of a handler that asks for a key where the request has none.
///
/// If the layer takes keys with the request's method, the client made the mistake: it gets the response of a layer whose keys
/// are [required](super::IdempotencyLayerBuilder::required). If there is no such layer around the handler, the service made
/// it: the client gets a 500.
pub struct KeyRejection(Option<Arc<Config>>);

/// ```
/// use axum::{Extension, Router, routing::post};
/// use idempotent_runtime::{Error, Idempotency, idempotent, tower::{IdempotencyKey, IdempotencyLayer}};
///
/// # fn main() -> Result<(), idempotent_runtime::SetupError> {
/// #[derive(Clone)]
/// struct Tenant(String); // authentication leaves it in the request's extensions
///
/// async fn create(Extension(tenant): Extension<Tenant>, key: IdempotencyKey, item: String) -> Result<String, Error> {
///     order(&tenant.0, key.as_str(), &item).await
/// }
///
/// /// The tenant is part of the key, because two clients may send the same one.
/// #[idempotent(name = "orders.create", key = (tenant, key))]
/// async fn order(tenant: &str, key: &str, item: &str) -> Result<String, Error> {
///     Ok(format!("ordered {item}"))
/// }
///
/// let layer = IdempotencyLayer::ietf(Idempotency::memory())
///     .scope(|request| Some(request.extensions.get::<Tenant>()?.0.clone()))
///     .build()?;
/// let router: Router = Router::new().route("/orders", post(create)).layer(layer);
/// # let _ = router;
/// # Ok(()) }
/// ```
impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = KeyRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, KeyRejection> {
        let passed = || parts.extensions.get().map(|Passed(layer)| Arc::clone(layer));
        parts.extensions.get().cloned().ok_or_else(|| KeyRejection(passed()))
    }
}

/// Extracts `None` where no layer gave a key.
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

/// Answers with a problem document (RFC 9457), for handlers that return an `Error`, or an error of theirs that contains one.
///
/// The response is marked as [`NotBegun`], so that a layer around the handler does not keep it: a repeat of an `InFlight`
/// may find the other run finished.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let detail = format!("{self}.");
        let refusal = Refusal::Engine(self);
        let mut response = Response::new(Body::from(problem(PROBLEM_BASE, &refusal, &detail)));
        *response.status_mut() = refusal.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
        if let Some(seconds) = refusal.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(NotBegun);
        response
    }
}

impl fmt::Display for KeyRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "the request has no idempotency key",
            None => "no idempotency layer around the handler takes keys with this method",
        })
    }
}

impl fmt::Debug for KeyRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRejection({self})")
    }
}

impl std::error::Error for KeyRejection {}
