//! For axum's handlers: the key as an extractor, and extractors whose rejections are not kept.

use std::{convert::Infallible, fmt, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Request},
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
    grpc,
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
pub struct KeyRejection {
    layer: Option<Arc<Config>>,
    /// The content type of a request of gRPC.
    grpc: Option<HeaderValue>,
}

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
/// let layer = IdempotencyLayer::ietf("shop.orders", Idempotency::memory())
///     .scope(|request| Some(request.extensions.get::<Tenant>()?.0.clone()))
///     .build()?;
/// let router: Router = Router::new().route("/orders", post(create)).layer(layer);
/// # let _ = router;
/// # Ok(()) }
/// ```
impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = KeyRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, KeyRejection> {
        parts.extensions.get().cloned().ok_or_else(|| KeyRejection {
            layer: parts.extensions.get().map(|Passed(layer)| Arc::clone(layer)),
            grpc: grpc::content_type(&parts.headers).cloned(),
        })
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
        match &self.layer {
            Some(config) => {
                let Config { dialect, header, .. } = &**config;
                dialect.refuse::<Body>(&Refusal::KeyMissing, header, self.grpc.as_ref()).map(Body::new)
            }
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

/// An extractor whose rejection is marked as [`NotBegun`]: broken JSON does not burn the key.
///
/// An extractor runs before the handler. Without the mark, the layer keeps its rejection, a 4xx, as the key's response: the corrected
/// request is refused as another request for as long as the `ttl`. Wrap each extractor that judges what the client sent: `Json`,
/// `Form`, `Query`, `Path`, `Multipart`, and those of yours that have no effect before they reject.
///
/// ```
/// use axum::{Json, Router, routing::post};
/// use idempotent_runtime::{Idempotency, tower::{IdempotencyLayer, OrNotBegun}};
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     item: String,
/// }
///
/// async fn create(OrNotBegun(Json(order)): OrNotBegun<Json<Order>>) -> String {
///     format!("ordered {}", order.item)
/// }
///
/// # fn main() -> Result<(), idempotent_runtime::SetupError> {
/// let layer = IdempotencyLayer::ietf("shop.orders", Idempotency::memory()).unscoped().build()?;
/// let router: Router = Router::new().route("/orders", post(create)).layer(layer);
/// # let _ = router;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrNotBegun<E>(pub E);

impl<E, S> FromRequest<S> for OrNotBegun<E>
where
    E: FromRequest<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        E::from_request(request, state).await.map(Self).map_err(not_begun)
    }
}

impl<E, S> FromRequestParts<S> for OrNotBegun<E>
where
    E: FromRequestParts<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        E::from_request_parts(parts, state).await.map(Self).map_err(not_begun)
    }
}

fn not_begun(rejection: impl IntoResponse) -> Response {
    let mut response = rejection.into_response();
    response.extensions_mut().insert(NotBegun);
    response
}

impl fmt::Display for KeyRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.layer {
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
