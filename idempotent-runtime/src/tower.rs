//! A layer for HTTP services (axum, hyper, any tower service) that runs each request with a key once.
//!
//! ```
//! use std::time::Duration;
//! use idempotent_runtime::{Idempotency, tower::IdempotencyLayer};
//!
//! # fn main() -> Result<(), idempotent_runtime::SetupError> {
//! #[derive(Clone)]
//! struct Account(String); // as authentication leaves it in the request's extensions
//!
//! let layer = IdempotencyLayer::ietf("shop.orders", Idempotency::memory())
//!     .scope(|request| Some(request.extensions.get::<Account>()?.0.clone()))
//!     .ttl(Duration::from_secs(7 * 24 * 60 * 60))
//!     .build()?;
//! # let _ = layer;
//! # Ok(()) }
//! ```
//!
//! With axum, it is `router.route_layer(layer)`, inside the layer that authenticates. (With `router.layer(layer)`, the router's own 404
//! is kept as well: a client that mistyped the path would have used up its key.)
//!
//! Responses produced by outer layers are never stored. Put CORS, compression, tracing and timeouts outside as well: CORS
//! headers are specific to one origin and must not be replayed.
//!
//! The name, `shop.orders`, is part of every stored key. Give each service on a store a name of its own: with the same name, and a
//! key that is passed on, one service would answer with the other one's response. Two idempotency layers around one handler need
//! different names as well: with the same name, the inner one would find its key claimed by the outer one.
//!
//! A router that is nested in another one sees paths without their prefix. With the feature `axum`, the layer reads the whole path
//! all the same; without it, give each such layer a name of its own, so that they share no keys. With that feature, [`IdempotencyKey`] is an extractor and [`Error`](crate::Error) implements `IntoResponse`.
//!
//! The layer replays responses. It does not know what a handler did before its process was killed: let the handler call an
//! annotated function, with [`transaction`](macro@crate::idempotent) where there is a database, as the example `charges` does.
//! At shutdown, [`IdempotencyLayer::idle`] waits for handlers whose clients have gone.
//!
//! # From a request to its response
//!
//! ```text
//!  method, header ──▶ key ──▶ scope ──▶ body ──▶ fingerprint ──▶ claim ──▶ handler ──▶ response ──▶ record
//!   │        │                  │        │ 413                     │         │            │ copied
//!   │ other  │ 400              │ 403    ▼ 400                     │ replay  │ 500        ▼
//!   ▼ passes ▼                  ▼                                  │ 409 422 │ abandoned  the client
//!                                                                  ▼ 503     ▼
//! ```
//!
//! The store is asked only after the body was read. The body is read once, to its end, and passed on. Method, path, query and
//! body identify the request: the same key with another request is refused, also on another path. The host is not part of it:
//! where one service answers for several hosts, put the host into the scope.
//!
//! The handler of a claimed request runs on a task of its own, which does not see the task-local values of outer layers. The
//! client and the record get the handler's response as follows:
//!
//! | the handler's response | the client gets it | the record |
//! |---|---|---|
//! | has its whole body at once | when it is on record | done |
//! | has a body that takes its time | as it comes; the last piece when it is on record | done, at the body's end |
//! | takes its time, and the claim is lost before the last piece | all but the last piece; then the layer breaks the connection | belongs to another run |
//! | has a status that is not kept, or [`NotBegun`] | when the key is free; the body is the handler's own | vacant |
//! | is too large to keep | whole: the copied part, then the handler's own body | done without a result, from the moment it is too large |
//! | has a body that fails | up to there, then the connection breaks | done without a result |
//! | is of gRPC | by its `grpc-status`: [below](#grpc) | |
//! | does not exist: panic, error of the service | a 500 instead | abandoned: the layer's [`abandoned`](IdempotencyLayerBuilder::abandoned) decides |
//!
//! A client that goes away stops neither the handler nor the copying: both may go on for
//! [`run_on`](IdempotencyLayerBuilder::run_on). After that time, the layer drops the handler and abandons its run; if the body was still
//! being copied, it records the run as done without a result. If a body is too large to keep, the layer drops its rest when the
//! client goes.
//!
//! # What is kept
//!
//! By default, the layer keeps every response but 5xx, 408, 425 and 429: see [`keep_status`](IdempotencyLayerBuilder::keep_status), and
//! each preset for its own rule. A 4xx that comes before the handler's work, such as that the body is no JSON, should not be kept: mark
//! it as [`NotBegun`], with axum by the extractor `OrNotBegun`. With a response, the layer keeps its body, its trailers, and the headers
//! that [`keep_headers`](IdempotencyLayerBuilder::keep_headers) lists.
//!
//! # gRPC
//!
//! A response of gRPC (`Content-Type: application/grpc…`, gRPC-Web included) is HTTP 200, whatever happened. The layer goes by the
//! `grpc-status` in its headers, its trailers, or the last frame of gRPC-Web. Where two of them differ, one that leaves the record
//! vacant decides:
//!
//! | `grpc-status` | the record |
//! |---|---|
//! | `CANCELLED`, `UNKNOWN`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `ABORTED`, `INTERNAL`, `UNAVAILABLE` | vacant: a repeat runs the handler again |
//! | none, because the stream broke off | abandoned, as after a panic |
//! | any other one, `OK` included | done |
//!
//! A replay has the messages, the status, and all metadata and trailers of the first response, but for Set-Cookie, Date and hop-by-hop
//! headers. A stream that is too large to keep is followed to its status, which decides in the same way: with an answer, the record is
//! done without a result. That of a gRPC-Web response is in its body: too large to keep, the record is done without a result, whatever the
//! status. Choose `max_response_body` above the largest answer.
//!
//! A request is read to its end before the handler runs. So a call whose client waits for answers between its messages can have no key:
//! let it pass with [`optional`](IdempotencyLayerBuilder::optional). Messages are compared byte by byte: a client that encodes its
//! message anew must get the same bytes, and maps of protobuf have no order.
//!
//! # Refusals
//!
//! | reason | status | code | `grpc-status` | the client may retry |
//! |---|---|---|---|---|
//! | no key | 400 | `key-missing` | `INVALID_ARGUMENT` | |
//! | malformed key, or two keys | 400 | `key-malformed` | `INVALID_ARGUMENT` | |
//! | no tenant | 403 | `no-scope` | `PERMISSION_DENIED` | |
//! | body too large | 413 | `body-too-large` | `RESOURCE_EXHAUSTED` | |
//! | body cut off | 400 | `body-unreadable` | `INVALID_ARGUMENT` | |
//! | key of another request | 422 | `mismatch` | `FAILED_PRECONDITION` | |
//! | the request is still running | 409 | `in-flight` | `UNAVAILABLE` | yes |
//! | another run has taken the key over | 409 | `claim-lost` | `UNAVAILABLE` | yes |
//! | abandoned, with `OnAbandoned::Refuse` | 409 | `abandoned` | `FAILED_PRECONDITION` | |
//! | done, response not kept | 500 | `result-not-kept` | `INTERNAL` | |
//! | store not reachable | 503 | `store` | `UNAVAILABLE` | yes |
//! | the store refuses us, until somebody changes a setting | 500 | `store` | `INTERNAL` | |
//! | too many requests waiting | 503 | `too-many-waiters` | `UNAVAILABLE` | yes |
//! | handler panicked, or failed without a response | 500 | `handler-failed` | `UNKNOWN` | |
//!
//! Refusals are problem documents (RFC 9457) with a `code`; with the presets for Stripe, they are Stripe's error objects. The refusal of
//! a call of gRPC has trailers only: HTTP 200 without a body, the status and the code with a text in `grpc-message`, and, where the client
//! may retry, `grpc-retry-pushback-ms`. In flight is `UNAVAILABLE`, and not `ABORTED`, because the very same call may be sent again.
//!
//! A replay has the header `Idempotent-Replayed: true`. Every response to a request with a key and a scope has the header
//! `Idempotency-Ttl`: the number of seconds for which a response is kept after its completion. There is no date, because only the
//! store's clock decides.

mod body;
mod builder;
mod config;
#[cfg(feature = "axum")]
mod extract;
mod fingerprint;
mod grpc;
mod handler_run;
mod key;
mod layer;
mod not_begun;
mod recorded_request;
mod replies;
mod running;
mod service;
mod stored_response;

#[cfg(feature = "axum")]
pub use self::extract::{KeyRejection, OrNotBegun};
pub use self::{
    body::{BoxError, RequestBody, ResponseBody},
    builder::{ChooseScope, IdempotencyLayerBuilder},
    fingerprint::RequestFingerprint,
    key::{IdempotencyKey, KeyFormat},
    layer::IdempotencyLayer,
    not_begun::NotBegun,
    service::{IdempotencyService, ResponseFuture},
};
