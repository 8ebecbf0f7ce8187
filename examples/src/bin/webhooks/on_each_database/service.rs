//! The service: what is done about an event, once. This is the file to copy from, with `handlers.rs`.
//!
//! sqlx has a type for each database. `Db` is one of them: this file is compiled once with `sqlx::Postgres` and once
//! with `sqlx::Sqlite`.
//!
//! The key is sender, endpoint and event id; the time to live covers as long as the sender may deliver an event again.
//! What the body writes is committed with the record of the call, or not at all. A duplicate waits for up to `wait`,
//! which is less than senders wait for their answer.

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

/// A subscription has changed. Stripe can send an event again for 30 days.
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

/// A branch was pushed to. GitHub can send a delivery again for 3 days, an Enterprise Server for 7.
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

/// An order of our shop has changed. The shop sends an event again for as long as somebody wants it to: for 30 days,
/// say.
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
