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
use serde_json::json;

use super::{IdempotencyKey, NotBegun, config::Config, replies::Refusal};
use crate::Error;

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
/// /// Called by handlers, and by whoever else has a key. The tenant is in it: the client's key alone is not unique.
/// #[idempotent(key = (tenant, key))]
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

/// As a problem document (RFC 9457), for handlers that return it, or errors that have it in them.
///
/// It is [`NotBegun`] to a layer around the handler: another run that is under way, say, is nothing to replay for a day.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, kind, code, detail) = (self.http_status(), self.problem_type(), self.code(), format!("{self}."));
        let refusal = Refusal::Engine(self);
        let title = refusal.title();
        let problem = json!({ "type": kind, "title": title, "status": status, "detail": detail, "code": code });
        let mut response = Response::new(Body::from(problem.to_string()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
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
