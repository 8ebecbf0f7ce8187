//! Work that must reach its end although no caller waits for it any more.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::runtime::Handle;

use crate::store::BoxFuture;

/// A future that is finished in the background if its caller drops it: a store that was sent a step may apply it, whether
/// anybody waits or not.
pub(crate) struct FinishInBackground<T: Send + 'static> {
    step: Option<BoxFuture<'static, T>>,
    /// Takes the answer when no caller is left to receive it.
    orphaned: fn(T) -> BoxFuture<'static, ()>,
    runtime: Option<Handle>,
}

impl<T: Send + 'static> FinishInBackground<T> {
    pub(crate) fn new(
        step: impl Future<Output = T> + Send + 'static,
        orphaned: fn(T) -> BoxFuture<'static, ()>,
    ) -> Self {
        Self { step: Some(Box::pin(step)), orphaned, runtime: None }
    }
}

impl<T: Send + 'static> Future for FinishInBackground<T> {
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

impl<T: Send + 'static> Drop for FinishInBackground<T> {
    fn drop(&mut self) {
        if let Some(step) = self.step.take() {
            let orphaned = self.orphaned;
            let rest = async move { orphaned(step.await).await };
            finish_later(rest, self.runtime.take());
        }
    }
}

/// Runs a future to its end without waiting for it. It is polled once, here; if it has to wait, it is spawned on the
/// runtime of the caller. Called outside a runtime, it is spawned on `runtime`, where the call was polled before.
///
/// This runs in `Drop`, where a panic may abort the process, so it never panics. Without a runtime, or with one that has
/// shut down, the rest of the work does not happen: the claim lapses instead.
pub(crate) fn finish_later(work: impl Future<Output = ()> + Send + 'static, runtime: Option<Handle>) {
    let mut work = Box::pin(work);
    let current = Handle::try_current().ok();
    if current.is_none()
        && let Some(runtime) = runtime
    {
        // If it has shut down, polling a timer here would panic; a spawn on a dead runtime polls nothing.
        drop(runtime.spawn(work));
        return;
    }
    let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
    if let (Ok(Poll::Pending), Some(current)) = (polled, current) {
        drop(current.spawn(work));
    }
}
