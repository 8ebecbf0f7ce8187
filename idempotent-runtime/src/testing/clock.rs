//! A clock that stands still until it is told to move.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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

    /// How far it was advanced.
    #[must_use]
    pub fn now(&self) -> Duration {
        *self.elapsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        let mut elapsed = self.elapsed.lock().unwrap_or_else(PoisonError::into_inner);
        *elapsed = elapsed.saturating_add(by);
    }
}
