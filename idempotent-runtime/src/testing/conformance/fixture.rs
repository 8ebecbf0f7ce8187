//! The fixture that a store's author writes.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use crate::{Store, store::BoxFuture, testing::ManualClock};

/// Moves a store's time on.
type Move = Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// A store to be tested: two handles onto the same records, and how its time passes.
pub struct Fixture {
    pub(super) stores: [Arc<dyn Store>; 2],
    tick: Duration,
    clock: Option<ManualClock>,
    moved: Option<Move>,
    kept: Option<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// Two handles that share their records, as independent as they can be: two connections, better two pools.
    ///
    /// Time passes by itself, and edges are tested to 250 ms unless [`tick`](Self::tick) says otherwise.
    #[must_use]
    pub fn new(first: impl Store, second: impl Store) -> Self {
        let stores: [Arc<dyn Store>; 2] = [Arc::new(first), Arc::new(second)];
        Self { stores, tick: Duration::from_millis(250), clock: None, moved: None, kept: None }
    }

    /// The distance from an edge at which the store is asked: longer than a few calls take on a busy machine.
    #[must_use]
    pub fn tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// Both handles go by this clock: edges are tested to the nanosecond, and nothing sleeps.
    #[must_use]
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = Some(clock);
        self.tick(Duration::from_nanos(1))
    }

    /// Time also passes by this, and rules do not wait for it: for a store whose records can be brought nearer to their ends.
    ///
    /// With a [`tick`](Self::tick) of seconds, a busy machine does not come too near to an edge.
    #[must_use]
    pub fn moved(mut self, by: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        self.moved = Some(Box::new(by));
        self
    }

    /// Keeps something until the rule has been checked: a server, a folder.
    #[must_use]
    pub fn keep(mut self, guard: impl Any + Send + Sync) -> Self {
        self.kept = Some(Box::new(guard));
        self
    }

    /// True if time passes only when it is told to.
    pub(super) const fn is_exact(&self) -> bool {
        self.clock.is_some()
    }

    /// The shortest time that is told apart.
    pub(super) const fn shortest(&self) -> Duration {
        self.tick
    }

    /// Lets the store's time pass.
    pub(super) async fn advance(&self, by: Duration) {
        // A store that counts in milliseconds may round an edge up.
        let rounded = by + Duration::from_millis(2);
        match (&self.clock, &self.moved) {
            (Some(clock), _) => clock.advance(by),
            (None, Some(moved)) => moved(rounded).await,
            (None, None) => tokio::time::sleep(rounded).await,
        }
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("stores", &self.stores)
            .field("tick", &self.tick)
            .field("clock", &self.clock)
            .field("moved", &self.moved.is_some())
            .field("kept", &self.kept.is_some())
            .finish()
    }
}
