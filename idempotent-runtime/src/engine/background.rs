//! Work that must reach its end although nobody waits for it any more.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

use crate::store::BoxFuture;

/// A step that is finished in the background if its caller goes away: what a store was asked for cannot be unasked.
pub(crate) struct Settled<T: Send + 'static> {
    step: Option<BoxFuture<'static, T>>,
    /// What to do with the answer when nobody is left to receive it.
    orphaned: fn(T) -> BoxFuture<'static, ()>,
    runtime: Option<Handle>,
}

impl<T: Send + 'static> Settled<T> {
    pub(crate) fn new(
        step: impl Future<Output = T> + Send + 'static,
        orphaned: fn(T) -> BoxFuture<'static, ()>,
    ) -> Self {
        Self { step: Some(Box::pin(step)), orphaned, runtime: None }
    }
}

impl<T: Send + 'static> Future for Settled<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(step) = &mut self.step else { return Poll::Pending };
        match step.as_mut().poll(cx) {
            Poll::Ready(answer) => {
                self.step = None;
                Poll::Ready(answer)
            }
            Poll::Pending => {
                if self.runtime.is_none() {
                    self.runtime = Handle::try_current().ok();
                }
                Poll::Pending
            }
        }
    }
}

impl<T: Send + 'static> Drop for Settled<T> {
    fn drop(&mut self) {
        if let Some(step) = self.step.take() {
            let orphaned = self.orphaned;
            let rest = async move { orphaned(step.await).await };
            finish_later(rest, self.runtime.take());
        }
    }
}

/// Runs a future to its end without waiting for it: at once if it never has to wait, else on the runtime it is called
/// on, or on `runtime`, where the caller has been before, if it is called on none.
///
/// Called in `Drop`, where a panic may abort the process: it has none. Without a runtime, or with one that has shut
/// down, what is left of the work does not happen: the claim lapses instead.
pub(crate) fn finish_later(work: impl Future<Output = ()> + Send + 'static, runtime: Option<Handle>) {
    let mut work = Box::pin(work);
    let current = Handle::try_current().ok();
    if current.is_none()
        && let Some(runtime) = runtime
    {
        // It may have shut down, and timers panic then when they are polled; a dead runtime polls nothing.
        drop(runtime.spawn(work));
        return;
    }
    let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
    if let (Ok(Poll::Pending), Some(current)) = (polled, current) {
        drop(current.spawn(work));
    }
}

/// Pauses between tries: from `first`, doubling up to `most`, each shortened by up to a half at random.
pub(crate) struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
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
