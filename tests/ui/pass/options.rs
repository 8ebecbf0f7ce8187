//! Every option, combined where possible.
#![deny(warnings)]

use std::time::Duration;

use idempotent_runtime::{Error, Idempotency, idempotent};

const TTL: Duration = Duration::from_secs(60);

#[idempotent]
async fn defaults(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

#[idempotent()]
async fn empty_parentheses(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

#[idempotent(key = order_id, ttl = "24h", lease = "1m30s", wait = "0s", name = "options.literals")]
async fn literals(order_id: &str, amount_cents: u64) -> Result<String, Error> {
    Ok(format!("{order_id}:{amount_cents}"))
}

#[idempotent(key = order_id, ttl = TTL, lease = TTL / 2, wait = Duration::from_secs(wait_secs))]
async fn expressions(order_id: &str, wait_secs: u64) -> Result<String, Error> {
    Ok(format!("{order_id}:{wait_secs}"))
}

#[idempotent(
    key = order_id,
    skip(idempotency, context),
    store = idempotency,
    abandoned = refuse,
    errors = release,
    crate = ::idempotent_runtime,
)]
async fn borrowed_store(idempotency: &Idempotency, context: NotSerialize, order_id: &str) -> Result<String, Error> {
    drop(context);
    Ok(order_id.to_owned())
}

#[idempotent(abandoned = rerun, skip(store), store = store)]
async fn shared_store(store: std::sync::Arc<Idempotency>, order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

#[idempotent(key = order_id, skip(here, there), store = if local { &here } else { there })]
async fn branches(here: Idempotency, there: &Idempotency, local: bool, order_id: u64) -> Result<u64, Error> {
    drop(here);
    Ok(order_id + u64::from(local))
}

#[idempotent(key = order_id, skip(here, there), store = match local { true => here.clone(), false => there.clone() })]
async fn owned_branches(here: Idempotency, there: &Idempotency, local: bool, order_id: u64) -> Result<u64, Error> {
    drop(here);
    Ok(order_id + u64::from(local))
}

#[idempotent(detach, key = order_id)]
async fn detached(order_id: String) -> Result<String, Error> {
    Ok(order_id)
}

struct NotSerialize;

fn main() {
    drop((
        defaults(1),
        empty_parentheses(1),
        literals("a", 1),
        expressions("a", 1),
        detached(String::new()),
    ));
    let _ = |idempotency: &Idempotency| drop(borrowed_store(idempotency, NotSerialize, ""));
    let _ = |handle: Idempotency| drop(branches(handle.clone(), &handle, true, 1));
    let _ = |handle: Idempotency| drop(owned_branches(handle.clone(), &handle, true, 1));
    let _ = |idempotency: Idempotency| drop(shared_store(idempotency.into(), 1));
}
