//! The times of the kills.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;

/// The longest time, in ms, from when a kill is due until it is done.
const LONGEST_MS: u64 = 60;

/// Kills that are spread over the run: each is due after a random part of it, and done a random time later. So it hits whatever
/// the consumers are doing then.
pub(crate) struct Kills {
    /// The numbers of effects and dead letters at which they are due, the next one last.
    due: Vec<u64>,
    random: StdRng,
}

impl Kills {
    pub(crate) fn new(kills: u32, effects: u64, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(!seed);
        let mut due: Vec<u64> = (0..kills).map(|_| random.random_range(0..=effects * 9 / 10)).collect();
        due.sort_unstable_by(|a, b| b.cmp(a));
        Self { due, random }
    }

    /// Waits for the moment of the next kill, if it is due. False if none is.
    pub(crate) async fn is_due(&mut self, progress: u64) -> bool {
        if self.due.pop_if(|due| *due <= progress).is_none() {
            return false;
        }
        sleep(Duration::from_millis(self.random.random_range(0..=LONGEST_MS))).await;
        true
    }

    /// True if all are done.
    pub(crate) const fn are_done(&self) -> bool {
        self.due.is_empty()
    }
}
