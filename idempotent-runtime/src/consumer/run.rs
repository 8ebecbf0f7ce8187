//! The loop of a consumer: pulls deliveries, works several off at a time, and drains.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_core::Stream;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    delivery::{BoxError, Delivery, Message},
    handle::{Verdict, given_back, keep_visible},
    inbox::Inbox,
    settled::{Dead, Settled},
};
use crate::{
    Execution, StoreError,
    engine::{LONGEST, events},
    install::handed_on,
    store::{BoxFuture, DeadLetter, Store},
};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::{InTransaction, store::transactional::Transactional};

/// The pause between two looks for dead letters that are to be worked off again.
const LOOK_FOR_REPLAYS: Duration = Duration::from_secs(1);

/// The most of these at a time.
const MAX_REPLAYS: usize = 16;

/// The time that the ends of broken off runs may take.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The bounds of [`Inbox::run`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The number of handlers that run at a time.
    pub concurrency: usize,
    /// The time that running handlers have to end after the shutdown. What takes longer is broken off.
    pub drain: Duration,
}

impl Limits {
    /// So many handlers at a time, which have half a minute to end after the shutdown.
    #[must_use]
    pub const fn new(concurrency: usize) -> Self {
        Self { concurrency, drain: Duration::from_secs(30) }
    }
}

/// The ends of the deliveries of [`Inbox::run`], counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// [`Settled::Done`].
    pub done: u64,
    /// [`Settled::Duplicate`].
    pub duplicates: u64,
    /// [`Settled::Busy`].
    pub busy: u64,
    /// [`Settled::Retried`], also where it was retried in place.
    pub retried: u64,
    /// [`Settled::Dead`].
    pub dead: u64,
    /// [`Settled::NotSettled`].
    pub not_settled: u64,
    /// Left to the broker by the shutdown while no run of theirs was under way: given back, or dropped where they have a partition.
    pub given_back: u64,
    /// Broken off by the shutdown.
    pub broken_off: u64,
}

impl Summary {
    const fn count(&mut self, settled: &Settled) {
        *match settled {
            Settled::Done => &mut self.done,
            Settled::Duplicate => &mut self.duplicates,
            Settled::Busy { .. } => &mut self.busy,
            Settled::Retried { .. } => &mut self.retried,
            Settled::Dead(_) => &mut self.dead,
            Settled::NotSettled(_) => &mut self.not_settled,
        } += 1;
    }
}

/// Runs a message by the handler of a loop.
trait Work<E>: Send + Sync + 'static {
    fn judge<'a, D: Delivery>(
        &'a self,
        inbox: &'a Inbox<E>,
        delivery: &'a D,
        is_over: &'a AtomicBool,
    ) -> impl Future<Output = Verdict> + Send + 'a;
}

/// A handler whose effects are anywhere.
struct Outside<H>(H);

impl<E, H> Work<E> for Outside<H>
where
    E: Display + Send + Sync + 'static,
    H: for<'m> Fn(Message<'m>, Execution) -> BoxFuture<'m, Result<(), E>> + Send + Sync + 'static,
{
    async fn judge<'a, D: Delivery>(
        &'a self,
        inbox: &'a Inbox<E>,
        delivery: &'a D,
        is_over: &'a AtomicBool,
    ) -> Verdict {
        inbox.judge(delivery, async |message, run| (self.0)(message, run).await, is_over).await
    }
}

/// A handler whose effects are in the store's database.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
struct Inside<H, DB: sqlx::Database> {
    pool: sqlx::Pool<DB>,
    handler: H,
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl<E, H, DB> Work<E> for Inside<H, DB>
where
    E: Display + Send + Sync + 'static,
    DB: crate::TransactionDatabase,
    H: for<'m> Fn(InTransaction<'m, 'm, DB>, Message<'m>, Execution) -> BoxFuture<'m, Result<(), E>>
        + Send
        + Sync
        + 'static,
{
    async fn judge<'a, D: Delivery>(
        &'a self,
        inbox: &'a Inbox<E>,
        delivery: &'a D,
        is_over: &'a AtomicBool,
    ) -> Verdict {
        inbox
            .judge_in(
                &self.pool,
                delivery,
                |transaction, message, run| (self.handler)(InTransaction::of(transaction.0), message, run),
                is_over,
            )
            .await
    }
}

