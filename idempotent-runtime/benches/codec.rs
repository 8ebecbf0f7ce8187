//! Measures the cost of refusing results that JSON would change, against plain `serde_json::to_vec`.
//!
//! `cargo bench -p idempotent-runtime --bench codec`
#![expect(clippy::unwrap_used, reason = "a benchmark may fail")]

#[path = "../src/codec/faithful.rs"]
mod faithful;
mod support;

use std::hint::black_box;

use support::{Bar, Order, head, medians, nanoseconds, row};

fn main() {
    head();
    for bytes in [100, 1_000, 64_000] {
        let order = Order::of_size(bytes);
        let len = serde_json::to_vec(&order).unwrap().len();
        let runs = 1 + 60_000 / u32::try_from(len).unwrap();
        let [plain, codec] = medians(
            401,
            [
                &mut || nanoseconds(runs, || drop(black_box(serde_json::to_vec(black_box(&order)).unwrap()))),
                &mut || nanoseconds(runs, || drop(black_box(written(black_box(&order))))),
            ],
        );
        row(&format!("codec, an order of {len} B"), "ns", codec, "serde_json::to_vec", plain, Bar::None);
    }
}

fn written(order: &Order) -> Vec<u8> {
    let mut json = Vec::new();
    faithful::write(&mut json, order).unwrap();
    json
}
