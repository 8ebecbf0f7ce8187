//! The service: functions that process an event once. This is the file to copy from, with `handlers.rs`.
//!
//! This file is compiled twice: with `Db` as `sqlx::Postgres`, and as `sqlx::Sqlite`. In your service, write the one that you use.
//!
//! The key is made of sender, endpoint and event id. `ttl` is longer than the time in which the sender may deliver an event again.
//! The changes of the body are committed with the record of the call, or not at all. A duplicate waits up to `wait`, which
//! is shorter than the time that senders wait for their response.

use idempotent_runtime::idempotent;
use sqlx::Transaction;

use super::{
    Db,
    books::{Change, apply},
};
use crate::{
    answer::{HookError, Outcome},
    events::{Push, ShopEvent, StripeEvent},
};

/// Processes a change of a subscription. Stripe can send an event again for 30 days.
#[idempotent(
    name = "webhooks.stripe",
    key = ("stripe", endpoint, &event.id),
    ttl = "30d",
    wait = "5s",
    transaction = tx
)]
pub(crate) async fn stripe(
    tx: &mut Transaction<'_, Db>,
    endpoint: &str,
    event: &StripeEvent,
) -> Result<Outcome, HookError> {
    if !event.kind.starts_with("customer.subscription.") {
        return Ok(Outcome::Ignored);
    }
    let (event_id, subscription) = (&event.id, &event.data.object);
    let (object, status) = (&subscription.id, &subscription.status);
    apply(tx, Change { endpoint, event_id, object, status, version: event.created }).await
}

/// Processes a push to a branch. GitHub can send a delivery again for 3 days, an Enterprise Server for 7.
#[idempotent(
    name = "webhooks.github",
    key = ("github", endpoint, delivery_id),
    ttl = "8d",
    wait = "5s",
    transaction = tx
)]
pub(crate) async fn github(
    tx: &mut Transaction<'_, Db>,
    endpoint: &str,
    delivery_id: &str,
    push: &Push,
) -> Result<Outcome, HookError> {
    let object = &format!("{} {}", push.repository.full_name, push.branch);
    let version = push.repository.pushed_at;
    apply(tx, Change { endpoint, event_id: delivery_id, object, status: &push.after, version }).await
}

/// Processes a change of an order. Our shop can send an event again for 30 days.
#[idempotent(
    name = "webhooks.standard",
    key = ("standard", endpoint, delivery_id),
    ttl = "30d",
    wait = "5s",
    transaction = tx
)]
pub(crate) async fn standard(
    tx: &mut Transaction<'_, Db>,
    endpoint: &str,
    delivery_id: &str,
    event: &ShopEvent,
) -> Result<Outcome, HookError> {
    if !event.kind.starts_with("order.") {
        return Ok(Outcome::Ignored);
    }
    let (object, status, version) = (&event.data.id, &event.data.status, event.data.version);
    apply(tx, Change { endpoint, event_id: delivery_id, object, status, version }).await
}
