//! The relay: reads messages from the table and hands them to the broker, one relay at a time.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use sqlx::Pool;
use tokio::time::{Instant, sleep, timeout};

use self::leader::{Ending, Leader};
use super::{
    OutboxDatabase,
    publisher::Publisher,
    rows::{Lease, Rows},
};
use crate::{
    Backoff, SetupError,
    engine::{LONGEST, events},
    store::Nonce,
};

mod lanes;
mod leader;

/// The time for which a lease is trusted, counted from when it was asked for. See the engine's leases.
fn trusted(lease: Duration) -> Duration {
    lease.saturating_sub(lease / 10)
}

/// Hands the messages of an [`Outbox`](super::Outbox) to a broker, and removes those that it has confirmed.
///
/// Run one in each process: one of them is at work, and another takes over when that one is gone. See the [module](super)
/// for what is promised.
pub struct Relay<P> {
    rows: Arc<dyn Rows>,
    publisher: Arc<P>,
    batch: usize,
    lease: Duration,
    publish_timeout: Duration,
    backoff: Backoff,
}

impl<P: Publisher> Relay<P> {
    /// The most messages of a batch unless said otherwise.
    pub const DEFAULT_BATCH: usize = 200;
    /// The time after which another relay takes over from one that is gone, unless said otherwise: 10 seconds.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(10);
    /// The time that a batch may be with the broker, unless said otherwise: 5 seconds.
    pub const DEFAULT_PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

    /// A relay of the outbox beside the table `idempotent_records`, on a pool of which it uses up to four connections. A pool
    /// of its own is best: a relay that waits for connections loses its lease.
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")]
    /// # async fn example(pool: sqlx::PgPool, publisher: impl idempotent_runtime::outbox::Publisher) {
    /// use idempotent_runtime::outbox::Relay;
    ///
    /// let shutdown = std::future::pending(); // a signal of your process
    /// Relay::new(pool, publisher).batch(200).run(shutdown).await;
    /// # }
    /// ```
    pub fn new<DB: OutboxDatabase>(pool: Pool<DB>, publisher: P) -> Self {
        Self {
            rows: DB::rows(pool),
            publisher: Arc::new(publisher),
            batch: Self::DEFAULT_BATCH,
            lease: Self::DEFAULT_LEASE,
            publish_timeout: Self::DEFAULT_PUBLISH_TIMEOUT,
            backoff: Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5)),
        }
    }
    /// Relays the outbox beside a table of another name.
    ///
    /// # Errors
    ///
    /// [`SetupError::Setting`] for a name that the store refuses as well.
    pub fn table(mut self, name: &str) -> Result<Self, SetupError> {
        self.rows = self.rows.renamed(name)?;
        Ok(self)
    }

    /// Sets the most messages of a batch, 1 or more. A relay has up to six batches in memory, and up to 28 where many keys have long
    /// queues.
    #[must_use]
    pub fn batch(mut self, messages: usize) -> Self {
        self.batch = messages.max(1);
        self
    }

    /// Sets the time after which another relay takes over from one that is gone, 30 ms or more. It is renewed at a third, on the
    /// database's clock.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.clamp(Duration::from_millis(30), LONGEST);
        self
    }

    /// Sets the time that a batch may be with the broker. What has no answer by then is tried again. Never more than half of the
    /// lease.
    #[must_use]
    pub const fn publish_timeout(mut self, limit: Duration) -> Self {
        self.publish_timeout = limit;
        self
    }

    /// Sets the pause after a message that was not confirmed, for its key: from 100 milliseconds to 5 seconds unless said otherwise.
    /// It is tried for ever.
    #[must_use]
    pub fn backoff(mut self, backoff: impl Into<Backoff>) -> Self {
        self.backoff = backoff.into();
        self
    }

    fn time_out(&self) -> Duration {
        self.publish_timeout.min(self.lease / 2)
    }

    /// Relays until `shutdown` does: waits for the lease, publishes, and after a fault goes on.
    ///
    /// The shutdown begins no further batch, waits for that which is with the broker, removes what it has confirmed, and gives the lease
    /// back, so that another relay takes over at once.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, and on one without timers. A panic of the publisher is no answer of the broker.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it stops at once. What the broker has, and the table does not know of, is published again by the next relay, which
    /// has to wait for the lease to lapse.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let (mut shutdown, nonce) = (pin!(shutdown), Nonce::random());
        loop {
            let sent = Instant::now();
            match timeout(self.lease, self.rows.lease(&nonce, self.lease)).await {
                Ok(Ok(Lease::Ours(_))) => {
                    let leader = Box::pin(Leader::new(self, nonce, sent).run(shutdown.as_mut()));
                    if leader.await == Ending::ShutDown {
                        break;
                    }
                }
                Ok(Err(error)) => events::relay_failed(self.rows.name(), &error),
                Ok(Ok(Lease::Others)) | Err(_) => {}
            }
            if ends_within(shutdown.as_mut(), (self.lease / 4).min(Duration::from_secs(1))).await {
                break;
            }
        }
        let _ = timeout(self.lease, self.rows.release(&nonce)).await;
    }
}

/// True if the shutdown comes within this time.
async fn ends_within(mut shutdown: Pin<&mut impl Future<Output = ()>>, time: Duration) -> bool {
    let mut time = pin!(sleep(time));
    poll_fn(|cx| {
        if shutdown.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        time.as_mut().poll(cx).map(|()| false)
    })
    .await
}

impl<P> fmt::Debug for Relay<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("table", &self.rows.name()).field("batch", &self.batch).finish_non_exhaustive()
    }
}
