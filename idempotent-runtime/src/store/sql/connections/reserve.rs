//! The connections that only owners of runs use.

use std::{
    mem,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::{Connection as _, Database, Error};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    time::{Instant, timeout},
};

use super::{Aging, Lent, Rested, opener::Opener};
use crate::lock::lock;

/// The most connections in reserve. Owners of n runs with a round trip of t can so renew 4 / t times a second: 800 times
/// with 5 ms, enough for 1300 runs with a lease of 5 s.
const MOST: usize = 4;

/// Once an owner has waited this long for the others, one more connection is opened.
const GROW_AFTER: Duration = Duration::from_millis(20);

/// The time between two such openings: where the server has no more room, it is not asked by each owner that waits.
const GROWTH_PAUSE: Duration = Duration::from_millis(250);

/// The time without use after which a connection besides the first is closed.
const IDLE: Duration = Duration::from_secs(60);

pub(in crate::store) struct Reserve<DB: Database> {
    pub(super) opener: Opener<DB>,
    aging: Aging,
    idle: Mutex<Vec<Rested<DB::Connection>>>,
    /// Has a permit for each idle connection.
    free: Semaphore,
    /// Has a permit for each connection that there could be besides those that are there, or are being opened.
    places: Semaphore,
    /// When it last began to grow.
    grown_at: Mutex<Option<Instant>>,
    /// Held by whoever fetches a connection for the reserve from the caller's pool.
    pub(super) filling: AsyncMutex<()>,
}

/// The place of a connection in the reserve.
pub(in crate::store) struct Place<'a>(&'a Semaphore);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

impl<DB: Database> Reserve<DB> {
    pub(super) fn new(opener: Opener<DB>, aging: Aging) -> Self {
        Self {
            opener,
            aging,
            idle: Mutex::default(),
            free: Semaphore::new(0),
            places: Semaphore::new(MOST),
            grown_at: Mutex::default(),
            filling: AsyncMutex::default(),
        }
    }

    fn is_empty(&self) -> bool {
        self.places.available_permits() == MOST
    }

    /// True if there is no connection, or none that is young.
    pub(super) fn wants_another(&self) -> bool {
        let idle = lock(&self.idle);
        let are_old = !idle.is_empty() && idle.iter().all(|rested| rested.born.elapsed() >= self.aging.lifetime);
        are_old || self.is_empty()
    }

    /// Takes a connection in, if there is a place for it.
    pub(super) fn add(&self, connection: DB::Connection) {
        if let Some(place) = self.try_place() {
            self.put(Rested::new(connection), place);
        }
    }

    /// Takes a connection: one that is free, or a new one where there is none at all.
    pub(super) async fn take(self: &Arc<Self>, patience: Duration) -> Result<Lent<'_, DB>, Error> {
        loop {
            if self.is_empty()
                && let Some(place) = self.try_place()
            {
                // Boxed: it is large, and rarely needed.
                let opened = timeout(patience / 2, Box::pin(self.opener.open(patience / 2))).await;
                let connection = opened.unwrap_or(Err(Error::PoolTimedOut))?;
                return Ok(Lent::Reserve { rested: Rested::new(connection), reserve: self, place });
            }
            let mut freed = pin!(self.free.acquire());
            let permit = loop {
                if let Ok(permit) = timeout(GROW_AFTER, &mut freed).await {
                    break Some(permit);
                }
                if self.is_empty() {
                    break None;
                }
                self.grow(patience);
            };
            let Some(permit) = permit else { continue };
            permit.map_err(|_| Error::PoolClosed)?.forget();
            if let Some(lent) = self.alive(patience).await {
                return Ok(lent);
            }
        }
    }

    /// Opens one more connection, if there is a place and the last try was a while ago. On a task of its own: whoever
    /// asks for it may get one of the others before it is open, and those behind need it all the same.
    fn grow(self: &Arc<Self>, patience: Duration) {
        let mut grown_at = lock(&self.grown_at);
        if grown_at.is_some_and(|last| last.elapsed() < GROWTH_PAUSE) || self.places.available_permits() == 0 {
            return;
        }
        *grown_at = Some(Instant::now());
        let reserve = Arc::clone(self);
        tokio::spawn(async move {
            let Some(place) = reserve.try_place() else { return };
            if let Ok(Ok(connection)) = timeout(patience, reserve.opener.open(patience)).await {
                reserve.put(Rested::new(connection), place);
            }
        });
    }

    /// An idle connection that can be used again. The caller has its permit.
    async fn alive(&self, patience: Duration) -> Option<Lent<'_, DB>> {
        let (mut rested, place) = (lock(&self.idle).pop()?, Place(&self.places));
        let is_trusted = rested.idle_since.elapsed() < self.aging.trusted_idle;
        let is_alive =
            is_trusted || timeout(patience / 2, rested.connection.ping()).await.is_ok_and(|answer| answer.is_ok());
        is_alive.then_some(Lent::Reserve { rested, reserve: self, place })
    }

    fn try_place(&self) -> Option<Place<'_>> {
        self.places.try_acquire().ok()?.forget();
        Some(Place(&self.places))
    }

    /// Puts a connection back, which keeps its place.
    pub(super) fn put(&self, mut rested: Rested<DB::Connection>, place: Place<'_>) {
        rested.idle_since = Instant::now();
        lock(&self.idle).push(rested);
        mem::forget(place);
        self.free.add_permits(1);
        self.retire();
    }

    /// Closes connections that are old, or not used any more, as long as another is idle.
    fn retire(&self) {
        let mut idle = lock(&self.idle);
        let is_over =
            |rested: &Rested<_>| rested.born.elapsed() >= self.aging.lifetime || rested.idle_since.elapsed() >= IDLE;
        while idle.len() > 1 && idle.first().is_some_and(is_over) {
            // Without a permit, an owner is about to take it.
            let Ok(permit) = self.free.try_acquire() else { return };
            permit.forget();
            idle.remove(0);
            drop(Place(&self.places));
        }
    }
}
