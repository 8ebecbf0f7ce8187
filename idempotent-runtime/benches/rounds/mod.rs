//! What the benches share: a payload, and the median of alternating rounds.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::time::{Duration, Instant};

use serde::Serialize;

/// An order as a service would receive it.
#[derive(Serialize)]
pub(crate) struct Order {
    reference: String,
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

/// Times of `N` ways to do the same, side by side, of which the first is the baseline.
pub(crate) struct Table<const N: usize>;

impl<const N: usize> Table<N> {
    pub(crate) fn new(names: [&str; N]) -> Self {
        println!("| what | {} | ratio |", names.join(" | ratio | "));
        println!("|---|{}", "---|".repeat(2 * N));
        Self
    }

    /// Measures in rounds that take turns, so that what disturbs one way disturbs all. The median counts.
    #[expect(clippy::unused_self, reason = "a row without a table has no head")]
    pub(crate) fn row(&mut self, name: &str, mut ways: [&mut dyn FnMut(); N]) {
        const ROUNDS: usize = 401;
        let mut times = [const { Vec::new() }; N];
        for _ in 0..ROUNDS {
            for (way, times) in ways.iter_mut().zip(&mut times) {
                times.push(nanoseconds(way));
            }
        }
        let medians = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times.get(ROUNDS / 2).copied().unwrap_or(f64::NAN)
        });
        let baseline = medians.first().copied().unwrap_or(f64::NAN);
        let columns = medians.map(|time| format!("{time:.0} ns | {:.2}", time / baseline));
        println!("| {name} | {} |", columns.join(" | "));
    }
}

/// The time of one run, over as many as fit into a time too short for most interruptions.
fn nanoseconds(way: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    let mut runs = 0_u32;
    loop {
        (0..4).for_each(|_| way());
        runs += 4;
        let elapsed = start.elapsed();
        if elapsed >= Duration::from_micros(300) {
            return elapsed.as_secs_f64() * 1e9 / f64::from(runs);
        }
    }
}
