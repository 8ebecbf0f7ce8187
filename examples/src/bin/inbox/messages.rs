//! The messages: what the producer of the orders sends.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// An order, as the payload of a message.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) cents: i64,
    pub(crate) trouble: Option<Trouble>,
}

/// The effect of an order on the handler that books it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Trouble {
    /// Its first attempt fails.
    FailsOnce,
    /// Each attempt fails.
    FailsAlways,
}

/// The consequence of an order: the payload of the message that the outbox sends.
#[derive(Serialize, Deserialize)]
pub(crate) struct OrderPaid {
    pub(crate) order_id: String,
    pub(crate) cents: i64,
}

/// The fate of a message: it is booked, or a dead letter for this reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Booked,
    /// Nobody can decode it.
    Permanent,
    /// Its handler fails as often as it is run.
    Exhausted,
    /// Another message had its id before.
    Conflict,
}

impl Fate {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Booked => "booked",
            Self::Permanent => "permanent",
            Self::Exhausted => "exhausted",
            Self::Conflict => "conflict",
        }
    }
}

/// A message of the producer.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) cents: i64,
    pub(crate) fate: Fate,
}

/// The orders with these numbers, in the order in which they are sent. One in five comes again, up to fifty places later.
pub(crate) fn orders(seed: u64, count: u32) -> Vec<Sent> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut places = Vec::new();
    for number in 1..=count {
        let order = order(seed, number, random.random_range(100..100_000));
        if random.random_range(0..5) == 0 {
            places.push((number + random.random_range(1..=50), order.clone()));
        }
        places.push((number, order));
    }
    places.sort_by_key(|(place, _)| *place);
    places.into_iter().map(|(_, order)| order).collect()
}

/// Messages with the ids of orders, and other amounts. One order in twenty gets one.
pub(crate) fn forgeries(seed: u64, count: u32) -> Vec<Sent> {
    let numbers = (1..=count).filter(|number| number % 20 == 11);
    numbers.map(|number| Sent { fate: Fate::Conflict, ..order(seed, number, 99) }).collect()
}

fn order(seed: u64, number: u32, cents: i64) -> Sent {
    let id = format!("{seed}-{number:05}");
    let (fate, trouble) = match (number % 50, number % 10) {
        (7, _) => {
            let payload = format!(r#"{{"id":"{id}","cents":"a lot"}}"#).into_bytes();
            return Sent { id, payload, cents, fate: Fate::Permanent };
        }
        (23, _) => (Fate::Exhausted, Some(Trouble::FailsAlways)),
        (_, 3) => (Fate::Booked, Some(Trouble::FailsOnce)),
        _ => (Fate::Booked, None),
    };
    let payload = serde_json::to_vec(&Order { id: id.clone(), cents, trouble }).unwrap_or_default();
    Sent { id, payload, cents, fate }
}
