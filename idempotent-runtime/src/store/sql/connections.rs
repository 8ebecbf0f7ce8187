//! The connections of a SQL store: its own, or those of a pool of the caller's.
//!
//! sqlx's pool asks each connection that it takes back whether it is alive. That is a second round trip for every
//! statement. A connection whose statement was just answered needs no such question, so our own go without that pool:
//! they are taken back if they were answered, at once, and are closed otherwise.
//!
//! The owner of a run must not wait behind others: on the caller's own pool for bodies, which may have all connections of
//! it for longer than a lease, and on ours for claims that wait for locks. So it takes what is free at once, or else one
//! of the reserve, which only owners use. On a pool the first of the reserve is one of the pool's own, taken out of it
//! before the first claim: it has the pool's credentials and what its hooks have set, and it is there when it is needed.

use std::{
    io,
    ops::{Deref, DerefMut},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection, Database, Error, Pool, pool::PoolConnection};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use crate::lock::lock;

mod opener;
mod race;
#[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "SQLite has one writer in the place of a reserve"))]
mod reserve;

pub(in crate::store) use opener::Opener;
use race::{First, race};
use reserve::{Place, Reserve};

type Options<DB> = <<DB as Database>::Connection as Connection>::Options;

/// After waiting this long for a connection of the caller's pool, an owner takes another one, and others ask whether the
/// server is there at all.
const PROBE_AFTER: Duration = Duration::from_millis(100);

/// The time for which the answer to that is good for all who wait.
const PROBE_IS_GOOD: Duration = Duration::from_secs(1);

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
    /// `None` for a file, whose owners have a connection that writes.
    reserve: Option<Arc<Reserve<DB>>>,
    probe: AsyncMutex<Option<Probe>>,
    patience: Duration,
}

/// The answer to the question whether the server is there.
#[derive(Clone, Copy)]
struct Probe {
    at: Instant,
    fault: Option<io::ErrorKind>,
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

impl<C> Rested<C> {
    fn new(connection: C) -> Self {
        let now = Instant::now();
        Self { connection, born: now, idle_since: now }
    }
}

impl<DB: Database> Connections<DB> {
    /// Connections of our own: up to so many, opened as they are needed.
    pub(in crate::store) fn own(options: Options<DB>, limit: u32, patience: Duration, aging: Option<Aging>) -> Self {
        let reserve = aging.map(|aging| Arc::new(Reserve::new(Opener::With(options.clone()), aging)));
        Self { source: Source::Own(Own::new(options, limit, aging)), reserve, probe: AsyncMutex::default(), patience }
    }

    /// The connections of the caller's pool, which keeps its own rules when it takes them back.
    pub(in crate::store) fn of(pool: Pool<DB>, patience: Duration, aging: Option<Aging>) -> Self {
        let reserve = aging.map(|aging| Arc::new(Reserve::new(Opener::Like(pool.clone()), aging)));
        Self { source: Source::Pool(pool), reserve, probe: AsyncMutex::default(), patience }
    }

    /// Opens further connections like these.
    pub(in crate::store) fn opener(&self) -> Opener<DB> {
        match &self.source {
            Source::Own(own) => Opener::With(own.options.clone()),
            Source::Pool(pool) => Opener::Like(pool.clone()),
        }
    }

    /// Takes a connection for one user. It is closed unless it is [given back](Lent::give_back).
    pub(in crate::store) async fn take(&self) -> Result<Lent<'_, DB>, Error> {
        let taken = async {
            match &self.source {
                Source::Own(own) => own.take(self.patience).await,
                Source::Pool(pool) => {
                    self.fill_reserve(pool).await?;
                    self.acquire(pool).await.map(|connection| self.lend(connection))
                }
            }
        };
        timeout(self.patience, taken).await.unwrap_or(Err(Error::PoolTimedOut))
    }

    /// Takes a connection of the pool out of it, for the reserve, if that has none: the pool may open another. Later,
    /// when bodies have all others and the server may take no more, it would be too late.
    async fn fill_reserve(&self, pool: &Pool<DB>) -> Result<(), Error> {
        let Some(reserve) = &self.reserve else { return Ok(()) };
        if !reserve.wants_another() {
            return Ok(());
        }
        let _one_at_a_time = reserve.filling.lock().await;
        if reserve.wants_another() {
            reserve.add(self.acquire(pool).await?.detach());
        }
        Ok(())
    }

