//! 9. Take an `Idempotency-Key` from clients, and webhooks from senders.
//!
//! Two cases look alike, and differ in who makes the key. A *client* of your API sends a key of its choice, in a header. A *sender* of
//! webhooks sends an event with an id, and signs it.
//!
//! # Clients: the layer
//!
//! ```
//! # #[cfg(all(feature = "tower", feature = "memory"))] mod example {
//! use std::time::Duration;
//! use idempotent_runtime::{Idempotency, SetupError, tower::IdempotencyLayer};
//!
//! #[derive(Clone)]
//! struct Account(String); // your authentication leaves it in the request's extensions
//!
//! fn layer(idempotency: Idempotency) -> Result<IdempotencyLayer, SetupError> {
//!     IdempotencyLayer::ietf("shop.orders", idempotency)
//!         .scope(|request| Some(request.extensions.get::<Account>()?.0.clone()))
//!         .ttl(Duration::from_secs(7 * 24 * 60 * 60))
//!         .build()
//! }
//! # pub fn main() { layer(Idempotency::memory()).unwrap(); }
//! # }
//! # #[cfg(all(feature = "tower", feature = "memory"))] fn main() { example::main() }
//! # #[cfg(not(all(feature = "tower", feature = "memory")))] fn main() {}
//! ```
//!
//! Put it inside authentication, and inside CORS, compression and time-outs. With axum, use `route_layer`. The page of the module `tower`
//! has the order and the reasons.
//!
//! | the request | the response |
//! |---|---|
//! | has a new key | the handler's; it is on record before its last byte is sent |
//! | is a repeat | the recorded one, with `Idempotent-Replayed: true` |
//! | repeats one that is running | 409 `in-flight`; with `wait`, it waits first |
//! | has a key of another request | 422 `mismatch` |
//! | has no key | 400 `key-missing`; with `optional()`, it passes unprotected |
//! | is a GET | passes: only POST and PATCH take a key, unless `methods` says otherwise. GET never needs one |
//!
//! **The scope** keeps clients apart. Without one, a client that guesses another client's key gets that client's response. So the layer
//! cannot be built without a choice. Take the tenant from your authentication, never from a header that the client can write.
//!
//! **Failures.** A response of 5xx, 408, 425 or 429 is not recorded: a repeat runs the handler. Every other one is recorded, 4xx as well: a declined
//! card stays declined. A 4xx that comes *before* the handler has done anything, such as that the body is no JSON, should not use up the
//! key. With axum, take `OrNotBegun<Json<Order>>` in place of `Json<Order>`; elsewhere, mark the response as `NotBegun`. The presets
//! `stripe_v1` and `stripe_v2` have Stripe's rules instead.
//!
//! **A 5xx after an effect is a second effect.** The handler charged the card, could not write a row, and answered 500. The repeat charges
//! again. The layer cannot know. So let the handler call an annotated function for the effect, with a
//! [transaction](super::effects_in_your_database) or a [`child_key`](crate::Execution::child_key).
//!
//! A client that goes away does not stop the handler: its repeat gets the response.
//!
//! # Senders: webhooks
//!
//! Verify the signature on the raw bytes. Then call an annotated function with the event's id as its key. Then answer 2xx.
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "webhooks", feature = "memory"))] mod example {
//! use http::{HeaderMap, StatusCode};
//! use idempotent_runtime::{Error, idempotent, webhooks::Verifier};
//!
//! async fn receive(github: &Verifier, headers: &HeaderMap, body: &[u8]) -> StatusCode {
//!     let Ok(delivery) = github.verify(headers, body) else { return StatusCode::BAD_REQUEST };
//!     match deploy(delivery.id()).await {
//!         Ok(()) => StatusCode::OK, // on record: the sender may stop
//!         Err(error) => StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
//!     }
//! }
//!
//! #[idempotent(name = "hooks.deploy", key = ("github", delivery_id), ttl = "8d", wait = "0s")]
//! async fn deploy(delivery_id: &str) -> Result<(), Error> {
//!     Ok(())
//! }
//! # pub fn main() { Verifier::github(["a secret"]).unwrap(); }
//! # }
//! # #[cfg(all(feature = "macros", feature = "webhooks", feature = "memory"))] fn main() { example::main() }
//! # #[cfg(not(all(feature = "macros", feature = "webhooks", feature = "memory")))] fn main() {}
//! ```
//!
//! - **Key**: sender, endpoint, event id. Never the signature, which differs between tries, and never the body, which may.
//! - **Arguments**: what the function needs of the event, not its bytes.
//! - **Secrets are rotated** without a lost event: [`Verifier::stripe([new, old])`](crate::webhooks::Verifier) accepts both. Deploy it, then roll
//!   the secret at the sender, and remove the old one when the sender does not sign with it any more.
//! - **`ttl`**: by sender. Stripe's events can be sent again for 30 days: see [how long](super::how_long).
//! - **Not 2xx while it runs.** A duplicate that gets `InFlight` is answered 409. The sender comes again, and finds the result.
//! - **Order**: events come in any order. Never let an older event overwrite a newer one.
//!
//! The page of the module `webhooks` says what each sender signs, and what a replay by a stranger can do. The programs `charges` and `webhooks` of the
//! examples are complete services.
