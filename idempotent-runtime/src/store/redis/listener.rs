//! Wakes waiters through publish/subscribe: one task subscribes to the keys that somebody waits for.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::connection::{Connector, Link};
use crate::{
    lock::lock,
    store::{StoreError, StoreErrorKind, StoreResult, Subscribers},
};

/// The pause after a failure before the subscriptions are tried again, while somebody waits.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The most requests that one round of commands covers.
const BATCH_LEN: usize = 256;

/// Wakes waiters by the messages of the server. Connections and waiters send their requests to its task.
pub(super) struct Listener {
    subscribers: Subscribers,
    prefix: Box<str>,
    /// Sends to the task, once there is one. The task ends when this sender is dropped.
    requests: Mutex<Option<mpsc::UnboundedSender<Request>>>,
}

enum Request {
    /// A waiter has come for this key, and wants to know when the server has confirmed.
    Listen(Box<str>, oneshot::Sender<StoreResult<()>>),
    /// The last waiter for this key has left.
    Leave(Box<str>),
    /// A link has closed.
    LinkClosed,
}

impl Listener {
    pub(super) fn new(subscribers: Subscribers, prefix: Box<str>) -> Self {
        Self { subscribers, prefix, requests: Mutex::new(None) }
    }

    /// Wakes the waiters of the key whose channel has a message.
    pub(super) fn published(&self, channel: &[u8]) {
        let key = std::str::from_utf8(channel).ok().and_then(|channel| channel.strip_prefix(&*self.prefix));
        if let Some(key) = key {
            self.subscribers.notify(key);
        }
    }

    /// Tells the task that a link has closed: messages may be missed until the subscriptions are made again.
    pub(super) fn link_closed(&self) {
        self.tell(Request::LinkClosed);
    }

    /// Tells the task that the last waiter for a key has left.
    pub(super) fn left(&self, key: &str) {
        self.tell(Request::Leave(key.into()));
    }

    /// Resolves when the server has confirmed that messages for the key come in.
    pub(super) async fn listen(&self, connector: &Arc<Connector>, key: &str) -> StoreResult<()> {
        let (confirm, confirmed) = oneshot::channel();
        // The task takes requests until its runtime ends. If it refuses one, its runtime has ended.
        if self.task(connector).send(Request::Listen(key.into(), confirm)).is_err() {
            return Err(stopped());
        }
        confirmed.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn tell(&self, request: Request) {
        let requests = lock(&self.requests);
        if let Some(requests) = &*requests {
            // It fails if the task has ended. Then nothing is subscribed, and there is nothing to do.
            let _ = requests.send(request);
        }
    }

    /// The sender of the running task. Starts the task on first use, and again after its runtime has ended.
    fn task(&self, connector: &Arc<Connector>) -> mpsc::UnboundedSender<Request> {
        let mut requests = lock(&self.requests);
        match &*requests {
            Some(sender) if !sender.is_closed() => sender.clone(),
            _ => {
                let (sender, receiver) = mpsc::unbounded_channel();
                let subscriptions = Subscriptions {
                    connector: Arc::clone(connector),
                    subscribers: self.subscribers.clone(),
                    prefix: self.prefix.clone(),
                    link: Weak::new(),
                    confirmed: HashSet::new(),
                    missed: false,
                    retry: false,
                };
                tokio::spawn(subscriptions.run(receiver));
                *requests = Some(sender.clone());
                sender
            }
        }
    }
}

fn stopped() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the Redis subscriptions stopped with their runtime")
}

/// The subscriptions that the server has confirmed, and their link.
///
/// One task makes all changes, one round after the other. Otherwise a waiter could subscribe while the unsubscribe of the
/// last waiter is under way, the server could answer in that order, and the new waiter would never be woken.
struct Subscriptions {
    connector: Arc<Connector>,
    subscribers: Subscribers,
    prefix: Box<str>,
    link: Weak<Link>,
    confirmed: HashSet<Box<str>>,
    /// True if messages may have been missed since all waiters were last woken.
    missed: bool,
    /// True if the last round failed in a way that may pass.
    retry: bool,
}

impl Subscriptions {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut batch = Vec::new();
        loop {
            let received = requests.recv_many(&mut batch, BATCH_LEN);
            let received =
                if self.retry { tokio::time::timeout(RETRY_PAUSE, received).await.ok() } else { Some(received.await) };
            if received == Some(0) {
                return;
            }
            self.round(std::mem::take(&mut batch)).await;
        }
    }

    /// Brings the server's subscriptions up to date, and answers those who asked.
    async fn round(&mut self, batch: Vec<Request>) {
        let link = self.link.upgrade().filter(|link| self.is_live(link));
        let outcome = match link {
            Some(link) => self.update(&link, &batch).await,
            None => self.start_over().await,
        };
        if outcome.is_err() {
            self.link = Weak::new();
            self.missed = true;
        }
        self.retry = matches!(&outcome, Err(error) if error.is_retryable());
        for request in batch {
            if let Request::Listen(_, confirm) = request {
                // Fails if the waiter has left.
                let _ = confirm.send(outcome.clone());
            }
        }
    }

    fn is_live(&self, link: &Arc<Link>) -> bool {
        self.connector.live().is_some_and(|live| Arc::ptr_eq(&live, link))
    }

    /// Subscribes on a new link to all keys that somebody waits for.
    async fn start_over(&mut self) -> StoreResult<()> {
        if !self.confirmed.is_empty() {
            self.confirmed.clear();
            self.missed = true;
            self.subscribers.notify_all();
        }
        let wanted: HashSet<_> = self.subscribers.keys().into_iter().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let link = self.connector.link().await?;
        self.connector.subscribe(&link, &self.channels(&wanted)).await?;
        self.link = Arc::downgrade(&link);
        self.confirmed = wanted;
        if std::mem::take(&mut self.missed) {
            self.subscribers.notify_all();
        }
        Ok(())
    }

    /// Subscribes on the same link to new keys, and unsubscribes from keys that nobody waits for any more.
    async fn update(&mut self, link: &Arc<Link>, batch: &[Request]) -> StoreResult<()> {
        let (mut added, mut dropped) = (HashSet::new(), HashSet::new());
        // A waiter joins the subscribers before it sends its request. So `contains` sees every waiter of this batch.
        // A waiter that joins after this look has its request in a later batch.
        for request in batch {
            match request {
                Request::Listen(key, _) if !self.confirmed.contains(key) && self.subscribers.contains(key) => {
                    added.insert(key.clone());
                }
                Request::Leave(key) if self.confirmed.contains(key) && !self.subscribers.contains(key) => {
                    dropped.insert(key.clone());
                }
                _ => {}
            }
        }
        if !dropped.is_empty() {
            self.connector.unsubscribe(link, &self.channels(&dropped)).await?;
            self.confirmed.retain(|key| !dropped.contains(key));
        }
        if !added.is_empty() {
            self.connector.subscribe(link, &self.channels(&added)).await?;
            self.confirmed.extend(added);
        }
        Ok(())
    }

    fn channels(&self, keys: &HashSet<Box<str>>) -> Vec<String> {
        keys.iter().map(|key| format!("{}{key}", self.prefix)).collect()
    }
}
