//! The connections of a SQL store: its own, or those of a pool of the caller's.
//!
//! sqlx's pool asks each connection that it takes back whether it is alive. That is a second round trip for every
//! statement. A connection whose statement was just answered needs no such question. So our own connections have no pool of
//! sqlx's: each is taken back at once if its statement was answered, and is closed otherwise.

use std::{
    ops::{Deref, DerefMut},
    sync::Mutex,
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection, Database, Error, Pool, pool::PoolConnection};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use crate::{lock::lock, store::BoxFuture};

type Options<DB> = <<DB as Database>::Connection as Connection>::Options;

/// Sets up a new connection.
type SetUp<DB> = fn(&mut <DB as Database>::Connection, Duration) -> BoxFuture<'_, Result<(), Error>>;

/// The limits for idle connections to a server. Connections to a file have none.
#[derive(Clone, Copy)]
pub(in crate::store) struct Aging {
    /// The time without use after which a connection is asked whether it is alive.
    pub(in crate::store) trusted_idle: Duration,
    /// The age at which a connection is replaced: servers move, and sessions grow.
    pub(in crate::store) lifetime: Duration,
}

/// A source of connections, and how long to wait for one.
pub(in crate::store) struct Connections<DB: Database> {
    source: Source<DB>,
    patience: Duration,
}

enum Source<DB: Database> {
    Own(Own<DB>),
    Pool(Pool<DB>),
}

pub(in crate::store) struct Own<DB: Database> {
    options: Options<DB>,
    set_up: SetUp<DB>,
    aging: Option<Aging>,
    permits: Semaphore,
    /// A stack: the connection that was used last is used next. Connections that are not needed stay idle and grow old.
    idle: Mutex<Vec<Rested<DB::Connection>>>,
}

pub(in crate::store) struct Rested<C> {
    connection: C,
    born: Instant,
    idle_since: Instant,
}

impl<DB: Database> Connections<DB> {
    /// A source that opens connections as they are needed, `limit` at most.
    pub(in crate::store) fn own(
        options: Options<DB>,
        limit: u32,
        patience: Duration,
        aging: Option<Aging>,
        set_up: SetUp<DB>,
    ) -> Self {
        // A store without connections would wait for ever.
        let permits = Semaphore::new(usize::try_from(limit.max(1)).unwrap_or(Semaphore::MAX_PERMITS));
        Self { source: Source::Own(Own { options, set_up, aging, permits, idle: Mutex::default() }), patience }
    }

    /// A source that takes connections from the caller's pool, which keeps its own rules when it takes them back.
    pub(in crate::store) const fn of(pool: Pool<DB>, patience: Duration) -> Self {
        Self { source: Source::Pool(pool), patience }
    }

    /// The options with which the connections are made.
    pub(in crate::store) fn options(&self) -> Options<DB> {
        match &self.source {
            Source::Own(own) => own.options.clone(),
            Source::Pool(pool) => (*pool.connect_options()).clone(),
        }
    }

    /// Takes a connection for one user. It is closed unless it is [given back](Lent::give_back).
    pub(in crate::store) async fn take(&self) -> Result<Lent<'_, DB>, Error> {
        let taken = async {
            match &self.source {
                Source::Own(own) => own.take(self.patience).await,
                Source::Pool(pool) => {
                    let connection = pool.acquire().await?;
                    Ok(Lent::Pool(FromPool { connection, is_sound: false, patience: self.patience }))
                }
            }
        };
        timeout(self.patience, taken).await.unwrap_or(Err(Error::PoolTimedOut))
    }
}

