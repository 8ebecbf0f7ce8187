//! Deliveries that are accepted first and processed later, by workers that may crash as well.

use std::time::Duration;

use idempotent_examples::{chain, say};
use idempotent_runtime::idempotent;
use serde_json::value::RawValue;
use sqlx::{FromRow, Transaction, query, query_as};
use tokio::time::{sleep, timeout};

use super::{Db, TAKE, server::App, service};
use crate::{answer::HookError, stall::Stall};

/// A delivery that has failed this often stays in the inbox, for somebody to look at. `UPDATE inbox SET attempts = 0` lets the
/// workers try again.
const MAX_ATTEMPTS: i64 = 5;

/// The interval at which the inbox is read, for deliveries that other processes accepted and for retries.
const PAUSE: Duration = Duration::from_secs(1);

/// Puts a delivery into the inbox. Row and record are committed together.
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

/// Processes one delivery after the other.
pub(crate) async fn work(app: App) {
    loop {
        match process_next(&app).await {
            Ok(true) => {}
            // Mostly the time-out ends this wait.
            Ok(false) => drop(timeout(PAUSE, app.wake.notified()).await),
            Err(error) => {
                say(format_args!("an attempt failed: {}", chain(&error)));
                sleep(PAUSE).await;
            }
        }
    }
}

/// Processes the next delivery, if there is one.
async fn process_next(app: &App) -> Result<bool, HookError> {
    // This statement commits by itself, so that the attempt counts even if this worker dies. `fetch_all`, because SQLite commits
    // after the last row.
    let mut taken: Vec<Waiting> = query_as(TAKE).bind(MAX_ATTEMPTS).fetch_all(&app.pool).await?;
    let Some(waiting) = taken.pop() else { return Ok(false) };
    let event = serde_json::from_str(&waiting.body)?;
    let mut tx = app.pool.begin().await?;
    // An annotated function here as well. A slow worker may still be at it when the delivery is due again for another worker:
    // the event is processed once all the same.
    service::standard(&mut tx, &waiting.endpoint, &waiting.delivery_id, &event).await?;
    query("DELETE FROM inbox WHERE id = $1").bind(waiting.id).execute(&mut *tx).await?;
    Stall::Worker.at(app.stall).await;
    tx.commit().await?;
    Ok(true)
}
