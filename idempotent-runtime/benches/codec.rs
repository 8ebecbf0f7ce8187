//! What it costs to refuse results that JSON would change, against plain `serde_json::to_vec`.
//!
//! `cargo bench -p idempotent-runtime --bench codec`
#![expect(clippy::unwrap_used, reason = "a benchmark may fail")]

#[path = "../src/codec/faithful.rs"]
mod faithful;
mod rounds;

use std::hint::black_box;

use rounds::{Order, Table};

fn main() {
    let mut table = Table::new(["serde_json::to_vec", "codec"]);
    for bytes in [100, 1_000, 64_000] {
        let order = Order::of_size(bytes);
        table.row(
            &format!("an order, {} B", serde_json::to_vec(&order).unwrap().len()),
            [
                &mut || {
                    black_box(serde_json::to_vec(black_box(&order)).unwrap());
                },
                &mut || {
                    black_box(faithful::to_vec(black_box(&order)).unwrap());
                },
            ],
        );
    }
}
