//! Whole annotated calls on the embedded store: hit and miss against the sum of their parts, two threads against one,
//! and the size of the future. Against other crates: `tests/peers`.
//!
//! `cargo bench -p idempotent-runtime --bench memory_calls`
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, reason = "a benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures for a table")]

mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use idempotent_runtime::{
    Error, Fingerprint, Idempotency, Store, idempotent,
    store::{ClaimOutcome, ClaimRequest, Nonce, Outcome, RecordKey, memory::MemoryStore},
};
use support::{Bar, Order, Receipt, head, medians, nanoseconds, ready, row};

const KEYS: usize = 10_000;
const ROUNDS: usize = 301;
const RUNS: u32 = 500;

#[idempotent(key = order_id, store = store, skip(store))]
async fn charge(store: &Idempotency, order_id: &str, order: &Order) -> Result<Receipt, Error> {
    Ok(Receipt::of(order_id, order))
}

/// Does the work of [`charge`] without the attribute.
#[expect(clippy::unused_async, reason = "what is compared is a future")]
async fn plain(order_id: &str, order: &Order) -> Result<Receipt, Error> {
    Ok(Receipt::of(order_id, order))
}

/// The arguments of a call, which are hashed.
#[derive(serde::Serialize)]
struct Arguments<'a> {
    order: &'a Order,
    order_id: &'a str,
}

/// The calls' store, filled, and what they are called with.
struct Subject {
    memory: MemoryStore,
    idempotency: Idempotency,
    order: Order,
    keys: Vec<String>,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let memory = MemoryStore::new();
    let subject = Subject {
        idempotency: Idempotency::new(memory.clone()),
        memory,
        order: Order::of_size(100),
        keys: (0..KEYS).map(|key| format!("order-{key:08}")).collect(),
    };
    for key in &subject.keys {
        ready(subject.charge(key)).unwrap();
    }
    println!(
        "arguments {} bytes as JSON, result {}\n",
        serde_json::to_vec(&subject.order).unwrap().len(),
        subject.json().len()
    );
    head();
    subject.hit();
    subject.miss();
    subject.two_threads();
    let annotated = size_of_val(&subject.charge("k"));
    let body = size_of_val(&plain("k", &subject.order));
    row("future size", "bytes", annotated as f64, "the body's and 256", (body + 256) as f64, Bar::AtMost(1.0));
}

impl Subject {
    fn charge<'a>(&'a self, key: &'a str) -> impl Future<Output = Result<Receipt, Error>> {
        charge(&self.idempotency, key, &self.order)
    }

    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(&Receipt::of(&self.keys[0], &self.order)).unwrap()
    }

    fn hit(&self) {
        let json = self.json();
        let records: Vec<_> = self.keys.iter().map(|key| record_key(key)).collect();
        let (mut a, mut b, mut c) = (0, 0, 0);
        let [hit, fingerprint, lookup, decode] = medians(
            ROUNDS,
            [
                &mut || {
                    nanoseconds(RUNS, || {
                        drop(black_box(ready(self.charge(next::<String>(&mut a, &self.keys))).unwrap()));
                    })
                },
                &mut || {
                    nanoseconds(RUNS, || {
                        let arguments =
                            Arguments { order: black_box(&self.order), order_id: next::<String>(&mut b, &self.keys) };
                        black_box(Fingerprint::of(&arguments).unwrap());
                    })
                },
                &mut || nanoseconds(RUNS, || drop(black_box(self.memory.peek(next(&mut c, &records)).unwrap()))),
                &mut || {
                    nanoseconds(RUNS, || {
                        drop(black_box(serde_json::from_slice::<Receipt>(black_box(&json)).unwrap()));
                    })
                },
            ],
        );
        let parts = format!("fingerprint {fingerprint:.0} + lookup {lookup:.0} + decoding of its JSON {decode:.0}");
        row("hit", "ns", hit, &parts, fingerprint + lookup + decode, Bar::AtMost(1.2));
    }

    fn miss(&self) {
        let json = self.json();
        let (mut calls, mut bodies, mut steps) = (0, 0, 0);
        let [miss, body, store] = medians(
            ROUNDS,
            [
                &mut || {
                    let mut keys = fresh("call", &mut calls).into_iter();
                    nanoseconds(RUNS, || drop(black_box(ready(self.charge(&keys.next().unwrap())).unwrap())))
                },
                &mut || {
                    let mut keys = fresh("body", &mut bodies).into_iter();
                    nanoseconds(RUNS, || drop(black_box(ready(plain(&keys.next().unwrap(), &self.order)).unwrap())))
                },
                &mut || {
                    let keys: Vec<_> = fresh("step", &mut steps).iter().map(|key| record_key(key)).collect();
                    let mut keys = keys.iter();
                    nanoseconds(RUNS, || claim_and_complete(&self.memory, keys.next().unwrap(), &json))
                },
            ],
        );
        let parts = format!("body {body:.0} + claim and complete {store:.0}");
        row("miss", "ns", miss, &parts, body + store, Bar::None);
    }

    fn two_threads(&self) {
        let [one, two] = medians(11, [&mut || self.hits_per_second(1), &mut || self.hits_per_second(2)]);
        row("hits on 2 threads", "k/s", two / 1e3, "on 1 thread", one / 1e3, Bar::AtLeast(1.8));
    }

    fn hits_per_second(&self, threads: usize) -> f64 {
        const CALLS: usize = 50_000;
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut position = thread * 17;
                    for _ in 0..CALLS {
                        black_box(ready(self.charge(next::<String>(&mut position, &self.keys))).unwrap());
                    }
                });
            }
        });
        (threads * CALLS) as f64 / start.elapsed().as_secs_f64()
    }
}

/// Goes through the keys in an order that no cache foresees.
fn next<'a, T>(position: &mut usize, keys: &'a [T]) -> &'a T {
    *position = (*position + 7919) % keys.len();
    black_box(&keys[*position])
}

/// Keys that were not there before.
fn fresh(kind: &str, last: &mut u32) -> Vec<String> {
    let first = *last;
    *last += RUNS;
    (first..*last).map(|key| format!("{kind}-{key:08}")).collect()
}

fn record_key(key: &str) -> RecordKey {
    format!("memory_calls::charge|{key}").parse::<RecordKey>().unwrap()
}

fn claim_and_complete(memory: &MemoryStore, key: &RecordKey, json: &[u8]) {
    let request = ClaimRequest::new(
        Fingerprint::from_bytes([7; 32]),
        Nonce::random(),
        Duration::from_secs(30),
        Duration::from_secs(86_400),
    );
    let ClaimOutcome::Claimed { token, .. } = ready(memory.claim(key, &request)).unwrap() else { unreachable!() };
    let outcome = Outcome::Ok(json.to_vec().into());
    let _ = black_box(ready(memory.complete(key, &token, &outcome, request.ttl)).unwrap());
}