impl<E: Display + Send + Sync + 'static> Inbox<E> {
    /// Works deliveries off until they end or `shutdown` does, and tells what became of them. Effects are anywhere, as with
    /// [`handle`](Self::handle).
    ///
    /// Messages of one [partition](Message::partition) run one after the other, in the order in which they came. One that
    /// fails stays ours, is extended, and runs again in place; those behind it wait, and other partitions go on. A message
    /// without a partition goes back to the broker. Dead letters that are [replayed](Self::replay) run beside the
    /// deliveries.
    ///
    /// The broker limits how many deliveries are held, by its prefetch: this takes them as they come. A stream that has lost its
    /// connection should connect again, and not end: at its end, what it has handed out is worked off first, with all its backoffs.
    ///
    /// The shutdown takes no further delivery, gives back what has not begun, lets handlers end within
    /// [`Limits::drain`], and breaks off those that do not. These are neither acknowledged nor counted. What has a partition and
    /// has not begun is dropped, as they are: given back one by one, messages would change places. The broker has them again when
    /// the connection ends, so end it.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, and on one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the handlers are, as with [`handle`](Self::handle).
    pub async fn run<D: Delivery>(
        &self,
        deliveries: impl Stream<Item = D>,
        limits: Limits,
        shutdown: impl Future<Output = ()>,
        handler: impl for<'m> Fn(Message<'m>, Execution) -> BoxFuture<'m, Result<(), E>> + Send + Sync + 'static,
    ) -> Summary {
        // Boxed: it is large, and would be part of the caller's future.
        Box::pin(Loop::new(self.clone(), Outside(handler), limits).run(deliveries, shutdown)).await
    }

    /// Works deliveries off as [`run`](Self::run) does, by effects in the store's database, as with
    /// [`handle_in`](Self::handle_in). On SQLite one handler of a file runs at a time, whatever the limit says.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub async fn run_in<DB, D>(
        &self,
        pool: &sqlx::Pool<DB>,
        deliveries: impl Stream<Item = D>,
        limits: Limits,
        shutdown: impl Future<Output = ()>,
        handler: impl for<'m> Fn(InTransaction<'m, 'm, DB>, Message<'m>, Execution) -> BoxFuture<'m, Result<(), E>>
        + Send
        + Sync
        + 'static,
    ) -> Summary
    where
        DB: crate::TransactionDatabase,
        D: Delivery,
    {
        let store = &self.shared.idempotency.shared.store;
        // One runs at a time: others would be taken from the broker to wait here.
        let is_exclusive = store.transactional().is_some_and(Transactional::is_exclusive);
        let limits = if is_exclusive { Limits { concurrency: 1, ..limits } } else { limits };
        let work = Inside { pool: pool.clone(), handler };
        Box::pin(Loop::new(self.clone(), work, limits).run(deliveries, shutdown)).await
    }
}

/// The end of a task.
struct TaskEnd {
    /// Its number among the tasks of its partition.
    partition: Option<(String, u64)>,
    /// The dead letter that it was about.
    letter: Option<i64>,
    /// The number of tries in place after the first.
    retried: u64,
    /// `None` if it was given back before it began.
    settled: Option<Settled>,
}

/// The parts that all tasks share.
struct Worker<E, W> {
    inbox: Inbox<E>,
    work: W,
    slots: Arc<Semaphore>,
    is_draining: watch::Receiver<bool>,
    /// Set when the drain's time is up: what is dropped from then on is not counted.
    is_over: AtomicBool,
}

struct Loop<E, W> {
    worker: Arc<Worker<E, W>>,
    drain: watch::Sender<bool>,
    limits: Limits,
    tasks: JoinSet<TaskEnd>,
    /// The last delivery of each partition, by its number, with what tells that it has ended.
    last: HashMap<String, (u64, Option<oneshot::Receiver<()>>)>,
    taken: u64,
    /// The dead letters that are being worked off.
    letters: HashSet<i64>,
    summary: Summary,
}

