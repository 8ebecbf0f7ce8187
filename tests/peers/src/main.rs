//! The embedded store against the crates `idempotent`, `cached` and `moka`, on the same calls, in one run.
//!
//! From the project's top level:
//! `cargo run --release --ignore-rust-version --manifest-path tests/peers/Cargo.toml`
//!
//! Words after `--` choose tables: `calls`, `threads`, `large`, `http`, `build`. `large` takes a number of keys after a
//! colon: `large:1000000`. The default, 10 million, takes some minutes and 5 GB. `build` runs cargo on small packages that
//! it writes into a temporary folder.
//!
//! `idempotent` asks for a newer compiler than the one it needs. It answers a call on an actor task, its result as JSON
//! like ours; its fingerprint takes the arguments as bytes, here JSON. `cached` and `moka` keep the result itself, without
//! a claim, a fingerprint or a serialized form: they bound what any of this could cost.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../../../idempotent-runtime/benches/support.rs"]
mod support;

mod build_cost;
mod calls;
mod http_layer;
mod large;
mod ways;

use tokio::runtime::Runtime;

const TABLES: [&str; 5] = ["calls", "threads", "large", "http", "build"];

fn main() {
    let chosen: Vec<_> = std::env::args().skip(1).collect();
    for word in &chosen {
        let (table, number) = word.split_once(':').unwrap_or((word, "0"));
        assert!(TABLES.contains(&table) && number.parse::<usize>().is_ok(), "{word} is none of {TABLES:?}");
    }
    let is_chosen = |table: &str| chosen.is_empty() || chosen.iter().any(|word| word.split(':').next() == Some(table));
    let keys = chosen.iter().find_map(|word| word.strip_prefix("large:")?.parse().ok());

    support::head();
    if is_chosen("calls") {
        calls::hit_and_miss();
    }
    if is_chosen("threads") {
        calls::two_threads();
    }
    if is_chosen("http") {
        http_layer::hit_and_miss();
    }
    if is_chosen("large") {
        large::live_keys(keys.unwrap_or(10_000_000));
    }
    if is_chosen("build") {
        build_cost::a_hundred_functions();
    }
}

/// A runtime of one thread.
fn one_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The output of a future on a task of its own, as a server's connection is: `block_on` itself is woken through the kernel,
/// which would count against the actor of `idempotent`.
fn in_task<F: Future<Output: Send> + Send + 'static>(runtime: &Runtime, future: F) -> F::Output {
    runtime.block_on(async { tokio::spawn(future).await.expect("the task's end") })
}
