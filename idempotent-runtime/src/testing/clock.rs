//! A clock that stands still until it is told to move.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::lock::lock;

/// A clock set by hand, for [`MemoryStore::builder().clock(…)`](crate::store::memory::MemoryStoreBuilder::clock).
///
/// Cloning shares the time.
///
/// ```
/// use std::time::Duration;
/// use idempotent_runtime::testing::ManualClock;
///
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_secs(30));
/// assert_eq!(clock.now(), Duration::from_secs(30));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    elapsed: Arc<Mutex<Duration>>,
}

impl ManualClock {
    /// A clock at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time by which it was advanced.
    #[must_use]
    pub fn now(&self) -> Duration {
        *lock(&self.elapsed)
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        let mut elapsed = lock(&self.elapsed);
        *elapsed = elapsed.saturating_add(by);
    }
}
