//! What the benches of whole calls share: a request, a receipt, and the median of alternating rounds.
#![allow(dead_code, reason = "each bench uses its part")]

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// About 100 bytes of arguments.
#[derive(Clone, Serialize)]
pub(crate) struct Order {
    pub(crate) customer: u64,
    pub(crate) amount_cents: u64,
    pub(crate) currency: &'static str,
    pub(crate) reference: &'static str,
}

impl Order {
    pub(crate) const fn sample() -> Self {
        Self { customer: 48_213_377, amount_cents: 129_900, currency: "EUR", reference: "web checkout, basket 7" }
    }
}

/// About 200 bytes of result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) charge: String,
    pub(crate) order: String,
    pub(crate) amount_cents: u64,
    pub(crate) currency: String,
    pub(crate) status: String,
    pub(crate) descriptor: String,
    pub(crate) lines: Vec<u64>,
}

impl Receipt {
    pub(crate) fn of(order: &str, amount_cents: u64) -> Self {
        Self {
            charge: "ch_3PqXyZ2eZvKYlo2C1gQ4mD8a".into(),
            order: order.into(),
            amount_cents,
            currency: "EUR".into(),
            status: "succeeded".into(),
            descriptor: "EXAMPLE SHOP 0800-555".into(),
            lines: vec![99_900, 30_000],
        }
    }
}

/// The median of what each way measures, in rounds that take turns, so that what disturbs one disturbs all.
pub(crate) fn medians<const N: usize>(rounds: usize, mut ways: [&mut dyn FnMut() -> f64; N]) -> [f64; N] {
    let mut figures = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (way, figures) in ways.iter_mut().zip(&mut figures) {
            figures.push(way());
        }
    }
    figures.map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures[rounds / 2]
    })
}

/// Nanoseconds a run, over as many as fit into some milliseconds.
pub(crate) fn nanoseconds(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut runs = 0_u32;
    loop {
        for _ in 0..64 {
            run();
        }
        runs += 64;
        let elapsed = start.elapsed();
        if elapsed >= Duration::from_millis(10) {
            return elapsed.as_secs_f64() * 1e9 / f64::from(runs);
        }
    }
}
