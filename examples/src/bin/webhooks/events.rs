//! The events, reduced to the fields that this service uses.
//!
//! They are the arguments of the annotated functions, and so must be the same in every attempt. Fields that differ between
//! attempts, like Stripe's `pending_webhooks`, are left out.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// Reads text that the database can hold: PostgreSQL has no U+0000. An event with it is malformed. Refused only by the database, it
/// would look like a failure of this service, and come again for days.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.contains('\0') { Err(D::Error::custom("U+0000 in a text")) } else { Ok(text) }
}

/// An event of Stripe's. <https://docs.stripe.com/api/events/object>
#[derive(Serialize, Deserialize)]
pub(crate) struct StripeEvent {
    #[serde(deserialize_with = "text")]
    pub(crate) id: String,
    #[serde(rename = "type", deserialize_with = "text")]
    pub(crate) kind: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    pub(crate) data: StripeData,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StripeData {
    pub(crate) object: Subscription,
}

/// Empty if the event is about something else.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Subscription {
    #[serde(deserialize_with = "text")]
    pub(crate) id: String,
    #[serde(deserialize_with = "text")]
    pub(crate) status: String,
}

/// GitHub's `push`. <https://docs.github.com/webhooks/webhook-events-and-payloads#push>
#[derive(Serialize, Deserialize)]
pub(crate) struct Push {
    /// The branch.
    #[serde(rename = "ref", deserialize_with = "text")]
    pub(crate) branch: String,
    /// The commit that the branch is at now.
    #[serde(deserialize_with = "text")]
    pub(crate) after: String,
    pub(crate) repository: Repository,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Repository {
    #[serde(deserialize_with = "text")]
    pub(crate) full_name: String,
    /// Seconds since 1970.
    pub(crate) pushed_at: i64,
}

/// An event of our own shop. The shop follows Standard Webhooks, and numbers the versions of an order.
#[derive(Serialize, Deserialize)]
pub(crate) struct ShopEvent {
    #[serde(rename = "type", deserialize_with = "text")]
    pub(crate) kind: String,
    pub(crate) data: Order,
}

/// Empty if the event is about something else.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Order {
    #[serde(deserialize_with = "text")]
    pub(crate) id: String,
    #[serde(deserialize_with = "text")]
    pub(crate) status: String,
    pub(crate) version: i64,
}
