//! Pauses between tries.

use std::time::Duration;

use tokio::{runtime::Handle, time::Instant};

/// Pauses between tries: from `first`, doubling up to `most`, each shortened by up to a half at random.
pub(crate) struct Pauses {
    next: Duration,
    most: Duration,
}

impl Pauses {
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(1.0 - rand::random::<f64>() / 2.0);
        self.next = (self.next * 2).min(self.most);
        pause
    }

    /// Sleeps for the next pause; false, without sleeping, if that would pass `deadline` or there is no runtime.
    pub(crate) async fn sleep_before(&mut self, deadline: Instant) -> bool {
        let until = Instant::now() + self.pause();
        if until >= deadline || Handle::try_current().is_err() {
            return false;
        }
        tokio::time::sleep_until(until).await;
        true
    }
}
