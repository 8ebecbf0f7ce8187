//! Wakes waiters. SQLite has no notifications, so one task looks at the records for all waiters of a store.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use sqlx::Row as _;
use tokio::{task::JoinHandle, time::sleep};

use super::database::Database;
use crate::{
    lock::lock,
    store::{RecordKey, Subscribers, Subscription},
};

/// The pause between two looks: an end in another process goes unnoticed for about as long.
const INTERVAL: Duration = Duration::from_millis(20);

/// The most keys that a statement asks for.
const BATCH_LEN: usize = 500;

/// Wakes the waiters of this process: at once when a run ends here, by a task that looks when one ends elsewhere.
pub(super) struct Listener {
    subscribers: Subscribers,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Listener {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { subscribers: Subscribers::new(), task: Mutex::new(None) })
    }

    /// Wakes the key's waiters in this process.
    pub(super) fn ended(&self, key: &RecordKey) {
        self.subscribers.notify(key.as_str());
    }

    pub(super) fn subscribe(self: &Arc<Self>, key: &RecordKey, database: &Arc<Database>) -> Subscription {
        let (subscription, _) = self.subscribers.subscribe(key);
        let mut task = lock(&self.task);
        // A task that ended with its runtime is still there.
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(run(Arc::downgrade(self), Arc::downgrade(database))));
        }
        subscription
    }

    /// Takes the task out if nobody waits, under the lock that `subscribe` takes after it has joined the subscribers.
    /// So a waiter either is seen here, or finds no task and starts one.
    fn is_over(&self) -> bool {
        let mut task = lock(&self.task);
        let over = self.subscribers.keys().is_empty();
        if over {
            *task = None;
        }
        over
    }
}

async fn run(listener: Weak<Listener>, database: Weak<Database>) {
    loop {
        sleep(INTERVAL).await;
        let (Some(listener), Some(database)) = (listener.upgrade(), database.upgrade()) else { return };
        if listener.is_over() {
            return;
        }
        for keys in listener.subscribers.keys().chunks(BATCH_LEN) {
            let Ok(keys) = serde_json::to_string(keys) else { continue };
            let query = sqlx::query(database.statements.ended.clone()).bind(keys);
            // After an error waiters poll, and the next round may succeed.
            let Ok(rows) = database.read(query).await else { break };
            for row in rows {
                if let Ok(key) = row.try_get::<&str, _>(0) {
                    listener.subscribers.notify(key);
                }
            }
        }
    }
}
