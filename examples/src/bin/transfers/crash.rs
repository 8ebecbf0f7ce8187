//! A crash on purpose.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

/// Longer than any statement takes. After this time, the database has done what it was asked, and nobody has got the reply.
const UNHEARD: Duration = Duration::from_millis(60);

/// Aborts the process after its futures have waited a given number of times.
#[derive(Clone)]
pub(crate) struct Plug {
    waits_left: Option<Arc<AtomicU32>>,
}

impl Plug {
    pub(crate) fn after(waits: Option<u32>) -> Self {
        Self { waits_left: waits.map(|waits| Arc::new(AtomicU32::new(waits))) }
    }

    /// Awaits the future, or crashes in the middle of it.
    pub(crate) async fn run<F: Future>(&self, future: F) -> F::Output {
        let Some(waits_left) = &self.waits_left else { return future.await };
        let mut future = pin!(future);
        let output = poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if waits_left.fetch_sub(1, Ordering::Relaxed) == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        if let Some(output) = output.await {
            return output;
        }
        // Do not drop the future: a crash runs no destructors.
        tokio::time::sleep(UNHEARD).await;
        std::process::abort()
    }
}
