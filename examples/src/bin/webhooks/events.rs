//! What the senders tell, as far as this service wants to know.
//!
//! These are the arguments of the annotated functions: what is not in them, like Stripe's `pending_webhooks`, may differ
//! from one attempt to the next.

use serde::{Deserialize, Serialize};

/// An event of Stripe's. <https://docs.stripe.com/api/events/object>
#[derive(Serialize, Deserialize)]
pub(crate) struct StripeEvent {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    pub(crate) data: StripeData,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StripeData {
    pub(crate) object: Subscription,
}

/// Empty, where the event is about something else.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Subscription {
    pub(crate) id: String,
    pub(crate) status: String,
}

/// GitHub's `push`. <https://docs.github.com/webhooks/webhook-events-and-payloads#push>
#[derive(Serialize, Deserialize)]
pub(crate) struct Push {
    /// The branch.
    #[serde(rename = "ref")]
    pub(crate) branch: String,
    /// The commit that it is at now.
    pub(crate) after: String,
    pub(crate) repository: Repository,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Repository {
    pub(crate) full_name: String,
    /// Seconds since 1970.
    pub(crate) pushed_at: i64,
}

/// An event of our own shop, which follows Standard Webhooks and numbers the versions of an order.
#[derive(Serialize, Deserialize)]
pub(crate) struct ShopEvent {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) data: Order,
}

/// Empty, where the event is about something else.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) version: i64,
}
