//! Parts that the benches share: a request and its result, rounds that take turns, and a table with a bar beside each
//! figure.
#![allow(dead_code, reason = "each bench uses its part")]
#![allow(unused_imports, reason = "each bench uses its part")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

// `tests/peers` loads this file by its path, where `mod payload;` alone would look beside it.
#[path = "support/payload.rs"]
mod payload;
#[path = "support/side.rs"]
mod side;

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

pub(crate) use payload::{Order, Receipt};
pub(crate) use side::{KEYS, Side, rate};

/// The median of what each way measures, in rounds that take turns, so that what disturbs one way disturbs all. The
/// first round warms up.
pub(crate) fn medians<const N: usize>(rounds: usize, mut ways: [&mut dyn FnMut() -> f64; N]) -> [f64; N] {
    let mut figures = [const { Vec::new() }; N];
    for round in 0..=rounds {
        for (way, figures) in ways.iter_mut().zip(&mut figures) {
            let figure = way();
            if round > 0 {
                figures.push(figure);
            }
        }
    }
    figures.map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures.get(rounds / 2).copied().unwrap_or(f64::NAN)
    })
}

/// Nanoseconds a run.
pub(crate) fn nanoseconds(runs: u32, mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..runs).for_each(|_| run());
    start.elapsed().as_secs_f64() * 1e9 / f64::from(runs)
}

/// The output of a future that does not wait.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the embedded store does not wait"),
    }
}

/// The bound that a ratio should keep.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
    None,
}

/// Prints the head of a table of [`row`]s.
pub(crate) fn head() {
    println!("| what | measured | against | ratio | bar | |");
    println!("|---|---|---|---|---|---|");
}

/// Prints a figure, what it is measured against, their ratio, and whether that meets the bar.
pub(crate) fn row(what: &str, unit: &str, measured: f64, against: &str, baseline: f64, bar: Bar) {
    let ratio = measured / baseline;
    let (bar, met) = match bar {
        Bar::AtMost(most) => (format!("≤ {most}"), Some(ratio <= most)),
        Bar::AtLeast(least) => (format!("≥ {least}"), Some(ratio >= least)),
        Bar::None => (String::new(), None),
    };
    let met = met.map_or("", |met| if met { "met" } else { "NOT MET" });
    println!("| {what} | {measured:.0} {unit} | {against}: {baseline:.0} {unit} | {ratio:.2} | {bar} | {met} |");
}
