//! Whole calls with many live keys against whole calls with ten thousand, and the stalls of calls while all keys expire.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    support::{Bar, Order, medians, ready, row},
    ways::{Ours, Way},
};

const FEW: usize = 10_000;
const RUNS: usize = 20_000;

struct Filled {
    way: Ours,
    keys: usize,
    position: usize,
}

impl Filled {
    fn new(keys: usize) -> Self {
        let (way, order) = (Ours::new(), Order::of_size(100));
        for number in 0..keys {
            ready(way.charge(&key(number), &order));
        }
        Self { way, keys, position: 0 }
    }

    /// Nanoseconds of a call that is answered.
    fn hit(&mut self, order: &Order) -> f64 {
        let keys: Vec<_> = (0..RUNS)
            .map(|_| {
                // A prime far from both numbers of keys: no cache foresees the next key.
                self.position = (self.position + 7_368_787) % self.keys;
                key(self.position)
            })
            .collect();
        let start = Instant::now();
        for key in &keys {
            black_box(ready(self.way.charge(key, order)));
        }
        start.elapsed().as_secs_f64() * 1e9 / RUNS as f64
    }
}

pub(crate) fn live_keys(keys: usize) {
    let order = Order::of_size(100);
    let mut few = Filled::new(FEW);
    let before = resident_bytes();
    let start = Instant::now();
    let mut many = Filled::new(keys);
    let (bytes, filled) = ((resident_bytes() - before) / keys, start.elapsed());
    let [many, few] = medians(11, [&mut || many.hit(&order), &mut || few.hit(&order)]);
    row(&format!("hit with {keys} live keys"), "ns", many, "with 10,000", few, Bar::AtMost(1.5));
    println!("| bytes a record with {keys} live keys, its key and result included | {bytes} | | | | |");
    println!("| time to make {keys} records | {} ms | | | | |", Duration::as_millis(&filled));
}

fn key(number: usize) -> String {
    format!("order-{number:010}")
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
}
