//! A request and its result.

use serde::{Deserialize, Serialize};

/// An order as a service would receive it.
#[derive(Clone, Serialize)]
pub(crate) struct Order {
    reference: String,
    customer_id: u64,
    pub(crate) amount_cents: u64,
    currency: &'static str,
    express: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    items: Vec<Item>,
}

#[derive(Clone, Serialize)]
struct Item {
    sku: String,
    description: String,
    quantity: usize,
    unit_price_cents: usize,
    weight_kg: f64,
}

impl Order {
    /// One whose JSON has about `bytes` bytes.
    pub(crate) fn of_size(bytes: usize) -> Self {
        Self {
            reference: "ord_01J9ZW3R".to_owned(),
            customer_id: 48_213_377,
            amount_cents: 129_900,
            currency: "EUR",
            express: true,
            note: (bytes > 500).then(|| "Leave at the door, ring twice".to_owned()),
            items: (0..bytes.saturating_sub(100) / 141).map(Item::number).collect(),
        }
    }
}

impl Item {
    fn number(number: usize) -> Self {
        Self {
            sku: format!("SKU-{number:06}"),
            description: format!("Article number {number}, blue, pack of {}", number % 7 + 1),
            quantity: number % 5 + 1,
            unit_price_cents: 1_999 + number,
            weight_kg: if number.is_multiple_of(2) { 0.25 } else { 12.5 },
        }
    }
}

/// The result of charging an order: about 200 bytes as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    charge: String,
    order: String,
    amount_cents: u64,
    currency: String,
    status: String,
    descriptor: String,
    lines: Vec<u64>,
}

impl Receipt {
    pub(crate) fn of(order_id: &str, order: &Order) -> Self {
        Self {
            charge: "ch_3PqXyZ2eZvKYlo2C1gQ4mD8a".into(),
            order: order_id.into(),
            amount_cents: order.amount_cents,
            currency: "EUR".into(),
            status: "succeeded".into(),
            descriptor: "EXAMPLE SHOP 0800-555".into(),
            lines: vec![99_900, 30_000],
        }
    }
}