impl<DB: Database> Own<DB> {
    async fn take(&self, patience: Duration) -> Result<Lent<'_, DB>, Error> {
        let permit = self.permits.acquire().await.map_err(|_| Error::PoolClosed)?;
        let rested = match self.alive(patience).await {
            Some(rested) => rested,
            // Boxed, since the future is large and rarely needed.
            None => Box::pin(self.open(patience)).await?,
        };
        Ok(Lent::Own { rested, own: self, permit })
    }

    async fn open(&self, patience: Duration) -> Result<Rested<DB::Connection>, Error> {
        let mut connection = self.options.connect().await?;
        (self.set_up)(&mut connection, patience).await?;
        let now = Instant::now();
        Ok(Rested { connection, born: now, idle_since: now })
    }

    /// An idle connection that can be used again.
    async fn alive(&self, patience: Duration) -> Option<Rested<DB::Connection>> {
        let mut rested = self.pop()?;
        let Some(aging) = self.aging else { return Some(rested) };
        let is_trusted = rested.idle_since.elapsed() < aging.trusted_idle;
        // Half of the time, so that there is some left to open another.
        let is_alive =
            is_trusted || timeout(patience / 2, rested.connection.ping()).await.is_ok_and(|answer| answer.is_ok());
        is_alive.then_some(rested)
    }

    fn pop(&self) -> Option<Rested<DB::Connection>> {
        let mut idle = lock(&self.idle);
        if let Some(Aging { lifetime, .. }) = self.aging {
            idle.retain(|rested| rested.born.elapsed() < lifetime);
        }
        idle.pop()
    }
}

/// A connection in use. It is closed unless it is given back: an answer to an earlier statement may still be on its way.
pub(in crate::store) enum Lent<'a, DB: Database> {
    Own { rested: Rested<DB::Connection>, own: &'a Own<DB>, permit: SemaphorePermit<'a> },
    Pool(FromPool<DB>),
}

impl<DB: Database> Lent<'_, DB> {
    /// Gives the connection back, after its last statement was answered.
    pub(in crate::store) fn give_back(self) {
        match self {
            Self::Own { mut rested, own, permit } => {
                rested.idle_since = Instant::now();
                lock(&own.idle).push(rested);
                // The push comes first. If the permit were dropped first, it could wake a waiter that finds no idle
                // connection, and opens one more than the limit.
                drop(permit);
            }
            Self::Pool(mut lent) => lent.is_sound = true,
        }
    }
}

impl<DB: Database> Deref for Lent<'_, DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Own { rested, .. } => &rested.connection,
            Self::Pool(lent) => &lent.connection,
        }
    }
}

impl<DB: Database> DerefMut for Lent<'_, DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Own { rested, .. } => &mut rested.connection,
            Self::Pool(lent) => &mut lent.connection,
        }
    }
}

/// A connection of the caller's pool. A late or lost answer keeps it from the pool for no longer than `patience`.
pub(in crate::store) struct FromPool<DB: Database> {
    connection: PoolConnection<DB>,
    is_sound: bool,
    patience: Duration,
}

impl<DB: Database> Drop for FromPool<DB> {
    fn drop(&mut self) {
        if !self.is_sound {
            self.connection.close_on_drop();
            return;
        }
        // `PoolConnection`'s own `Drop` spawns this, but without a limit. The pool sends a ping and awaits its answer
        // without one (`Floating::return_to_pool` in sqlx-core 0.9, `pool/connection.rs`): a few half-open connections,
        // and it has none to lend until TCP gives up on them. No documented hook comes in its place: `after_release`
        // runs before that ping, and is for the builder of the pool. A future that is dropped here frees the
        // connection's place (`DecrementSizeGuard`).
        tokio::spawn(timeout(self.patience, self.connection.return_to_pool()));
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use sqlx::{Sqlite, sqlite::SqliteConnectOptions};

    use super::*;

    static OPENED: AtomicU32 = AtomicU32::new(0);

    fn connections(lifetime: Duration) -> Connections<Sqlite> {
        let aging = Aging { trusted_idle: Duration::ZERO, lifetime };
        let options = SqliteConnectOptions::new().in_memory(true);
        Connections::own(options, 1, Duration::from_millis(50), Some(aging), |_, _| {
            Box::pin(async {
                OPENED.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        })
    }

    #[tokio::test]
    async fn sound_connections_are_used_again_and_others_replaced() {
        let young = connections(Duration::from_secs(60));
        let opened = || OPENED.load(Ordering::Relaxed);
        young.take().await.expect("the first").give_back();
        young.take().await.expect("the same").give_back();
        assert_eq!(opened(), 1);
        drop(young.take().await.expect("the same, which is not given back"));
        let second = young.take().await.expect("another");
        assert_eq!(opened(), 2);
        assert!(matches!(young.take().await, Err(Error::PoolTimedOut)), "there is but one");
        second.give_back();

        let old = connections(Duration::ZERO);
        old.take().await.expect("the third").give_back();
        old.take().await.expect("one in its place").give_back();
        assert_eq!(opened(), 4);
    }
}
