//! Counts the handlers that run, so that a shutdown can wait for them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// The number of handlers that run under a claim.
#[derive(Debug, Default)]
pub(super) struct RunningHandlers {
    count: AtomicUsize,
    /// Notified when the count drops to zero.
    idle: Notify,
}

/// Counts one handler, until it is dropped.
#[derive(Debug)]
pub(super) struct HandlerGuard(Arc<RunningHandlers>);

impl RunningHandlers {
    /// Waits until no handler runs.
    pub(super) async fn idle(&self) {
        loop {
            // `notified()` comes before the look at the count. In the other order, the last handler could end between the
            // two, and its notification would be lost.
            let idle = self.idle.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl HandlerGuard {
    pub(super) fn new(handlers: &Arc<RunningHandlers>) -> Self {
        handlers.count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(handlers))
    }
}

impl Drop for HandlerGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    #[test]
    fn idle_waits_for_the_last_handler() {
        let handlers = Arc::new(RunningHandlers::default());
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(pin!(handlers.idle()).poll(cx).is_ready());

        let (one, other) = (HandlerGuard::new(&handlers), HandlerGuard::new(&handlers));
        let mut idle = pin!(handlers.idle());
        assert!(idle.as_mut().poll(cx).is_pending());
        drop(one);
        assert!(idle.as_mut().poll(cx).is_pending());
        drop(other);
        // Another handler begins before the one who waits is polled.
        let next = HandlerGuard::new(&handlers);
        assert!(idle.as_mut().poll(cx).is_pending());
        drop(next);
        assert!(idle.as_mut().poll(cx).is_ready());
        assert!(pin!(handlers.idle()).poll(cx).is_ready());
    }
}
