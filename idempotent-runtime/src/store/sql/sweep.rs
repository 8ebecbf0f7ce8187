//! The removal of expired rows in passing: no task waits for its time, and nobody has to start one.

use std::{sync::Mutex, time::Duration};

use tokio::{runtime::Handle, time::Instant};

use crate::{
    engine::events,
    lock::lock,
    store::{BoxFuture, ClaimOutcome, StoreResult},
};

/// The time between two sweeps of a process, unless said otherwise.
pub(in crate::store) const INTERVAL: Duration = Duration::from_secs(60);

/// Tells when expired rows are to be removed: after a claim was granted, which is when rows are added, and not again
/// before the interval is over.
pub(in crate::store) struct Sweep {
    interval: Duration,
    /// `None` for never.
    next: Mutex<Option<Instant>>,
}

impl Sweep {
    pub(in crate::store) fn every(interval: Duration) -> Self {
        Self { interval, next: Mutex::new(Instant::now().checked_add(interval)) }
    }

    /// Starts a sweep if one is due after this answer to a claim: a task that ends by itself. `purge` removes a batch of
    /// expired rows, and says whether there may be more.
    pub(in crate::store) fn passing<P>(&self, answer: &StoreResult<ClaimOutcome>, purge: impl FnOnce() -> P)
    where
        P: Fn() -> BoxFuture<'static, StoreResult<bool>> + Send + Sync + 'static,
    {
        if !matches!(answer, Ok(ClaimOutcome::Claimed { .. })) || !self.is_due() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let purge = purge();
        runtime.spawn(async move {
            loop {
                match purge().await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => return events::not_swept(&error),
                }
            }
        });
    }

    /// True for one caller an interval.
    fn is_due(&self) -> bool {
        let mut next = lock(&self.next);
        let now = Instant::now();
        let is_due = next.is_some_and(|next| next <= now);
        if is_due {
            *next = now.checked_add(self.interval);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_caller_an_interval_sweeps() {
        let sweep = Sweep::every(INTERVAL);
        assert!(!sweep.is_due());
        tokio::time::advance(INTERVAL).await;
        assert!(sweep.is_due());
        assert!(!sweep.is_due());
        tokio::time::advance(INTERVAL).await;
        assert!(sweep.is_due());
        assert!(!Sweep::every(Duration::MAX).is_due());
    }
}
