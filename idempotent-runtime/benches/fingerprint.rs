//! Fingerprints against `serde_json::to_vec` with SHA-256, and against SHA-256 alone.
//!
//! `cargo bench -p idempotent-runtime --bench fingerprint`
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may fail")]

mod rounds;

use std::hint::black_box;

use idempotent_runtime::Fingerprint;
use rounds::{Table, order_of};
use sha2::{Digest, Sha256};

fn main() {
    println!("JSON is serde_json::to_vec and SHA-256 of that; SHA-256 alone is over the same text.\n");
    let mut table = Table::new(["JSON", "SHA-256 alone", "fingerprint"]);
    for bytes in [100, 1_000, 64_000] {
        let order = order_of(bytes);
        let json = serde_json::to_vec(&order).unwrap();
        table.row(
            json.len(),
            [
                &mut || {
                    black_box(Sha256::digest(serde_json::to_vec(black_box(&order)).unwrap()));
                },
                &mut || {
                    black_box(Sha256::digest(black_box(&json)));
                },
                &mut || {
                    black_box(Fingerprint::of(black_box(&order)).unwrap());
                },
            ],
        );
    }
}
