//! Fingerprints against `serde_json::to_vec` with SHA-256, and against SHA-256 alone.
//!
//! `cargo bench -p idempotent-runtime --bench fingerprint`
#![expect(clippy::unwrap_used, reason = "a benchmark may fail")]

mod rounds;

use std::hint::black_box;

use idempotent_runtime::Fingerprint;
use rounds::{Order, Table};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The arguments of a small call, in the order in which the attribute passes them on.
#[derive(Serialize)]
struct Arguments<'a> {
    amount_cents: u64,
    currency: &'a str,
    customer_id: u64,
    express: bool,
    order_id: &'a str,
}

fn main() {
    println!("JSON is serde_json::to_vec and SHA-256 of that; SHA-256 alone is over the same text.\n");
    let mut table = Table::new(["JSON", "SHA-256 alone", "fingerprint"]);
    let arguments = Arguments {
        amount_cents: 129_900,
        currency: "EUR",
        customer_id: 48_213_377,
        express: true,
        order_id: "ord_01J9ZW3R",
    };
    row(&mut table, "arguments", &arguments);
    for bytes in [100, 1_000, 64_000] {
        row(&mut table, "an order", &Order::of_size(bytes));
    }
}

fn row<T: Serialize>(table: &mut Table<3>, name: &str, value: &T) {
    let json = serde_json::to_vec(value).unwrap();
    table.row(
        &format!("{name}, {} B", json.len()),
        [
            &mut || {
                black_box(Sha256::digest(serde_json::to_vec(black_box(value)).unwrap()));
            },
            &mut || {
                black_box(Sha256::digest(black_box(&json)));
            },
            &mut || {
                black_box(Fingerprint::of(black_box(value)).unwrap());
            },
        ],
    );
}
