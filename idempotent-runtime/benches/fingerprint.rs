//! Fingerprints against `serde_json::to_vec` with SHA-256 of that, and against SHA-256 of the same JSON alone.
//!
//! `cargo bench -p idempotent-runtime --bench fingerprint`
#![expect(clippy::unwrap_used, reason = "a benchmark may fail")]

mod support;

use std::hint::black_box;

use idempotent_runtime::Fingerprint;
use serde::Serialize;
use sha2::{Digest, Sha256};
use support::{Bar, Order, head, medians, nanoseconds, row};

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
    head();
    let arguments = Arguments {
        amount_cents: 129_900,
        currency: "EUR",
        customer_id: 48_213_377,
        express: true,
        order_id: "ord_01J9ZW3R",
    };
    measure("arguments", &arguments);
    for bytes in [100, 1_000, 64_000] {
        measure("an order", &Order::of_size(bytes));
    }
}

fn measure<T: Serialize>(name: &str, value: &T) {
    let json = serde_json::to_vec(value).unwrap();
    let runs = 1 + 60_000 / u32::try_from(json.len()).unwrap();
    let [both, hash, fingerprint] = medians(
        401,
        [
            &mut || {
                nanoseconds(runs, || {
                    black_box(Sha256::digest(serde_json::to_vec(black_box(value)).unwrap()));
                })
            },
            &mut || {
                nanoseconds(runs, || {
                    black_box(Sha256::digest(black_box(&json)));
                })
            },
            &mut || {
                nanoseconds(runs, || {
                    black_box(Fingerprint::of(black_box(value)).unwrap());
                })
            },
        ],
    );
    let what = format!("fingerprint of {name}, {} B", json.len());
    row(&what, "ns", fingerprint, "JSON and SHA-256", both, Bar::AtMost(0.7));
    row(&what, "ns", fingerprint, "SHA-256 alone", hash, Bar::None);
}