    /// Takes a connection for the owner of a run: one that is free, or else one of the reserve.
    #[cfg(feature = "postgres")]
    pub(in crate::store) async fn take_for_owner(&self) -> Result<Lent<'_, DB>, Error> {
        let Some(reserve) = &self.reserve else { return self.take().await };
        let taken = async {
            match &self.source {
                Source::Own(own) => match race(own.permits.acquire(), reserve.take(self.patience)).await {
                    First::Left(permit) => own.lend(permit.map_err(|_| Error::PoolClosed)?, self.patience).await,
                    First::Right(answer) => answer,
                },
                Source::Pool(pool) => match self.acquire_free(pool).await {
                    Some(answer) => answer.map(|connection| self.lend(connection)),
                    None => reserve.take(self.patience).await,
                },
            }
        };
        match timeout(self.patience, taken).await {
            // The server may have no room for one more connection: one of the others may become free.
            Ok(Err(Error::Database(_) | Error::PoolTimedOut)) => self.take().await,
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
        match race(&mut acquired, self.probe(pool)).await {
            First::Left(answer) => answer,
            First::Right(probed) => {
                probed?;
                loop {
                    if let Ok(answer) = timeout(PROBE_AFTER, &mut acquired).await {
                        return answer;
                    }
                    // Once it has begun to connect, sqlx looks no more at what comes back to the pool, even if the server
                    // has no room for another connection.
                    if pool.num_idle() > 0
                        && let Ok(First::Left(answer) | First::Right(answer)) =
                            timeout(PROBE_AFTER, race(&mut acquired, pool.acquire())).await
                    {
                        return answer;
                    }
                }
            }
        }
    }

    /// Asks whether the server can be reached: once a second for all who wait, and on no connection that owners use.
    async fn probe(&self, pool: &Pool<DB>) -> Result<(), Error> {
        // A file is there, or the pool tells.
        if self.reserve.is_none() {
            return Ok(());
        }
        let mut last = self.probe.lock().await;
        let probe = match *last {
            Some(probe) if probe.at.elapsed() < PROBE_IS_GOOD => probe,
            _ => {
                let fault = match timeout(self.patience, pool.connect_options().connect()).await {
                    Ok(Err(Error::Io(error))) => Some(error.kind()),
                    // Any other refusal is of one more connection, which the pool does not need.
                    _ => None,
                };
                *last.insert(Probe { at: Instant::now(), fault })
            }
        };
        probe.fault.map_or(Ok(()), |kind| Err(Error::Io(kind.into())))
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
        self.options.connect().await.map(Rested::new)
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
    Reserve { rested: Rested<DB::Connection>, reserve: &'a Reserve<DB>, place: Place<'a> },
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
            Self::Reserve { rested, reserve, place } => reserve.put(rested, place),
            Self::Pool(mut lent) => lent.is_sound = true,
        }
    }
}

impl<DB: Database> Deref for Lent<'_, DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Own { rested, .. } | Self::Reserve { rested, .. } => &rested.connection,
            Self::Pool(lent) => &lent.connection,
        }
    }
}

impl<DB: Database> DerefMut for Lent<'_, DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Own { rested, .. } | Self::Reserve { rested, .. } => &mut rested.connection,
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
    async fn owners_take_what_is_free_or_else_one_of_the_reserve() {
        let connections = connections(Duration::from_secs(60));
        let mut first = connections.take().await.expect("the only one");
        mark(&mut first).await;
        let mut reserve = connections.take_for_owner().await.expect("the reserve");
        assert_eq!(number(&mut reserve).await, 0);
        let mut grown = connections.take_for_owner().await.expect("a second one of the reserve");
        assert_eq!(number(&mut grown).await, 0);
        first.give_back();
        assert_eq!(number(&mut connections.take_for_owner().await.expect("what is free")).await, 1);
    }
}
