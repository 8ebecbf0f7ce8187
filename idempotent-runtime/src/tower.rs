//! A layer for HTTP services (axum, hyper, whatever is a tower service) that answers each request with a key once.
//!
//! ```
//! use std::time::Duration;
//! use idempotent_runtime::{Idempotency, tower::IdempotencyLayer};
//!
//! # fn main() -> Result<(), idempotent_runtime::SetupError> {
//! #[derive(Clone)]
//! struct Account(String); // as authentication leaves it in the request's extensions
//!
//! let layer = IdempotencyLayer::ietf(Idempotency::memory())
//!     .scope(|request| Some(request.extensions.get::<Account>()?.0.clone()))
//!     .ttl(Duration::from_secs(7 * 24 * 60 * 60))
//!     .build()?;
//! # let _ = layer;
//! # Ok(()) }
//! ```
//!
//! With axum, `router.layer(layer)`, inside of whatever authenticates: what outer layers answer is never kept. CORS belongs
//! outside as well, since what it adds is for one origin and is not replayed; compression, tracing and timeouts do. Two such
//! layers around one handler need different [`name`](IdempotencyLayerBuilder::name)s: of one name, the inner finds its key taken.
//!
//! Inside of a router that is nested in another, the path has lost its prefix. With the feature `axum` the layer knows the
//! whole path all the same; without it, give each such layer a [`name`](IdempotencyLayerBuilder::name) of its own, so that they share no
//! keys. With that feature, [`IdempotencyKey`] is an extractor as well (with an example there), and [`Error`](crate::Error) a
//! response.
//!
//! The layer answers repeats of a response. What a handler has done before its process is killed it does not know: let the
//! handler call an annotated function, with [`transaction`](macro@crate::idempotent) where there is a database. The example
//! `charges` does. Before the process ends, [`IdempotencyLayer::idle`] waits for handlers whose clients have gone.
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
//! Up to the body nothing is asked of the store. The body is read once, to its end, and handed on. Method, path, query and
//! body are the request: the same key with another one is refused, also on another path. The host is not: where one service
//! answers for several, have it in the scope.
//!
//! The handler of a claimed request is a task of its own (values that outer layers keep in task-locals do not reach it).
//! Who owns the response's body, and when the record is complete:
//!
//! | the handler's response | goes to the client | the record |
//! |---|---|---|
//! | has its whole body at once | when it is on record | done |
//! | has a body that takes its time | as it comes; its last piece when it is on record | done, at the body's end |
//! | has such a body, and its claim is lost by its end | up to there, then the connection breaks | another run's |
//! | has a status that is not kept, or [`NotBegun`] | when the key is free; the body is the handler's own | vacant |
//! | is too large to keep | whole: what was copied, then the handler's own body | done without a result, when that is known |
//! | has a body that fails | up to there, then the connection breaks | done without a result |
//! | is none: panic, error of the service | 500 | abandoned: the layer's [`abandoned`](IdempotencyLayerBuilder::abandoned) decides |
//!
//! A client that goes away stops neither handler nor copy; both may run on for [`run_on`](IdempotencyLayerBuilder::run_on), whoever else
//! waits. A handler that
//! takes longer is dropped and its run abandoned; a body that takes longer is done without a result. What follows of a body
//! that is too large to keep is its client's alone, and ends with it.
//!
//! # What clients are told
//!
//! | | status | code | asked again later |
//! |---|---|---|---|
//! | no key | 400 | `key-missing` | |
//! | not one key | 400 | `key-malformed` | |
//! | nobody's request | 403 | `no-scope` | |
//! | body too large, cut off | 413, 400 | `body-too-large`, `body-unreadable` | |
//! | key of another request | 422 | `mismatch` | |
//! | request under way | 409 | `in-flight`, `claim-lost` | yes |
//! | abandoned, with `OnAbandoned::Refuse` | 409 | `abandoned` | |
//! | done, response not kept | 500 | `result-not-kept` | |
//! | store out of reach, too many waiting | 503 | `store`, `too-many-waiters` | yes |
//! | handler panicked, or failed without a response | 500 | `handler-failed` | |
//!
//! They are problem documents (RFC 9457) with a `code`; with the presets for Stripe they are its error objects. A replay has
//! the header `Idempotent-Replayed: true`, and every answer to a request with a key and a scope `Idempotency-Ttl`: for how many
//! seconds a response is kept from its completion. There is no date, since only the store's clock decides.

mod body;
mod builder;
mod config;
#[cfg(feature = "axum")]
mod extract;
mod fingerprint;
mod handler_run;
mod key;
mod layer;
mod replies;
mod service;
mod stored_response;

#[cfg(feature = "axum")]
pub use self::extract::KeyRejection;
pub use self::{
    body::{BoxError, RequestBody, ResponseBody},
    builder::{ChooseScope, IdempotencyLayerBuilder},
    fingerprint::RequestFingerprint,
    handler_run::NotBegun,
    key::{IdempotencyKey, KeyFormat},
    layer::IdempotencyLayer,
    service::{IdempotencyService, ResponseFuture},
};
