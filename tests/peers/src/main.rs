//! The embedded store against the crates `idempotent` and `cached`, on the calls of the benchmark `memory_calls`.
//!
//! From the project's top level:
//! `cargo run --release --ignore-rust-version --manifest-path tests/peers/Cargo.toml`
//!
//! `idempotent` asks for a newer compiler than the one it needs. It answers a call on an actor task, its result as JSON
//! like ours; its fingerprint takes the arguments as bytes, here JSON. `cached` keeps the result itself behind a lock,
//! without a claim, a fingerprint or a serialized form: it bounds what any of this could cost.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../../../idempotent-runtime/benches/support.rs"]
mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use cached::macros::cached;
use idempotent_runtime::{Error, Idempotency, idempotent};
use peer::{ExecutionOutcome, IdempotencyKey, IdempotencyStore, memory::MemoryStore};
use support::{Bar, Order, Receipt, head, medians, row};
use tokio::runtime::{Builder, Runtime};

const KEYS: usize = 10_000;
const RUNS: usize = 500;
const TTL: Duration = Duration::from_secs(86_400);

/// A way to charge an order once.
trait Way: Clone + Send + Sync + 'static {
    fn charge(&self, order_id: &str, order: &Order) -> impl Future<Output = Receipt> + Send;
}

#[derive(Clone)]
struct Ours(Idempotency);

#[idempotent(key = order_id, store = store, skip(store))]
async fn charge(store: &Idempotency, order_id: &str, order: &Order) -> Result<Receipt, Error> {
    Ok(Receipt::of(order_id, order))
}

impl Way for Ours {
    async fn charge(&self, order_id: &str, order: &Order) -> Receipt {
        charge(&self.0, order_id, order).await.expect("a receipt")
    }
}

#[derive(Clone)]
struct Peer(MemoryStore);

impl Way for Peer {
    async fn charge(&self, order_id: &str, order: &Order) -> Receipt {
        let key = IdempotencyKey::new(order_id).expect("a key");
        let arguments = serde_json::to_vec(order).expect("JSON");
        let outcome = self
            .0
            .claim(&key, Duration::from_secs(30))
            .fingerprint("charge", &arguments)
            .json()
            .execute_or_replay(TTL, |_token| async { Ok(Receipt::of(order_id, order)) })
            .await;
        match outcome {
            Ok(ExecutionOutcome::Executed(receipt) | ExecutionOutcome::Replayed(receipt)) => receipt,
            _ => panic!("neither executed nor replayed"),
        }
    }
}

#[derive(Clone)]
struct Cached;

#[cached(ttl_secs = 86_400, key = "String", convert = { order_id.to_owned() })]
async fn charge_cached(order_id: &str, order: &Order) -> Receipt {
    Receipt::of(order_id, order)
}

impl Way for Cached {
    async fn charge(&self, order_id: &str, order: &Order) -> Receipt {
        charge_cached(order_id, order).await
    }
}

/// A way with what it is measured on.
struct Subject<W> {
    way: W,
    order: Order,
    keys: Vec<String>,
    fresh: usize,
}

impl<W: Way> Subject<W> {
    fn new(runtime: &Runtime, way: W) -> Self {
        let keys: Vec<_> = (0..KEYS).map(|key| format!("order-{key:08}")).collect();
        let order = Order::of_size(100);
        runtime.block_on(async {
            for key in &keys {
                way.charge(key, &order).await;
            }
        });
        Self { way, order, keys, fresh: 0 }
    }

    /// Nanoseconds of a call that is answered.
    fn hit(&self, runtime: &Runtime) -> f64 {
        runtime.block_on(async {
            let start = Instant::now();
            for call in 0..RUNS {
                black_box(self.way.charge(&self.keys[call * 7919 % KEYS], &self.order).await);
            }
            start.elapsed().as_secs_f64() * 1e9 / RUNS as f64
        })
    }

    /// Nanoseconds of a call that runs its body.
    fn miss(&mut self, runtime: &Runtime) -> f64 {
        let keys: Vec<_> = (self.fresh..self.fresh + RUNS).map(|key| format!("fresh-{key:08}")).collect();
        self.fresh += RUNS;
        runtime.block_on(async {
            let start = Instant::now();
            for key in &keys {
                black_box(self.way.charge(key, &self.order).await);
            }
            start.elapsed().as_secs_f64() * 1e9 / RUNS as f64
        })
    }

    /// Hits a second of two tasks on two threads.
    fn hits_per_second(&self, runtime: &Runtime) -> f64 {
        const CALLS: usize = 50_000;
        runtime.block_on(async {
            let start = Instant::now();
            let tasks = [0, 17].map(|first| {
                let (way, order, keys) = (self.way.clone(), self.order.clone(), self.keys.clone());
                tokio::spawn(async move {
                    for call in 0..CALLS {
                        black_box(way.charge(&keys[(call * 7919 + first) % KEYS], &order).await);
                    }
                })
            });
            for task in tasks {
                task.await.expect("the task's end");
            }
            2.0 * CALLS as f64 / start.elapsed().as_secs_f64()
        })
    }
}

fn main() {
    // The actor of `idempotent` runs where its store was built.
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut ours = Subject::new(&runtime, Ours(Idempotency::memory()));
    let mut peer = Subject::new(&runtime, Peer(MemoryStore::builder().try_build().expect("a store")));
    let mut cached = Subject::new(&runtime, Cached);
    head();
    let hit = medians(301, [&mut || ours.hit(&runtime), &mut || peer.hit(&runtime), &mut || cached.hit(&runtime)]);
    report("hit", "ns", hit, Bar::AtMost(0.5));
    let miss = medians(301, [&mut || ours.miss(&runtime), &mut || peer.miss(&runtime), &mut || cached.miss(&runtime)]);
    report("miss", "ns", miss, Bar::AtMost(0.4));

    let threads = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let _entered = threads.enter();
    let ours = Subject::new(&threads, Ours(Idempotency::memory()));
    let peer = Subject::new(&threads, Peer(MemoryStore::builder().try_build().expect("a store")));
    let cached = Subject::new(&threads, Cached);
    let rates = medians(
        11,
        [&mut || ours.hits_per_second(&threads), &mut || peer.hits_per_second(&threads), &mut || {
            cached.hits_per_second(&threads)
        }],
    );
    report("hits on 2 threads", "k/s", rates.map(|rate| rate / 1e3), Bar::AtLeast(2.5));
}

fn report(what: &str, unit: &str, [ours, peer, cached]: [f64; 3], bar: Bar) {
    row(what, unit, ours, "idempotent", peer, bar);
    row(what, unit, ours, "cached", cached, Bar::None);
}
