//! The fixture that a store's author writes.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    Store,
    store::{BoxFuture, transactional::OpenTransaction},
    testing::ManualClock,
};

/// Moves a store's time on.
type Move = Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// A store to be tested: two handles onto the same records, and how its time passes.
pub struct Fixture {
    pub(super) stores: [Arc<dyn Store>; 2],
    tick: Duration,
    clock: Option<ManualClock>,
    moved: Option<Move>,
    transactions: Option<Box<dyn Transactions>>,
    kept: Option<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// Two handles that share their records, as independent as they can be: two connections, better two pools.
    ///
    /// Time passes by itself, and edges are tested to 250 ms unless [`tick`](Self::tick) says otherwise.
    #[must_use]
    pub fn new(first: impl Store, second: impl Store) -> Self {
        let stores: [Arc<dyn Store>; 2] = [Arc::new(first), Arc::new(second)];
        Self { stores, tick: Duration::from_millis(250), clock: None, moved: None, transactions: None, kept: None }
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

    /// Rules begin their transactions by this: a `sqlx::Pool` of the store's database, with two connections or more, or what the
    /// author of another [`Transactional`](crate::store::transactional::Transactional) store writes.
    #[must_use]
    pub fn transactions(mut self, transactions: impl Transactions) -> Self {
        self.transactions = Some(Box::new(transactions));
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

    pub(super) async fn begin(&self) -> Box<dyn BegunTransaction> {
        self.transactions
            .as_ref()
            .expect("a fixture that begins transactions: see `Fixture::transactions`")
            .begin()
            .await
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
            .field("transactions", &self.transactions.is_some())
            .field("kept", &self.kept.is_some())
            .finish()
    }
}

/// The beginning of the transactions of a [`Fixture`].
#[async_trait]
pub trait Transactions: Send + Sync + 'static {
    /// Begins a transaction in which a run may end that was claimed outside, as [`Call::commit`](crate::Call::commit) does.
    async fn begin(&self) -> Box<dyn BegunTransaction>;
}

/// A transaction of a rule. The rule ends it by one of its two methods.
#[async_trait]
pub trait BegunTransaction: OpenTransaction {
    /// Asks for the commit; false if the database says that there is none.
    async fn commit(self: Box<Self>) -> bool;

    /// Takes back what was done in it.
    async fn roll_back(self: Box<Self>);
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod pools {
    use super::{BegunTransaction, OpenTransaction, Transactions, async_trait};
    use crate::{TransactionDatabase, store::transactional::Connection};

    struct Begun<DB: TransactionDatabase>(sqlx::Transaction<'static, DB>);

    #[async_trait]
    impl<DB: TransactionDatabase> Transactions for sqlx::Pool<DB> {
        async fn begin(&self) -> Box<dyn BegunTransaction> {
            Box::new(Begun(self.begin_with(DB::BEGIN_RUN).await.expect("a transaction")))
        }
    }

    impl<DB: TransactionDatabase> OpenTransaction for Begun<DB> {
        fn connection(&mut self) -> Connection<'_> {
            DB::connection(&mut self.0)
        }
    }

    #[async_trait]
    impl<DB: TransactionDatabase> BegunTransaction for Begun<DB> {
        async fn commit(self: Box<Self>) -> bool {
            self.0.commit().await.is_ok()
        }

        async fn roll_back(mut self: Box<Self>) {
            DB::before_rollback(&mut self.0).await;
            self.0.rollback().await.expect("a rollback");
        }
    }
}