impl<E, W> Loop<E, W>
where
    E: Display + Send + Sync + 'static,
    W: Work<E>,
{
    fn new(inbox: Inbox<E>, work: W, limits: Limits) -> Self {
        let (drain, is_draining) = watch::channel(false);
        let slots = Arc::new(Semaphore::new(limits.concurrency.max(1)));
        let (tasks, summary) = (JoinSet::new(), Summary::default());
        let (last, letters) = (HashMap::new(), HashSet::new());
        Self {
            worker: Arc::new(Worker { inbox, work, slots, is_draining, is_over: AtomicBool::new(false) }),
            drain,
            limits,
            tasks,
            last,
            taken: 0,
            letters,
            summary,
        }
    }

    async fn run<D: Delivery>(
        mut self,
        deliveries: impl Stream<Item = D>,
        shutdown: impl Future<Output = ()>,
    ) -> Summary {
        let (worker, replayed) = (Arc::clone(&self.worker), AtomicI64::new(0));
        let (mut deliveries, mut shutdown) = (pin!(deliveries), pin!(shutdown));
        let (mut replays, mut slot) = (pin!(look_for_replays(&worker.inbox, &replayed)), pin!(worker.permit()));
        let mut permit = None;
        loop {
            let next = poll_fn(|cx| {
                if shutdown.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Next::Shutdown);
                }
                if let Poll::Ready(Some(end)) = self.tasks.poll_join_next(cx) {
                    return Poll::Ready(Next::Ended(end));
                }
                if let Poll::Ready(letters) = replays.as_mut().poll(cx) {
                    return Poll::Ready(Next::Replays(letters));
                }
                if permit.is_none() {
                    permit = match slot.as_mut().poll(cx) {
                        Poll::Ready(ours) => Some(ours),
                        // A delivery is taken only when a handler can begin: until then it is the broker's.
                        Poll::Pending => return Poll::Pending,
                    };
                    slot.set(worker.permit());
                }
                let next = deliveries.as_mut().poll_next(cx).map(|next| next.map_or(Next::End, Next::Delivery));
                if next.is_pending() {
                    // For one that is tried again, or replayed.
                    permit = None;
                }
                next
            });
            match next.await {
                Next::Shutdown => break,
                Next::Ended(end) => self.ended(end),
                Next::Replays(letters) => {
                    for letter in letters {
                        self.replay(letter);
                    }
                    replays.set(look_for_replays(&worker.inbox, &replayed));
                }
                Next::Delivery(delivery) => self.take(delivery, permit.take()),
                Next::End => {
                    drop(permit.take());
                    self.finish(shutdown).await;
                    break;
                }
            }
        }
        self.shut_down().await
    }

    /// Starts a delivery. One of a partition waits for the one before it.
    fn take<D: Delivery>(&mut self, delivery: D, permit: Option<OwnedSemaphorePermit>) {
        let worker = Arc::clone(&self.worker);
        let Some(partition) = delivery.message().partition.map(str::to_owned) else {
            self.tasks.spawn(handed_on(async move { worker.deliver(delivery, permit, None).await }));
            return;
        };
        self.taken += 1;
        let number = self.taken;
        let (ended, has_ended) = oneshot::channel();
        let before = self.last.insert(partition.clone(), (number, Some(has_ended))).and_then(|(_, before)| before);
        // One that waits needs no slot.
        let permit = permit.filter(|_| before.is_none());
        self.tasks.spawn(handed_on(async move {
            let end = worker.deliver(delivery, permit, before).await;
            drop(ended);
            TaskEnd { partition: Some((partition, number)), ..end }
        }));
    }

    /// Works a dead letter off once more, unless that is under way.
    fn replay(&mut self, letter: Letter) {
        let id = letter.dead.id;
        if self.letters.insert(id) {
            let worker = Arc::clone(&self.worker);
            self.tasks.spawn(handed_on(async move {
                let end = worker.deliver(letter, None, None).await;
                TaskEnd { letter: Some(id), ..end }
            }));
        }
    }

    fn ended(&mut self, end: Result<TaskEnd, JoinError>) {
        let Ok(TaskEnd { partition, letter, retried, settled }) = end else {
            self.summary.not_settled += 1;
            return;
        };
        self.summary.retried += retried;
        match &settled {
            Some(settled) => self.summary.count(settled),
            None => self.summary.given_back += 1,
        }
        if let Some(letter) = letter {
            self.letters.remove(&letter);
        }
        if let Some((partition, number)) = partition
            && self.last.get(&partition).is_some_and(|(last, _)| *last == number)
        {
            self.last.remove(&partition);
        }
    }

    /// Waits until all that was taken is settled, or the shutdown comes.
    async fn finish(&mut self, mut shutdown: Pin<&mut impl Future<Output = ()>>) {
        loop {
            let next = poll_fn(|cx| {
                if shutdown.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                self.tasks.poll_join_next(cx)
            });
            match next.await {
                Some(end) => self.ended(end),
                None => return,
            }
        }
    }

    async fn shut_down(mut self) -> Summary {
        let deadline = Instant::now() + self.limits.drain.min(LONGEST);
        self.drain.send_replace(true);
        while let Ok(Some(end)) = timeout_at(deadline, self.tasks.join_next()).await {
            self.ended(end);
        }
        let broken_off = self.tasks.len();
        if broken_off > 0 {
            self.summary.broken_off += broken_off as u64;
            self.worker.is_over.store(true, Ordering::Release);
            // One that keeps its thread cannot be broken off.
            let _ = timeout(ENDS_WITHIN, self.tasks.shutdown()).await;
            // Their records say so by then.
            let _ = timeout(ENDS_WITHIN, self.worker.inbox.shared.idempotency.shared.runs.none()).await;
        }
        self.summary
    }
}

