//! Wakes the waiters of a store, by key.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::sync::watch;

use crate::{lock::lock, store::RecordKey};

/// The subscriptions of one store, by key. A store owns one and feeds it from its notifications.
///
/// Cloning is cheap and shares the subscriptions.
#[derive(Clone, Default)]
pub struct Subscribers {
    shared: Arc<SubscribersShared>,
}

#[derive(Default)]
struct SubscribersShared {
    channels: Mutex<Channels>,
    /// The number of channels. Where it is zero, the end of a run takes no lock.
    count: AtomicUsize,
}

type Channels = HashMap<Box<str>, watch::Sender<()>>;

impl Subscribers {
    /// An empty set of subscriptions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins the subscribers of a key, and tells whether this one is the first, so that the store can start listening.
    #[must_use]
    pub fn subscribe(&self, key: &RecordKey) -> (Subscription, bool) {
        let mut channels = self.lock();
        if let Some(channel) = channels.get(key.as_str()) {
            return (self.subscription(key, channel.subscribe()), false);
        }
        let (channel, receiver) = watch::channel(());
        channels.insert(key.as_str().into(), channel);
        self.shared.count.store(channels.len(), SeqCst);
        drop(channels);
        (self.subscription(key, receiver), true)
    }

    /// Wakes all subscribers of a key.
    pub fn notify(&self, key: &str) {
        // A waiter that subscribed before the run ended is counted. One that subscribes after this load reads the record
        // after it subscribed, and so sees the end itself: nobody sleeps through it.
        if self.shared.count.load(SeqCst) == 0 {
            return;
        }
        if let Some(channel) = self.lock().get(key) {
            channel.send_replace(());
        }
    }

    /// Wakes everybody, as after a reconnection, when notifications may have been missed.
    pub fn notify_all(&self) {
        for channel in self.lock().values() {
            channel.send_replace(());
        }
    }

    /// The keys that have subscribers now.
    #[doc(hidden)]
    #[must_use]
    pub fn keys(&self) -> Vec<Box<str>> {
        self.lock().keys().cloned().collect()
    }

    /// True if the key has subscribers now.
    #[doc(hidden)]
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.lock().contains_key(key)
    }

    fn subscription(&self, key: &RecordKey, receiver: watch::Receiver<()>) -> Subscription {
        Subscription {
            inner: Some(Subscribed { subscribers: self.clone(), key: key.as_str().into(), receiver }),
            on_last: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Channels> {
        // A panic in one of these short sections leaves the map whole.
        lock(&self.shared.channels)
    }
}

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribers").field("keys", &self.lock().len()).finish()
    }
}

/// A waiter's subscription to the end of a key's run. Dropping it stops listening.
pub struct Subscription {
    inner: Option<Subscribed>,
    on_last: Option<OnLast>,
}

type OnLast = Box<dyn FnOnce(&str) + Send + Sync>;

struct Subscribed {
    subscribers: Subscribers,
    key: Box<str>,
    receiver: watch::Receiver<()>,
}

impl Subscription {
    /// A subscription that is never woken, for stores without notifications: its waiter polls.
    #[must_use]
    pub const fn never() -> Self {
        Self { inner: None, on_last: None }
    }

    /// True if it can be woken.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) const fn can_wake(&self) -> bool {
        self.inner.is_some()
    }

    /// Calls `then` with the key when this subscription is dropped and was the key's last.
    #[doc(hidden)]
    #[must_use]
    pub fn on_last_drop(mut self, then: impl FnOnce(&str) + Send + Sync + 'static) -> Self {
        self.on_last = Some(Box::new(then));
        self
    }

    /// Resolves at the next notification, or at once if one has come since the last call resolved.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a notification is not lost by dropping the future.
    pub async fn notified(&mut self) {
        match &mut self.inner {
            Some(inner) => {
                if inner.receiver.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            None => std::future::pending().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        let mut channels = inner.subscribers.lock();
        drop(inner.receiver);
        let last = channels.get(&*inner.key).is_some_and(|channel| channel.receiver_count() == 0);
        if last {
            channels.remove(&*inner.key);
            inner.subscribers.shared.count.store(channels.len(), SeqCst);
        }
        drop(channels);
        if let (true, Some(then)) = (last, self.on_last.take()) {
            then(&inner.key);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
