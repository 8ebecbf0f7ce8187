//! The memory store alone: hits and misses at 10 thousand and 10 million live keys, stalls, bytes a record.
//!
//! `cargo bench -p idempotent-runtime --features testing --bench memory_store` (takes some minutes and 5 GB; with `-- 1000000`,
//! a tenth of it)
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops when it is wrong"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::cast_precision_loss, reason = "figures for a table")]

use std::{
    hint::black_box,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use idempotent_runtime::{
    Fingerprint, Store,
    store::{BoxFuture, ClaimOutcome, ClaimRequest, Nonce, Outcome, RecordKey, Transition, memory::MemoryStore},
    testing::ManualClock,
};

const SMALL: usize = 10_000;
const ROUNDS: usize = 7;
const CALLS: usize = 200_000;
const TTL: Duration = Duration::from_secs(86_400);
const RESULT: &[u8] = &[b'x'; 200];

fn main() {
    let large_records = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(10_000_000);
    println!("filling a store with {large_records} records of a 200-byte result");
    let before = resident_bytes();
    let clock = ManualClock::new();
    let large = store(&clock);
    let filling = fill(&large, large_records);
    let bytes = (resident_bytes() - before) / large_records;
    let key_bytes = key(0).as_str().len();
    println!(
        "  bytes a record: {bytes}, of which key {key_bytes}, result {}, the rest {}",
        RESULT.len(),
        bytes - key_bytes - RESULT.len()
    );
    println!("  stalls of claim + complete while growing: {filling}");

    let system = MemoryStore::builder().max_records(usize::MAX).max_bytes(usize::MAX).build();
    fill(&system, SMALL);
    drop(large);
    let large = MemoryStore::builder().max_records(usize::MAX).max_bytes(usize::MAX).build();
    fill(&large, large_records);
    compare(&system, &large, large_records);
    drop(large);

    let expiring = store(&clock);
    fill(&expiring, large_records);
    clock.advance(TTL + TTL);
    println!("all {large_records} records expire at once");
    println!(
        "  stalls of claim + complete afterwards: {}",
        misses_with_stalls(&expiring, large_records, large_records)
    );
    println!("  records left by then: {}", expiring.records());
    println!("stalls of the machine itself, an empty loop: {}", idle_stalls());
}

fn store(clock: &ManualClock) -> MemoryStore {
    MemoryStore::builder().max_records(usize::MAX).max_bytes(usize::MAX).clock(clock).build()
}

/// Medians of alternating rounds.
fn compare(small: &MemoryStore, large: &MemoryStore, large_records: usize) {
    let mut rows: [(&str, [Vec<f64>; 2]); 3] = [
        ("peek, hit", Default::default()),
        ("peek, vacant", Default::default()),
        ("claim + complete", Default::default()),
    ];
    for round in 0..ROUNDS {
        for (column, (store, records)) in [(small, SMALL), (large, large_records)].into_iter().enumerate() {
            let hits = shuffled(records.min(CALLS), records);
            let fresh: Vec<_> = (0..CALLS / 20).map(|i| key(2 * large_records + round * CALLS + i)).collect();
            rows[0].1[column].push(peeks(store, &hits, true));
            rows[1].1[column].push(peeks(store, &fresh, false));
            rows[2].1[column].push(misses(store, &fresh));
            for key in &fresh {
                assert!(ready(store.forget(key)).unwrap());
            }
        }
    }
    println!("{:<20}{:>12}{:>12}{:>8}   (ns, medians of {ROUNDS} rounds)", "", "10 k keys", "many keys", "ratio");
    for (name, [small, large]) in rows {
        let (small, large) = (median(small), median(large));
        println!("{name:<20}{small:>12.0}{large:>12.0}{:>8.2}", large / small);
    }
}

fn peeks(store: &dyn Store, keys: &[RecordKey], hit: bool) -> f64 {
    let rounds = CALLS / keys.len();
    let start = Instant::now();
    for _ in 0..rounds {
        for key in keys {
            assert_eq!(black_box(store.peek(key)).is_some(), hit);
        }
    }
    nanos(start, rounds * keys.len())
}

fn misses(store: &dyn Store, keys: &[RecordKey]) -> f64 {
    let results = vec![RESULT.to_vec(); keys.len()];
    let start = Instant::now();
    for (key, result) in keys.iter().zip(results) {
        miss(store, key, result);
    }
    nanos(start, keys.len())
}

fn miss(store: &dyn Store, key: &RecordKey, result: Vec<u8>) {
    let request =
        ClaimRequest::new(Fingerprint::from_bytes([7; 32]), Nonce::from_bytes([9; 16]), Duration::from_secs(30), TTL);
    let ClaimOutcome::Claimed { token, .. } = ready(store.claim(key, &request)).unwrap() else { panic!("not vacant") };
    let outcome = Outcome::Ok(Bytes::from(result));
    assert_eq!(ready(store.complete(key, &token, &outcome, TTL)).unwrap(), Transition::Applied);
}

fn fill(store: &MemoryStore, records: usize) -> Stalls {
    misses_with_stalls(store, 0, records)
}

fn misses_with_stalls(store: &MemoryStore, first: usize, count: usize) -> Stalls {
    let mut stalls = Stalls::default();
    for number in first..first + count {
        let (key, result) = (key(number), RESULT.to_vec());
        let start = Instant::now();
        miss(store, &key, result);
        stalls.add(start.elapsed());
    }
    stalls
}

fn idle_stalls() -> Stalls {
    let mut stalls = Stalls::default();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let step = Instant::now();
        black_box(());
        stalls.add(step.elapsed());
    }
    stalls
}

#[derive(Default)]
struct Stalls {
    calls: usize,
    over_100_us: usize,
    over_1_ms: usize,
    worst: Duration,
}

impl Stalls {
    fn add(&mut self, took: Duration) {
        self.calls += 1;
        self.over_100_us += usize::from(took > Duration::from_micros(100));
        self.over_1_ms += usize::from(took > Duration::from_millis(1));
        self.worst = self.worst.max(took);
    }
}

impl std::fmt::Display for Stalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { calls, over_100_us, over_1_ms, worst } = self;
        write!(f, "worst {worst:?}; {over_100_us} over 100 µs, {over_1_ms} over 1 ms of {calls}")
    }
}

fn key(number: usize) -> RecordKey {
    format!("payments.charge|order-{number:010}").parse::<RecordKey>().expect("a record key")
}

/// `count` keys out of `of`, far apart.
fn shuffled(count: usize, of: usize) -> Vec<RecordKey> {
    (0..count).map(|i| key(i * 7_368_787 % of)).collect()
}

fn ready<T>(mut future: BoxFuture<'_, T>) -> T {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the memory store is always ready"),
    }
}

fn nanos(start: Instant, calls: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / calls as f64
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
