//! The connections of a SQL store: its own, or those of a pool of the caller's.
//!
//! sqlx's pool asks each connection that it takes back whether it is alive. That is a second round trip for every
//! statement. A connection whose statement was just answered needs no such question, so our own go without that pool:
//! they are taken back if they were answered, at once, and are closed otherwise.
//!
//! The owner of a run must not wait behind others: on the caller's own pool for bodies, which may have all connections of
//! it for longer than a lease, and on ours for claims that wait for locks. So it takes what is free at once, or else the
//! reserve, a connection that only owners use.

use std::{
    ops::{Deref, DerefMut},
    pin::pin,
    sync::Mutex,
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection, Database, Error, Pool, pool::PoolConnection};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use crate::lock::lock;

type Options<DB> = <<DB as Database>::Connection as Connection>::Options;

/// After waiting this long for a connection of the caller's pool, an owner takes another one, and others ask whether the
/// server is there at all.
const PROBE_AFTER: Duration = Duration::from_millis(100);

/// The limits for idle connections to a server. Connections to a file have none.
#[derive(Clone, Copy)]
pub(in crate::store) struct Aging {
    /// The time without use after which a connection is asked whether it is alive.
    pub(in crate::store) trusted_idle: Duration,
    /// The age at which a connection is replaced: servers move, and sessions grow.
    pub(in crate::store) lifetime: Duration,
}

/// A source of connections, the reserve for owners of runs, and how long to wait for one.
pub(in crate::store) struct Connections<DB: Database> {
    source: Source<DB>,
    /// One connection, opened when it is first needed.
    reserve: Own<DB>,
    patience: Duration,
}

enum Source<DB: Database> {
    Own(Own<DB>),
    Pool(Pool<DB>),
}

pub(in crate::store) struct Own<DB: Database> {
    options: Options<DB>,
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
    /// Connections of our own: up to so many, opened as they are needed.
    pub(in crate::store) fn own(options: Options<DB>, limit: u32, patience: Duration, aging: Option<Aging>) -> Self {
        let source = Source::Own(Own::new(options.clone(), limit, aging));
        Self { source, reserve: Own::new(options, 1, aging), patience }
    }

    /// The connections of the caller's pool, which keeps its own rules when it takes them back.
    pub(in crate::store) fn of(pool: Pool<DB>, patience: Duration, aging: Option<Aging>) -> Self {
        let options = (*pool.connect_options()).clone();
        Self { source: Source::Pool(pool), reserve: Own::new(options, 1, aging), patience }
    }

    /// The options that they are made with.
    pub(in crate::store) const fn options(&self) -> &Options<DB> {
        &self.reserve.options
    }

    /// Takes a connection for one user. It is closed unless it is [given back](Lent::give_back).
    pub(in crate::store) async fn take(&self) -> Result<Lent<'_, DB>, Error> {
        let taken = async {
            match &self.source {
                Source::Own(own) => own.take(self.patience).await,
                Source::Pool(pool) => self.acquire(pool).await.map(|connection| self.lend(connection)),
            }
        };
        timeout(self.patience, taken).await.unwrap_or(Err(Error::PoolTimedOut))
    }

    /// Takes a connection for the owner of a run: one that is free, or else the reserve.
    #[cfg(feature = "postgres")]
    pub(in crate::store) async fn take_for_owner(&self) -> Result<Lent<'_, DB>, Error> {
        let taken = async {
            match &self.source {
                Source::Own(own) => match own.permits.try_acquire() {
                    Ok(permit) => own.lend(permit, self.patience).await,
                    Err(_) => self.reserve.take(self.patience).await,
                },
                Source::Pool(pool) => match self.acquire_free(pool).await {
                    Some(answer) => answer.map(|connection| self.lend(connection)),
                    None => self.reserve.take(self.patience).await,
                },
            }
        };
        match timeout(self.patience, taken).await {
            // The server may have no room for one more connection: one of the others may become free.
            Ok(Err(Error::Database(_))) => self.take().await,
            Ok(answer) => answer,
            Err(_) => Err(Error::PoolTimedOut),
        }
    }

    /// A connection of the caller's pool, where it has one to spare: `None` if that has to be waited for.
    #[cfg(feature = "postgres")]
    async fn acquire_free(&self, pool: &Pool<DB>) -> Option<Result<PoolConnection<DB>, Error>> {
        if pool.num_idle() == 0 && pool.size() >= pool.options().get_max_connections() {
            return None;
        }
        // Others may be faster.
        match timeout(PROBE_AFTER, pool.acquire()).await {
            Err(_) | Ok(Err(Error::PoolTimedOut)) => None,
            Ok(answer) => Some(answer),
        }
    }

    const fn lend(&self, connection: PoolConnection<DB>) -> Lent<'_, DB> {
        Lent::Pool(FromPool { connection, is_sound: false, patience: self.patience })
    }

    /// A connection of the caller's pool. sqlx does not tell that a server is not there: its pool tries to connect, again
    /// and again, until its own time is up. So we look, too.
    async fn acquire(&self, pool: &Pool<DB>) -> Result<PoolConnection<DB>, Error> {
        let mut acquired = pin!(pool.acquire());
        if let Ok(answer) = timeout(PROBE_AFTER, &mut acquired).await {
            return answer;
        }
        // Twice: the first may find that the reserve has been closed.
        if self.probe().await.is_err() {
            self.probe().await?;
        }
        acquired.await
    }

    /// Asks whether the server can be reached.
    async fn probe(&self) -> Result<(), Error> {
        let answer = async {
            let mut lent = self.reserve.take(self.patience).await?;
            lent.ping().await?;
            lent.give_back();
            Ok(())
        };
        match answer.await {
            Err(error @ Error::Io(_)) => Err(error),
            // Any other refusal is of one more connection, which the pool does not need.
            _ => Ok(()),
        }
    }
}