/// The next event of a loop.
enum Next<D> {
    Shutdown,
    Ended(Result<TaskEnd, JoinError>),
    Replays(Vec<Letter>),
    Delivery(D),
    /// There are no more deliveries.
    End,
}

impl<E, W> Worker<E, W> {
    async fn permit(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.slots).acquire_owned().await {
            Ok(permit) => permit,
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

impl<E, W> Worker<E, W>
where
    E: Display + Send + Sync + 'static,
    W: Work<E>,
{
    /// Works a delivery off after the one `before` it has ended, in place again and again where it has a partition. Until
    /// then it is kept ours.
    async fn deliver<D: Delivery>(
        &self,
        delivery: D,
        mut permit: Option<OwnedSemaphorePermit>,
        before: Option<oneshot::Receiver<()>>,
    ) -> TaskEnd {
        let message = delivery.message();
        let is_in_order = message.partition.is_some() && message.letter.is_none();
        let (lease, mut draining) = (self.inbox.shared.operation.lease, self.is_draining.clone());
        let mut retried = 0;
        if let Some(before) = before {
            // An error says the same: it has ended.
            let _ = unless_draining(&mut draining, extended(&delivery, lease, before)).await;
        }
        loop {
            let slot = match permit.take() {
                Some(slot) => slot,
                None => match unless_draining(&mut draining, extended(&delivery, lease, self.permit())).await {
                    Some(slot) => slot,
                    None => break,
                },
            };
            if *draining.borrow() {
                break;
            }
            let verdict = self.work.judge(&self.inbox, &delivery, &self.is_over).await;
            // Others may run while this one waits for its next turn.
            drop(slot);
            let Some(after) = verdict.retry_after().filter(|_| is_in_order) else {
                let settled = Some(self.inbox.settle(delivery, verdict).await);
                return TaskEnd { partition: None, letter: None, retried, settled };
            };
            retried += u64::from(matches!(verdict, Verdict::Retried { .. }));
            if unless_draining(&mut draining, extended(&delivery, lease, sleep(after))).await.is_none() {
                break;
            }
        }
        // One of a partition is dropped, and not given back: the broker would deliver it before the one that still runs, or behind
        // those that it has sent meanwhile. When the connection ends, it has all of them again in their order.
        if !is_in_order {
            give_back(&self.inbox, delivery).await;
        }
        TaskEnd { partition: None, letter: None, retried, settled: None }
    }
}

/// Waits for something, and keeps a delivery ours meanwhile.
async fn extended<D: Delivery, T>(delivery: &D, lease: Duration, wait: impl Future<Output = T>) -> T {
    let (mut wait, mut extension) = (pin!(wait), pin!(keep_visible(delivery, lease)));
    poll_fn(|cx| {
        let _: Poll<()> = extension.as_mut().poll(cx);
        wait.as_mut().poll(cx)
    })
    .await
}

/// Waits for something, unless the drain begins.
async fn unless_draining<T>(draining: &mut watch::Receiver<bool>, wait: impl Future<Output = T>) -> Option<T> {
    let mut drains = pin!(draining.wait_for(|is_draining| *is_draining));
    let mut wait = pin!(wait);
    poll_fn(|cx| {
        if drains.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        wait.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Gives a delivery back that has not begun.
async fn give_back<E, D: Delivery>(inbox: &Inbox<E>, delivery: D) {
    if given_back(inbox.shared.operation.lease, delivery, Duration::ZERO).await.is_err() {
        events::delivery_not_settled(&inbox.shared.operation.name, "given-back");
    }
}

/// Waits a moment, and then looks for dead letters that are to be worked off again, from after the last ones on. Never ends where
/// the store keeps none.
async fn look_for_replays<E>(inbox: &Inbox<E>, after: &AtomicI64) -> Vec<Letter> {
    let store = &inbox.shared.idempotency.shared.store;
    loop {
        sleep(LOOK_FOR_REPLAYS).await;
        let Some(letters) = store.dead_letters() else { return std::future::pending().await };
        match letters.replaying(&inbox.shared.letters_of, after.load(Ordering::Relaxed), MAX_REPLAYS).await {
            Ok(found) => {
                // From the first one on again after the last: some may fail for long, and others are behind them.
                let last = found.last().filter(|_| found.len() == MAX_REPLAYS);
                after.store(last.map_or(0, |letter| letter.id), Ordering::Relaxed);
                if !found.is_empty() {
                    return found.into_iter().map(|letter| Letter::new(letter, Arc::clone(store))).collect();
                }
            }
            Err(error) => events::store_failed(&inbox.shared.operation.name, &error),
        }
    }
}

/// A dead letter that is worked off again: the store is its broker.
struct Letter {
    dead: DeadLetter,
    headers: Vec<(String, String)>,
    store: Arc<dyn Store>,
}

impl Letter {
    fn new(letter: DeadLetter, store: Arc<dyn Store>) -> Self {
        let headers = letter.headers.as_deref().and_then(|headers| serde_json::from_str(headers).ok());
        Self { dead: letter, headers: headers.unwrap_or_default(), store }
    }
}

impl Delivery for Letter {
    fn message(&self) -> Message<'_> {
        let DeadLetter { message_id, payload, kind, partition, .. } = &self.dead;
        let message = Message::new(message_id.as_deref(), payload.as_deref().unwrap_or_default())
            .with_kind(kind.as_deref())
            .with_partition(partition.as_deref())
            .with_headers(&self.headers)
            .sent_again(true);
        Message { letter: Some(&self.dead), ..message }
    }

    async fn ack(self) -> Result<(), BoxError> {
        let Some(letters) = self.store.dead_letters() else { return Ok(()) };
        letters.worked_off(&self.dead.operation, self.dead.id).await.map(drop).map_err(StoreError::into)
    }

    /// It stays as it is, and is found again.
    async fn retry(self, _: Duration) -> Result<(), BoxError> {
        Ok(())
    }

    async fn reject(self, _: &Dead) -> Result<(), BoxError> {
        let Some(letters) = self.store.dead_letters() else { return Ok(()) };
        letters.dead_again(&self.dead.operation, self.dead.id).await.map_err(StoreError::into)
    }
}
