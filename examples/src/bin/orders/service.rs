//! The service: an order is charged, reserved and confirmed by mail. This is the file to copy from.

use std::time::Duration;

use idempotent_runtime::{Backoff, Execution, Reconciled, idempotent, step};
use tokio::time::timeout;

use crate::{
    order::{Confirmation, Order, OrderError},
    shop::Shop,
};

/// Short, so that nobody has to wait for the claims of killed processes. In a service, leave it out: the default is 30 s.
const LEASE: Duration = Duration::from_secs(2);
/// The pauses between two attempts: 50 attempts are 45 s. In a service, make them outlast an outage of the card network, since an
/// attempt counts also if it only learns that there is no answer yet.
const PAUSES: Backoff = Backoff::exponential(Duration::from_millis(20), Duration::from_secs(1));
/// The time within which others have to answer.
const PATIENCE: Duration = Duration::from_millis(400);

/// Places an order, once, however often it is called and whenever its process is killed.
///
/// A step that is on record is not run again. A step whose process dies before that runs again, so each of them is a function
/// that can stand it: the other side knows a key, or shares our transaction, or can be asked.
#[idempotent(
    name = "orders.place",
    key = order.id,
    ttl = "30d",
    skip(shop),
    lease = LEASE,
    wait = "500ms",
    max_attempts = 50,
    retry_after = PAUSES
)]
pub(crate) async fn place(shop: &Shop, order: &Order) -> Result<Confirmation, OrderError> {
    let charge = step("charge", charge(shop, &order.id, order.cents)).await?;
    let reservation = step("reserve", shop.stock.reserve(order)).await?;
    let mail = step("mail", send_mail(shop, &order.id, charge)).await?;
    Ok(Confirmation { charge, reservation, mail, attempt: run().attempt() })
}

/// Charges the card. The card network knows a key again: a repeat is answered with the first charge, so an `Err` may free our
/// key although the answer was lost on its way.
#[idempotent(
    name = "orders.charge",
    key = order_id,
    ttl = "30d",
    skip(shop),
    lease = LEASE,
    wait = "500ms",
    abandoned = reconcile(find_charge),
    settle_after = "0s" // A late request has the same key.
)]
async fn charge(shop: &Shop, order_id: &str, cents: i64) -> Result<i64, OrderError> {
    Ok(timeout(PATIENCE, shop.outside.charge(order_id, cents, &run().child_key("card"))).await?)
}

/// Asks the card network for the charge of a run that vanished.
async fn find_charge(run: &Execution, shop: &Shop, order_id: &str, _: i64) -> Result<Reconciled<i64>, OrderError> {
    Ok(ask(shop.outside.find_charge(order_id, &run.child_key("card"))).await)
}

/// Sends the mail. The mail server knows no keys: what it is asked twice, it sends twice. So no answer is not an `Err` of the
/// step, which would mean that nothing was sent. The step is dropped in the middle, the run is abandoned with it, and the next
/// one looks into the mail server's log.
#[idempotent(
    name = "orders.mail",
    key = order_id,
    ttl = "30d",
    skip(shop),
    lease = LEASE,
    wait = "500ms",
    abandoned = reconcile(was_sent),
    settle_after = "2s" // No mail is under way for longer than that.
)]
async fn send_mail(shop: &Shop, order_id: &str, charge: i64) -> Result<i64, OrderError> {
    timeout(PATIENCE, step("hand over", async { Ok(shop.outside.send_mail(order_id, charge).await) })).await?
}

/// Looks for the mail of a run that vanished.
async fn was_sent(_: &Execution, shop: &Shop, order_id: &str, _: i64) -> Result<Reconciled<i64>, OrderError> {
    Ok(ask(shop.outside.find_mail(order_id)).await)
}

/// Asks whether it happened. No answer in time leaves it open.
async fn ask(question: impl Future<Output = Option<i64>>) -> Reconciled<i64> {
    match timeout(PATIENCE, question).await {
        Ok(Some(number)) => Reconciled::Done(number),
        Ok(None) => Reconciled::NotDone,
        Err(_) => Reconciled::Unknown,
    }
}

#[expect(clippy::expect_used, reason = "called by the bodies of idempotent functions only")]
fn run() -> Execution {
    Execution::current().expect("inside an idempotent function")
}
