//! Verifies webhooks: the sender of a delivery, and the id of its event.
//!
//! A sender repeats a webhook until it gets an answer, and sometimes after that. Verify each delivery on its raw bytes first, then
//! process its event once. This module verifies; an annotated function keyed by the event id does the rest:
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
//! /// Gets the body as it came over the wire.
//! async fn handle(verifier: &Verifier, headers: &HeaderMap, body: &[u8]) -> Result<(), HookError> {
//!     let delivery = verifier.verify(headers, body)?; // if that fails: answer 400, parse and store nothing
//!     pushed("/hooks/github", delivery.id(), &Push::parse(body)).await // if this is `Ok`: answer 2xx
//! }
//!
//! #[idempotent(name = "hooks.pushed", key = ("github", endpoint, delivery_id), ttl = "8d")]
//! async fn pushed(endpoint: &str, delivery_id: &str, push: &Push) -> Result<(), HookError> {
//!     Ok(())
//! }
//! # let verifier = Verifier::github(["a secret"]).unwrap();
//! ```
//!
//! # The key
//!
//! Make the key from sender, endpoint and event id. Give the annotated function a `name` that begins with the service's, where
//! several services share a store: with one name, they would answer for each other.
//!
//! Do not put the signature into it: where the time of the attempt is signed, each attempt has another signature, and so has each
//! secret. Do not put the body into it either: it may differ between attempts, as Stripe's `pending_webhooks` does. For the same
//! reason, pass to the annotated function what it needs of the event, and not the bytes: a repeat with different arguments is
//! refused as [`Error::Mismatch`](crate::Error::Mismatch).
//!
//! # The body
//!
//! Pass the body as it came over the wire. With axum, take it as `body: Bytes`, not as `Json` or `String`. axum refuses more than
//! 2 MiB unless `DefaultBodyLimit` says otherwise; GitHub sends up to 25 MB. Set the content type of a webhook of GitHub's to
//! `application/json`: with the other choice, GitHub sends a form that contains the JSON.
//!
//! # The time to live
//!
//! Keep records for as long as the sender may deliver an event again, automatically or by hand:
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
//! | the same, of senders on Svix | `svix-signature`, `svix-timestamp`, `svix-id` | id, time of the attempt, body | `svix-id` |
//! | [`Verifier::stripe`] | `Stripe-Signature` | time of the attempt, body | `id` in the body |
//! | [`Verifier::github`] | `X-Hub-Signature-256`, `X-GitHub-Delivery` | body | `X-GitHub-Delivery` |
//! | [`Verifier::shopify`] | `X-Shopify-Hmac-Sha256`, `X-Shopify-Webhook-Id` | body | `X-Shopify-Webhook-Id` |
//!
//! All signatures are HMAC-SHA-256. A `webhook-id` or `svix-id` with a dot is refused, as the specification asks: the signed parts are joined
//! with dots, so a part of the body could pass as a time.
//!
//! Where neither id nor time is signed, anybody who got hold of one delivery can send it again, at any time and under another id. Let
//! such an event state what *is* ("the branch is at this commit, as of then"), and never let an older event overwrite a newer
//! one. Events that arrive out of order need the same rule.
//!
//! `X-Shopify-Webhook-Id` identifies one delivery to one subscription, with its retries. Shopify also sends an
//! `X-Shopify-Event-Id`, by which [its guidelines](https://shopify.dev/docs/apps/build/webhooks/ignore-duplicates) detect
//! duplicates. If several subscriptions to one event are to have one effect, make the key from that header, after the delivery was
//! verified.

mod error;
mod header;
mod schemes;
mod secret;
mod verifier;

pub use error::VerifyError;
pub use verifier::{Delivery, Verifier};
