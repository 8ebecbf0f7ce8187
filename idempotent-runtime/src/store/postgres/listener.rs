//! Wakes waiters through LISTEN/NOTIFY, with one connection and one task, from the first waiter on.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use sqlx::{
    Executor, Postgres,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::sessions;
use crate::{
    hex,
    lock::lock,
    store::{RecordKey, Subscribers, Subscription, sql::connections::Opener},
};

/// The pause after a connection that failed, or could not be made.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The time after which a silent connection is asked whether it is alive.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Wakes waiters at the ends of runs, in this process and in others.
pub(super) struct Listener {
    subscribers: Subscribers,
    opener: Opener<Postgres>,
    channel: Box<str>,
    timeout: Duration,
    task: Mutex<Option<Listening>>,
}

struct Listening {
    task: JoinHandle<()>,
    state: watch::Receiver<ListenState>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ListenState {
    Connecting,
    Connected,
    Failed,
}

impl Listener {
    pub(super) fn new(opener: Opener<Postgres>, channel: &str, timeout: Duration) -> Self {
        Self { subscribers: Subscribers::new(), opener, channel: channel.into(), timeout, task: Mutex::new(None) }
    }

    /// Returns a subscription once notifications for the key come in. While the server does not let us listen, it returns
    /// one that is silent; its owner polls.
    pub(super) async fn subscribe(&self, key: &RecordKey) -> Subscription {
        // The name has the key's hash, since that is what a notification carries.
        let name = format!("sha256{}{}", RecordKey::SEPARATOR, payload(key)).parse::<RecordKey>();
        let Ok(name) = name else { return Subscription::never() };
        let (subscription, _) = self.subscribers.subscribe(&name);
        let mut state = self.state();
        let settled = state.wait_for(|state| *state != ListenState::Connecting);
        // With or without a connection the caller goes on. At worst it polls until the connection is there.
        let _ = timeout(self.timeout, settled).await;
        subscription
    }

    /// The state of the task. Starts the task on first use, and again after its runtime has ended.
    fn state(&self) -> watch::Receiver<ListenState> {
        let mut listening = lock(&self.task);
        match &*listening {
            Some(listening) if !listening.task.is_finished() => listening.state.clone(),
            _ => {
                let (sender, state) = watch::channel(ListenState::Connecting);
                let task = ListenTask {
                    subscribers: self.subscribers.clone(),
                    opener: self.opener.clone(),
                    channel: self.channel.clone(),
                    timeout: self.timeout,
                    state: sender,
                };
                *listening = Some(Listening { task: tokio::spawn(task.run()), state: state.clone() });
                state
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let listening = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(listening) = listening {
            listening.task.abort();
        }
    }
}

/// The payload of a notification about a key: a hash, since every role that may connect to the database may listen.
pub(super) fn payload(key: &RecordKey) -> String {
    Sha256::digest(key.as_str()).iter().take(16).flat_map(|byte| hex::lower(*byte)).collect()
}

struct ListenTask {
    subscribers: Subscribers,
    opener: Opener<Postgres>,
    channel: Box<str>,
    timeout: Duration,
    state: watch::Sender<ListenState>,
}

impl ListenTask {
    async fn run(self) {
        loop {
            match self.connect().await {
                Ok(Some(connection)) => {
                    self.state.send_replace(ListenState::Connected);
                    // Runs may have ended between the loss of the old connection and this `LISTEN`: every waiter looks
                    // again.
                    self.subscribers.notify_all();
                    self.listen(connection).await;
                }
                Ok(None) => {
                    self.state.send_replace(ListenState::Failed);
                    return std::future::pending().await;
                }
                Err(_) => {}
            }
            self.state.send_replace(ListenState::Failed);
            sleep(RETRY_PAUSE).await;
        }
    }

    /// A connection of its own: one of the pool's would be missing there for good. `None` behind a pooler that shares
    /// sessions: `LISTEN` would be in effect for another client.
    async fn connect(&self) -> sqlx::Result<Option<PgListener>> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.timeout)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(self.opener.options());
        let connected = timeout(self.timeout, async {
            let first = pool.acquire().await?;
            // Without a place for a second connection, a pooler has given the first one a session of its own.
            let second = timeout(self.timeout / 2, self.opener.open(self.timeout / 2)).await;
            Ok::<_, sqlx::Error>((first, second.ok().and_then(Result::ok)))
        });
        let (mut first, second) = connected.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        if let Some(mut second) = second {
            if sessions::are_shared(&mut first, &mut second, self.timeout).await? {
                return Ok(None);
            }
            sessions::close(second, self.timeout).await;
        }
        drop(first);
        let listening = timeout(self.timeout, async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.listen(&self.channel).await?;
            Ok(Some(listener))
        });
        listening.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Passes notifications on until the connection fails.
    async fn listen(&self, mut connection: PgListener) {
        loop {
            match timeout(HEARTBEAT, connection.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    self.subscribers.notify(&format!("sha256{}{}", RecordKey::SEPARATOR, notification.payload()));
                }
                // The connection is gone. `run` opens a new one and wakes all waiters. If sqlx reconnected by itself, it
                // would miss notifications silently.
                Ok(Ok(None) | Err(_)) => return,
                Err(_) => {
                    let alive = timeout(self.timeout, connection.execute("SELECT 1")).await;
                    if !alive.is_ok_and(|answer| answer.is_ok()) {
                        return;
                    }
                }
            }
        }
    }
}
