//! Removing expired records from stores that keep them.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::sleep};

use crate::{Idempotency, store::Store};

/// The number of records that are removed at a time.
const BATCH_LEN: usize = 1000;

/// A task that removes expired records: see [`Idempotency::spawn_sweeper`]. Dropping it stops the task.
#[derive(Debug)]
#[must_use = "dropping it stops the sweeper"]
pub struct Sweeper {
    task: JoinHandle<()>,
}

impl Idempotency {
    /// Removes expired records every `interval`, until the [`Sweeper`] is dropped.
    ///
    /// For stores of your own that keep expired records, and for a store of ours that gets no new keys for long: those in
    /// PostgreSQL and SQLite remove them by themselves, each minute in which they are granted a claim, and the others
    /// expire records. Several sweepers may run on one store, in several processes. A fault of the store becomes an
    /// event, and the next round tries again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use idempotent_runtime::Idempotency;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let idempotency = Idempotency::memory();
    /// let sweeper = idempotency.spawn_sweeper(Duration::from_secs(60));
    /// drop(sweeper); // at shut-down
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn_sweeper(&self, interval: Duration) -> Sweeper {
        Sweeper { task: tokio::spawn(sweep(Arc::clone(self.store()), interval)) }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn sweep(store: Arc<dyn Store>, interval: Duration) {
    loop {
        sleep(interval).await;
        loop {
            match store.purge_expired(BATCH_LEN).await {
                Ok(BATCH_LEN..) => {}
                Ok(_) => break,
                Err(error) => {
                    crate::engine::events::not_swept(&error);
                    break;
                }
            }
        }
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::*;
    use crate::{
        store::{StoreErrorKind, memory::MemoryStore},
        testing::{Fault, FaultyStore, Method},
    };

    #[tokio::test(start_paused = true)]
    async fn a_sweeper_goes_on_after_faults_and_stops_when_it_is_dropped() {
        let store = FaultyStore::new(MemoryStore::new());
        let interval = Duration::from_secs(60);
        let sweeper = Idempotency::new(store.clone()).spawn_sweeper(interval);
        store.next(Method::PurgeExpired, [Fault::FailBefore(StoreErrorKind::Unavailable)]);
        store.called(Method::PurgeExpired, 3).await;
        drop(sweeper);
        let calls = store.calls(Method::PurgeExpired);
        sleep(interval * 3).await;
        assert_eq!(store.calls(Method::PurgeExpired), calls);
    }
}