impl<DB: Database> Own<DB> {
    fn new(options: Options<DB>, limit: u32, aging: Option<Aging>) -> Self {
        // A store without connections would wait for ever.
        let permits = Semaphore::new(usize::try_from(limit.max(1)).unwrap_or(Semaphore::MAX_PERMITS));
        Self { options, aging, permits, idle: Mutex::default() }
    }

    async fn take(&self, patience: Duration) -> Result<Lent<'_, DB>, Error> {
        let permit = self.permits.acquire().await.map_err(|_| Error::PoolClosed)?;
        self.lend(permit, patience).await
    }

    async fn lend<'a>(&'a self, permit: SemaphorePermit<'a>, patience: Duration) -> Result<Lent<'a, DB>, Error> {
        let rested = match self.alive(patience).await {
            Some(rested) => rested,
            // Boxed: it is large, and rarely needed.
            None => Box::pin(self.open()).await?,
        };
        Ok(Lent::Own { rested, own: self, permit })
    }

    async fn open(&self) -> Result<Rested<DB::Connection>, Error> {
        let connection = self.options.connect().await?;
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
#[expect(clippy::expect_used, reason = "helpers of tests fail the test")]
mod tests {
    use sqlx::{Sqlite, sqlite::SqliteConnectOptions};

    use super::*;

    fn connections(lifetime: Duration) -> Connections<Sqlite> {
        let aging = Aging { trusted_idle: Duration::ZERO, lifetime };
        let options = SqliteConnectOptions::new().in_memory(true);
        Connections::own(options, 1, Duration::from_millis(50), Some(aging))
    }

    /// Tells a connection from the others: what is set on a new one is its own.
    async fn number(lent: &mut Lent<'_, Sqlite>) -> i64 {
        sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut **lent).await.expect("a number")
    }

    async fn mark(lent: &mut Lent<'_, Sqlite>) {
        sqlx::raw_sql("PRAGMA user_version = 1").execute(&mut **lent).await.expect("a mark");
    }

    #[tokio::test]
    async fn sound_connections_are_used_again_and_others_replaced() {
        let young = connections(Duration::from_secs(60));
        let mut first = young.take().await.expect("the first");
        mark(&mut first).await;
        first.give_back();
        let mut same = young.take().await.expect("the same");
        assert_eq!(number(&mut same).await, 1);
        same.give_back();
        drop(young.take().await.expect("the same, which is not given back"));
        let mut second = young.take().await.expect("another");
        assert_eq!(number(&mut second).await, 0);
        assert!(matches!(young.take().await, Err(Error::PoolTimedOut)), "there is but one");
        second.give_back();

        let old = connections(Duration::ZERO);
        let mut third = old.take().await.expect("the third");
        mark(&mut third).await;
        third.give_back();
        assert_eq!(number(&mut old.take().await.expect("one in its place")).await, 0);
    }

    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn owners_take_what_is_free_or_else_the_reserve() {
        let connections = connections(Duration::from_secs(60));
        let mut first = connections.take().await.expect("the only one");
        mark(&mut first).await;
        let mut reserve = connections.take_for_owner().await.expect("the reserve");
        assert_eq!(number(&mut reserve).await, 0);
        assert!(matches!(connections.take_for_owner().await, Err(Error::PoolTimedOut)), "there is but one");
        first.give_back();
        assert_eq!(number(&mut connections.take_for_owner().await.expect("what is free")).await, 1);
    }
}
