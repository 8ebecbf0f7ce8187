//! Whole calls: answered ones, ones that run their body, and answered ones on two threads.

use std::{hint::black_box, sync::Arc, time::Instant};

use tokio::runtime::{Builder, Runtime};

use crate::{
    in_task, one_thread,
    support::{Bar, Order, medians, row},
    ways::{Cached, Moka, Ours, Peer, Way},
};

const KEYS: usize = 10_000;
const RUNS: usize = 500;
const ROUNDS: usize = 301;

/// A way with what it is measured on.
struct Subject<W> {
    way: W,
    order: Order,
    keys: Arc<[String]>,
    fresh: usize,
}

impl<W: Way> Subject<W> {
    fn new(runtime: &Runtime, way: W) -> Self {
        let keys: Arc<[_]> = (0..KEYS).map(|key| format!("order-{key:08}")).collect();
        let order = Order::of_size(100);
        let (filled, of) = ((way.clone(), order.clone()), Arc::clone(&keys));
        in_task(runtime, async move {
            for key in &*of {
                filled.0.charge(key, &filled.1).await;
            }
        });
        Self { way, order, keys, fresh: 0 }
    }

    /// Nanoseconds of a call that is answered.
    fn hit(&self, runtime: &Runtime) -> f64 {
        let (way, order, keys) = (self.way.clone(), self.order.clone(), Arc::clone(&self.keys));
        in_task(runtime, async move {
            let start = Instant::now();
            for call in 0..RUNS {
                black_box(way.charge(&keys[call * 7919 % KEYS], &order).await);
            }
            start.elapsed().as_secs_f64() * 1e9 / RUNS as f64
        })
    }

    /// Nanoseconds of a call that runs its body.
    fn miss(&mut self, runtime: &Runtime) -> f64 {
        let keys: Vec<_> = (self.fresh..self.fresh + RUNS).map(|key| format!("fresh-{key:08}")).collect();
        self.fresh += RUNS;
        let (way, order) = (self.way.clone(), self.order.clone());
        in_task(runtime, async move {
            let start = Instant::now();
            for key in &keys {
                black_box(way.charge(key, &order).await);
            }
            start.elapsed().as_secs_f64() * 1e9 / RUNS as f64
        })
    }

    /// Hits a second of so many tasks, each on a thread of its own if the runtime has as many.
    fn hits_per_second(&self, runtime: &Runtime, tasks: usize) -> f64 {
        const CALLS: usize = 50_000;
        let start = Instant::now();
        let run = |first: usize| {
            let (way, order, keys) = (self.way.clone(), self.order.clone(), Arc::clone(&self.keys));
            runtime.spawn(async move {
                for call in 0..CALLS {
                    black_box(way.charge(&keys[(call * 7919 + first * 17) % KEYS], &order).await);
                }
            })
        };
        let running: Vec<_> = (0..tasks).map(run).collect();
        runtime.block_on(async {
            for task in running {
                task.await.expect("the task's end");
            }
        });
        (tasks * CALLS) as f64 / start.elapsed().as_secs_f64()
    }
}

pub(crate) fn hit_and_miss() {
    // The actor of `idempotent` runs where its store was built.
    let runtime = one_thread();
    let _entered = runtime.enter();
    let mut ours = Subject::new(&runtime, Ours::new());
    let mut peer = Subject::new(&runtime, Peer::new());
    let mut cached = Subject::new(&runtime, Cached);
    let mut moka = Subject::new(&runtime, Moka::new());
    let hit = medians(
        ROUNDS,
        [&mut || ours.hit(&runtime), &mut || peer.hit(&runtime), &mut || cached.hit(&runtime), &mut || {
            moka.hit(&runtime)
        }],
    );
    report("hit", "ns", hit, Bar::AtMost(0.5));
    let miss = medians(
        ROUNDS,
        [&mut || ours.miss(&runtime), &mut || peer.miss(&runtime), &mut || cached.miss(&runtime), &mut || {
            moka.miss(&runtime)
        }],
    );
    report("miss", "ns", miss, Bar::AtMost(0.6));
}

pub(crate) fn two_threads() {
    let threads = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let _entered = threads.enter();
    let ours = Subject::new(&threads, Ours::new());
    let peer = Subject::new(&threads, Peer::new());
    let cached = Subject::new(&threads, Cached);
    let moka = Subject::new(&threads, Moka::new());
    let [one, ours, peer, cached, moka] = medians(
        11,
        [
            &mut || ours.hits_per_second(&threads, 1),
            &mut || ours.hits_per_second(&threads, 2),
            &mut || peer.hits_per_second(&threads, 2),
            &mut || cached.hits_per_second(&threads, 2),
            &mut || moka.hits_per_second(&threads, 2),
        ],
    )
    .map(|rate| rate / 1e3);
    row("hits on 2 threads", "k/s", ours, "on 1 thread", one, Bar::AtLeast(1.8));
    report("hits on 2 threads", "k/s", [ours, peer, cached, moka], Bar::AtLeast(3.0));
}

fn report(what: &str, unit: &str, [ours, peer, cached, moka]: [f64; 4], bar: Bar) {
    row(what, unit, ours, "idempotent", peer, bar);
    row(what, unit, ours, "cached", cached, Bar::None);
    row(what, unit, ours, "moka", moka, Bar::None);
}
