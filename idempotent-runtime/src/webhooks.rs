//! Signatures of webhooks: who sent a delivery, and which event it is.
//!
//! A sender repeats a webhook until it is answered, and now and then although it was. So each delivery is to be
//! *verified*, on its raw bytes and before anything else is done with them, and then worked off once for its event. The
//! former is done here; the latter by an annotated function whose key has the event's id:
//!
//! ```
//! use idempotent_runtime::{idempotent, webhooks::Verifier};
//! # use idempotent_runtime::{Error, webhooks::VerifyError};
//! # use http::HeaderMap;
//! # #[derive(Debug)] enum HookError { Signature(VerifyError), Idempotency(Error) }
//! # impl From<VerifyError> for HookError { fn from(error: VerifyError) -> Self { Self::Signature(error) } }
//! # impl From<Error> for HookError { fn from(error: Error) -> Self { Self::Idempotency(error) } }
//! # #[derive(serde::Serialize)] struct Push;
//! # impl Push { fn parse(_: &[u8]) -> Self { Self } }
//!
//! /// The handler, with the body as it came.
//! async fn handle(verifier: &Verifier, headers: &HeaderMap, body: &[u8]) -> Result<(), HookError> {
//!     let delivery = verifier.verify(headers, body)?; // 400 if that fails: neither parsed nor stored
//!     pushed("/hooks/github", delivery.id(), &Push::parse(body)).await // 2xx once this is `Ok`
//! }
//!
//! #[idempotent(key = ("github", endpoint, delivery_id), ttl = "8d")]
//! async fn pushed(endpoint: &str, delivery_id: &str, push: &Push) -> Result<(), HookError> {
//!     Ok(())
//! }
//! # let verifier = Verifier::github(["a secret"]).unwrap();
//! ```
//!
//! # The key
//!
//! Sender, endpoint and event id. Never the signature, which is another one for each attempt that has its time in it, and
//! for each secret; and never the body, which may differ between attempts as well (Stripe's `pending_webhooks` does). So
//! hand the annotated function what it needs of the event, rather than its bytes: a repeat that differs in its arguments
//! is refused as [`Error::Mismatch`](crate::Error::Mismatch).
//!
//! # The body
//!
//! As it came: with axum, an argument `body: Bytes`, and neither `Json` nor `String`. axum refuses more than 2 MiB unless
//! `DefaultBodyLimit` says otherwise; GitHub sends up to 25 MB. GitHub sends JSON to webhooks whose content type is set to
//! `application/json`, and a form with the JSON in it to others.
//!
//! # The time to live
//!
//! As long as the sender may deliver an event again, automatically or by somebody's hand:
//!
//! | sender | retries by itself | by hand | `ttl`, at least | source |
//! |---|---|---|---|---|
//! | Stripe | 3 days | events of the last 30 days | 30 d | <https://docs.stripe.com/webhooks/process-undelivered-events> |
//! | GitHub | never | deliveries of the last 3 days (Enterprise Server: 7) | 3 d (7 d) | <https://docs.github.com/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks> |
//! | Shopify | 8 times in 4 hours | – | 4 h | <https://shopify.dev/changelog/updates-to-webhook-retry-mechanism> |
//! | Standard Webhooks | "multiple days"; in the example 3 days and 4 hours | the sender decides | ask the sender, else 30 d | <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md> |
//!
//! # What is signed
//!
//! | | headers | signed | event id |
//! |---|---|---|---|
//! | [`Verifier::standard`] | `webhook-signature`, `webhook-timestamp`, `webhook-id` | id, time of the attempt, body | `webhook-id` |
//! | [`Verifier::stripe`] | `Stripe-Signature` | time of the attempt, body | `id` in the body |
//! | [`Verifier::github`] | `X-Hub-Signature-256`, `X-GitHub-Delivery` | body | `X-GitHub-Delivery` |
//! | [`Verifier::shopify`] | `X-Shopify-Hmac-Sha256`, `X-Shopify-Webhook-Id` | body | `X-Shopify-Webhook-Id` |
//!
//! All of it is HMAC-SHA-256. A `webhook-id` with a dot is refused, as the specification asks: the parts are joined with dots,
//! and a body could pass for a time and another body. Where neither id nor time is signed, whoever got hold of one delivery can send it again under
//! another id, at any time: let such an event say what *is* ("the branch is at this commit, as of then"), and never let an
//! older one overwrite a newer one. That is also what events need that arrive out of order.
//!
//! `X-Shopify-Webhook-Id` is of one delivery to one subscription, with its retries. Shopify also sends an
//! `X-Shopify-Event-Id`, by which [its guidelines](https://shopify.dev/docs/apps/build/webhooks/ignore-duplicates) tell
//! duplicates: once the delivery is verified, take that header for the key if several subscriptions to an event are to
//! have one effect together.

mod error;
mod header;
mod schemes;
mod secret;
mod verifier;

pub use error::VerifyError;
pub use verifier::{Delivery, Verifier};
