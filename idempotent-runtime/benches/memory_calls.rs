//! Whole annotated calls on the embedded store, against the sum of their parts.
//!
//! `cargo bench -p idempotent-runtime --bench memory_calls`
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, reason = "a benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures for a table")]

mod calls;

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use calls::{Order, Receipt, medians, nanoseconds};
use idempotent_runtime::{
    Error, Fingerprint, Idempotency, Store, idempotent,
    store::{ClaimOutcome, ClaimRequest, Nonce, Outcome, RecordKey, memory::MemoryStore},
};

const KEYS: usize = 10_000;
const ROUNDS: usize = 15;

#[idempotent(key = order_id, store = store, skip(store))]
async fn charge(store: &Idempotency, order_id: &str, order: &Order) -> Result<Receipt, Error> {
    Ok(Receipt::of(order_id, order.amount_cents))
}

/// The same without the attribute.
#[expect(clippy::unused_async, reason = "as the other one")]
async fn plain(order_id: &str, order: &Order) -> Result<Receipt, Error> {
    Ok(Receipt::of(order_id, order.amount_cents))
}

fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the embedded store does not wait"),
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let memory = MemoryStore::new();
    let idempotency = Idempotency::new(memory.clone());
    let order = Order::sample();
    let keys: Vec<String> = (0..KEYS).map(|key| format!("order-{key:08}")).collect();
    for key in &keys {
        ready(charge(&idempotency, key, &order)).unwrap();
    }
    let json = serde_json::to_vec(&Receipt::of(&keys[0], 129_900)).unwrap();
    println!("arguments {} bytes as JSON, result {} bytes\n", serde_json::to_vec(&order).unwrap().len(), json.len());

    single(&idempotency, &memory, &order, &keys, &json);
    two_threads(&idempotency, &order, &keys);
    println!(
        "future: annotated {} bytes, plain {} bytes",
        size_of_val(&charge(&idempotency, "k", &order)),
        size_of_val(&plain("k", &order))
    );
}

fn single(idempotency: &Idempotency, memory: &MemoryStore, order: &Order, keys: &[String], json: &[u8]) {
    #[derive(serde::Serialize)]
    struct Arguments<'a> {
        order: &'a Order,
        order_id: &'a str,
    }
    let records: Vec<RecordKey> =
        keys.iter().map(|key| RecordKey::parse(&format!("memory_calls::charge|{key}")).unwrap()).collect();
    let (mut fresh, mut fresh_plain, mut fresh_store) = (0_u64, 0_u64, 0_u64);
    let (mut a, mut b, mut c) = (0, 0, 0);
    let figures = medians(
        ROUNDS,
        [
            &mut || {
                nanoseconds(|| {
                    a = (a + 7919) % KEYS;
                    black_box(ready(charge(idempotency, black_box(&keys[a]), black_box(order))).unwrap());
                })
            },
            &mut || {
                nanoseconds(|| {
                    b = (b + 7919) % KEYS;
                    let arguments = Arguments { order: black_box(order), order_id: black_box(&keys[b]) };
                    black_box(Fingerprint::of(&arguments).unwrap());
                })
            },
            &mut || {
                nanoseconds(|| {
                    c = (c + 7919) % KEYS;
                    black_box(memory.peek(black_box(&records[c])).unwrap());
                })
            },
            &mut || {
                nanoseconds(|| {
                    black_box(serde_json::from_slice::<Receipt>(black_box(json)).unwrap());
                })
            },
            &mut || {
                nanoseconds(|| {
                    fresh += 1;
                    let key = format!("fresh-{fresh}");
                    black_box(ready(charge(idempotency, &key, black_box(order))).unwrap());
                })
            },
            &mut || {
                nanoseconds(|| {
                    fresh_plain += 1;
                    let key = format!("fresh-{fresh_plain}");
                    black_box(ready(plain(&key, black_box(order))).unwrap());
                })
            },
            &mut || {
                nanoseconds(|| {
                    fresh_store += 1;
                    let key = RecordKey::parse(&format!("bench|store-{fresh_store}")).unwrap();
                    store_miss(memory, &key, json);
                })
            },
        ],
    );
    let [hit, fingerprint, lookup, decode, miss, body, store] = figures;
    let parts = fingerprint + lookup + decode;
    println!(
        "hit:  {hit:.0} ns; parts {parts:.0} ns (fingerprint {fingerprint:.0}, lookup {lookup:.0}, decode {decode:.0}); ratio {:.2}",
        hit / parts
    );
    println!(
        "miss: {miss:.0} ns, of which the body and its key {body:.0}, claim and complete on the store alone {store:.0}"
    );
}

fn store_miss(memory: &MemoryStore, key: &RecordKey, json: &[u8]) {
    let request = ClaimRequest {
        fingerprint: Fingerprint::from_bytes([7; 32]),
        nonce: Nonce::random(),
        lease: Duration::from_secs(30),
        ttl: Duration::from_secs(86_400),
        take_over: true,
    };
    let ClaimOutcome::Claimed { token, .. } = ready(memory.claim(key, &request)).unwrap() else { unreachable!() };
    let outcome = Outcome::Ok(json.to_vec().into());
    let _ = black_box(ready(memory.complete(key, &token, &outcome, request.ttl)).unwrap());
}

fn two_threads(idempotency: &Idempotency, order: &Order, keys: &[String]) {
    const CALLS: usize = 400_000;
    let mut rates = Vec::new();
    for _ in 0..7 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..2 {
                scope.spawn(move || {
                    for call in 0..CALLS {
                        let key = &keys[(call * 7919 + thread * 17) % keys.len()];
                        black_box(ready(charge(idempotency, key, order)).unwrap());
                    }
                });
            }
        });
        rates.push(2.0 * CALLS as f64 / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    println!("hits on 2 threads: {:.2} M/s", rates[rates.len() / 2] / 1e6);
}
