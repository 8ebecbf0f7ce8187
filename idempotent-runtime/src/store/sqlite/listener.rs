//! Wake-ups: SQLite has no notifications, so one task asks for all waiters of a store.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use sqlx::Row as _;
use tokio::{task::JoinHandle, time::sleep};

use super::database::Database;
use crate::store::{RecordKey, Subscribers, Subscription};

/// How long an end in another process may go unnoticed.
const INTERVAL: Duration = Duration::from_millis(20);

/// How many keys a statement asks for.
const BATCH_LEN: usize = 500;

/// Who waits, and the task that looks for them. It runs only while somebody waits.
pub(super) struct Listener {
    subscribers: Subscribers,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Listener {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { subscribers: Subscribers::new(), task: Mutex::new(None) })
    }

    /// Wakes who waits in this process.
    pub(super) fn ended(&self, key: &RecordKey) {
        self.subscribers.notify(key.as_str());
    }

    pub(super) fn subscribe(self: &Arc<Self>, key: &RecordKey, database: &Arc<Database>) -> Subscription {
        let (subscription, _) = self.subscribers.subscribe(key);
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was finished by the end of its runtime did not say so.
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(run(Arc::downgrade(self), Arc::downgrade(database))));
        }
        subscription
    }

    /// Ends the task if nobody waits. Whoever subscribes later finds none, and starts one.
    fn is_over(&self) -> bool {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
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
