//! The times of the kills.

use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng};
use tokio::time::Instant;

/// The longest time, in ms, from when a kill is due until it is done.
const LONGEST_MS: u64 = 40;

/// Kills that are spread over the run: each is due at a random number of placed orders, and done a random time later. So it
/// hits whatever the worker is doing then.
pub(crate) struct Kills {
    /// The numbers of placed orders at which they are due, the next one last.
    due: Vec<u64>,
    next: Option<Instant>,
    random: StdRng,
}

impl Kills {
    pub(crate) fn new(kills: u64, orders: u64, mut random: StdRng) -> Self {
        // None in the last tenth, so that all are done before the last order is placed.
        let last = orders * 9 / 10;
        let mut due: Vec<u64> = (0..kills).map(|_| random.random_range(0..=last)).collect();
        due.sort_unstable_by(|a, b| b.cmp(a));
        Self { due, next: None, random }
    }

    /// The time of the next kill, if so many placed orders are enough for it.
    pub(crate) fn next(&mut self, placed: u64) -> Option<Instant> {
        if self.next.is_none() && self.due.last().is_some_and(|&due| due <= placed) {
            self.due.pop();
            self.next = Some(Instant::now() + Duration::from_millis(self.random.random_range(0..=LONGEST_MS)));
        }
        self.next
    }

    /// The number of placed orders at which the next kill is due that has no time yet.
    pub(crate) fn due_at(&self) -> u64 {
        self.due.last().copied().unwrap_or(u64::MAX)
    }

    /// Draws one of so many victims.
    pub(crate) fn victim(&mut self, count: usize) -> usize {
        self.random.random_range(0..count)
    }

    pub(crate) fn done(&mut self) {
        self.next = None;
    }

    /// Puts the kill off for a moment: there is no victim.
    pub(crate) fn put_off(&mut self) {
        self.next = Some(Instant::now() + Duration::from_millis(5));
    }
}
