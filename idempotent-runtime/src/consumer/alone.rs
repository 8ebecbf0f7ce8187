//! Keeps a message that may have killed its process from taking others with it.

use std::{future::Future, pin::pin, time::Duration};

use tokio::{
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::timeout,
};

/// All handlers of this process.
static HANDLERS: RwLock<()> = RwLock::const_new(());

/// The longest wait for the other handlers to end. Meanwhile none begins: a handler that hangs must not stop them all.
const ALONE_WITHIN: Duration = Duration::from_secs(5);

/// The time after which others begin beside a handler that was to run alone: what kills its process does so soon.
const ALONE_FOR: Duration = Duration::from_secs(30);

/// The place of a handler among those of its process. It is taken before its message is claimed: a process that dies uses up an
/// attempt of each message that it has claimed, also of those that wait.
pub(super) enum Place {
    Beside(#[expect(dead_code, reason = "held until the handler has ended")] RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
    /// Inside another handler, which has the place.
    Inner,
}

impl Place {
    /// Waits for a place. `None` if it is to be alone, and the others did not end in time.
    pub(super) async fn take(is_alone: bool, is_inner: bool) -> Option<Self> {
        match (is_inner, is_alone) {
            (true, _) => Some(Self::Inner),
            (false, true) => timeout(ALONE_WITHIN, HANDLERS.write()).await.ok().map(Self::Alone),
            (false, false) => Some(Self::Beside(HANDLERS.read().await)),
        }
    }

    /// True if a message may not run in this place. One of which two runs have vanished, or all but the last, runs alone from
    /// then on: if it is the one that kills, the innocent are not given up with it.
    pub(super) const fn is_too_crowded_for(&self, vanished: u32, is_last: bool) -> bool {
        matches!(self, Self::Beside(_)) && (vanished >= 2 || (vanished == 1 && is_last))
    }

    /// Runs a handler in this place.
    pub(super) async fn run<R>(self, handler: impl Future<Output = R>) -> R {
        let mut handler = pin!(handler);
        let Self::Alone(alone) = self else { return handler.await };
        if let Ok(output) = timeout(ALONE_FOR, handler.as_mut()).await {
            return output;
        }
        let _beside = alone.downgrade();
        handler.await
    }
}
