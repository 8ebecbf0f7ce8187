//! What the benches share: a payload, and the median of alternating rounds.

use std::time::{Duration, Instant};

use serde::Serialize;

/// An order as a service would receive it.
#[derive(Serialize)]
pub struct Order {
    order_id: String,
    customer_id: u64,
    amount_cents: u64,
    currency: &'static str,
    express: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    items: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    sku: String,
    description: String,
    quantity: u32,
    unit_price_cents: u64,
    weight_kg: f64,
}

/// An order whose JSON has about `bytes` bytes.
pub fn order_of(bytes: usize) -> Order {
    let item = |index: usize| Item {
        sku: format!("SKU-{index:06}"),
        description: format!("Article number {index}, blue, pack of {}", index % 7 + 1),
        quantity: u32::try_from(index % 5 + 1).unwrap_or(1),
        unit_price_cents: 1_999 + index as u64,
        weight_kg: 0.25 * (index % 9 + 1) as f64,
    };
    Order {
        order_id: "ord_01J9ZW3R".to_owned(),
        customer_id: 48_213_377,
        amount_cents: 129_900,
        currency: "EUR",
        express: true,
        note: (bytes > 500).then(|| "Leave at the door, ring twice".to_owned()),
        items: (0..bytes.saturating_sub(100) / 140).map(item).collect(),
    }
}

/// Times of several ways to do the same, side by side, the first of which is the baseline.
pub struct Table<const N: usize> {
    names: [&'static str; N],
}

impl<const N: usize> Table<N> {
    pub fn new(names: [&'static str; N]) -> Self {
        let columns: String = names.iter().map(|name| format!(" {name} | ratio |")).collect();
        println!("| JSON bytes |{columns}");
        println!("|---|{}", "---|".repeat(2 * N));
        Self { names }
    }

    /// Measures: rounds that take turns, so that what disturbs one disturbs all; the median counts.
    pub fn row(&mut self, bytes: usize, mut ways: [&mut dyn FnMut(); N]) {
        const ROUNDS: usize = 31;
        let mut times = [const { Vec::new() }; N];
        for _ in 0..ROUNDS {
            for (way, times) in ways.iter_mut().zip(&mut times) {
                times.push(round(way));
            }
        }
        let medians = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times.get(ROUNDS / 2).copied().unwrap_or(f64::NAN)
        });
        let baseline = medians.first().copied().unwrap_or(f64::NAN);
        let columns: String = medians.iter().map(|time| format!(" {time:.0} ns | {:.2} |", time / baseline)).collect();
        debug_assert_eq!(self.names.len(), medians.len());
        println!("| {bytes} |{columns}");
    }
}

/// Nanoseconds for one run, over as many runs as fit into some milliseconds.
fn round(way: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    let mut runs = 0_u32;
    loop {
        for _ in 0..16 {
            way();
        }
        runs += 16;
        let elapsed = start.elapsed();
        if elapsed >= Duration::from_millis(4) {
            return elapsed.as_secs_f64() * 1e9 / f64::from(runs);
        }
    }
}
