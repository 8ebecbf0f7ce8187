//! The handlers. Each verifies the raw bytes before anything else, and answers 2xx once everything is durable.
//!
//! An error drops the transaction, which rolls it back. So does a sender that disconnects.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use idempotent_runtime::with_disposition;
use serde_json::value::RawValue;

use super::{inbox, server::App, service};
use crate::{
    answer::{HookError, Outcome, answer},
    events::{ShopEvent, StripeEvent},
};

/// The paths of the endpoints. They are part of the keys.
pub(crate) const STRIPE: &str = "/hooks/stripe";
pub(crate) const GITHUB: &str = "/hooks/github";
pub(crate) const STANDARD: &str = "/hooks/standard";
pub(crate) const QUEUED: &str = "/hooks/standard/queued";

pub(crate) async fn stripe(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Response, HookError> {
    app.verifiers.stripe.verify(&headers, &body)?;
    let event: StripeEvent = serde_json::from_slice(&body)?;
    let mut tx = app.pool.begin().await?;
    let (outcome, disposition) = with_disposition(service::stripe(&mut tx, STRIPE, &event)).await;
    let outcome = outcome?;
    app.commit(tx).await?;
    Ok(answer(outcome, disposition))
}

pub(crate) async fn github(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Response, HookError> {
    let delivery = app.verifiers.github.verify(&headers, &body)?;
    // GitHub's first event is a `ping`.
    if headers.get("x-github-event").is_none_or(|event| event != "push") {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let push = serde_json::from_slice(&body)?;
    let mut tx = app.pool.begin().await?;
    let (outcome, disposition) = with_disposition(service::github(&mut tx, GITHUB, delivery.id(), &push)).await;
    let outcome = outcome?;
    app.commit(tx).await?;
    Ok(answer(outcome, disposition))
}

pub(crate) async fn standard(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Response, HookError> {
    let delivery = app.verifiers.standard.verify(&headers, &body)?;
    let event = serde_json::from_slice(&body)?;
    let mut tx = app.pool.begin().await?;
    let (outcome, disposition) = with_disposition(service::standard(&mut tx, STANDARD, delivery.id(), &event)).await;
    let outcome = outcome?;
    app.commit(tx).await?;
    Ok(answer(outcome, disposition))
}

/// Accepts a delivery for a worker, for work that takes longer than a sender waits.
pub(crate) async fn queued(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Response, HookError> {
    let delivery = app.verifiers.standard.verify(&headers, &body)?;
    let event: &RawValue = serde_json::from_slice(&body)?;
    // What a worker could never process is refused now, while the sender listens.
    let _: ShopEvent = serde_json::from_str(event.get())?;
    let mut tx = app.pool.begin().await?;
    let (accepted, disposition) = with_disposition(inbox::accept(&mut tx, QUEUED, delivery.id(), event)).await;
    accepted?;
    app.commit(tx).await?;
    app.wake.notify_one();
    Ok(answer(Outcome::Accepted, disposition))
}
