//! Deliveries that are accepted first and worked off later, by workers that may die as well.

use std::time::Duration;

use idempotent_examples::{chain, say};
use idempotent_runtime::idempotent;
use serde_json::value::RawValue;
use sqlx::{FromRow, Transaction, query, query_as};
use tokio::time::{sleep, timeout};

use super::{Db, TAKE, server::App, service};
use crate::{answer::HookError, stall::Stall};

/// What has failed so often stays where it is, for somebody to look at: `UPDATE inbox SET attempts = 0` is another chance.
const MAX_ATTEMPTS: i64 = 5;

/// How often the inbox is looked at: also for what other processes have accepted, and for what is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps a delivery. It is in the inbox exactly if its record is there.
#[idempotent(
    name = "webhooks.accept",
    key = ("standard", endpoint, delivery_id),
    ttl = "30d",
    wait = "5s",
    transaction = tx
)]
pub(crate) async fn accept(
    tx: &mut Transaction<'_, Db>,
    endpoint: &str,
    delivery_id: &str,
    event: &RawValue,
) -> Result<(), HookError> {
    let keep = query("INSERT INTO inbox (endpoint, delivery_id, body) VALUES ($1, $2, $3)");
    keep.bind(endpoint).bind(delivery_id).bind(event.get()).execute(&mut **tx).await?;
    Ok(())
}

#[derive(FromRow)]
struct Waiting {
    id: i64,
    endpoint: String,
    delivery_id: String,
    body: String,
}

/// Works off one delivery after the other.
pub(crate) async fn work(app: App) {
    loop {
        match work_off(&app).await {
            Ok(true) => {}
            // The time-out is what is waited for, mostly.
            Ok(false) => drop(timeout(PAUSE, app.wake.notified()).await),
            Err(error) => {
                say(format_args!("an attempt failed: {}", chain(&error)));
                sleep(PAUSE).await;
            }
        }
    }
}

/// Works off the next delivery, if there is one.
async fn work_off(app: &App) -> Result<bool, HookError> {
    // Committed by itself, so that an attempt counts also if it is never heard of again. All rows are fetched, since
    // SQLite commits after the last.
    let mut taken: Vec<Waiting> = query_as(TAKE).bind(MAX_ATTEMPTS).fetch_all(&app.pool).await?;
    let Some(waiting) = taken.pop() else { return Ok(false) };
    let event = serde_json::from_str(&waiting.body)?;
    let mut tx = app.pool.begin().await?;
    // The same function as for deliveries that are worked off at once: a worker that was taken for dead, and the one in
    // its place, do it once.
    service::standard(&mut tx, &waiting.endpoint, &waiting.delivery_id, &event).await?;
    query("DELETE FROM inbox WHERE id = $1").bind(waiting.id).execute(&mut *tx).await?;
    Stall::Worker.at(app.stall).await;
    tx.commit().await?;
    Ok(true)
}
