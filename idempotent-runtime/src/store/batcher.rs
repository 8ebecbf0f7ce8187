//! Group commit: requests that are pending at the same moment travel together.
//!
//! A request that finds a free lane goes alone, at once and on its caller's task, as if there were no others. One that finds
//! none waits. When a lane becomes free, those that wait leave together, on a task of their own: none of their callers is to
//! take the others along when it goes. No timer waits for company.
//!
//! A request whose caller has gone does not leave. One that has left may have its effect, as always when an answer is lost.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::lock::lock;

/// A request that can travel with others.
pub(super) trait Request: Sized + Send + 'static {
    type Answer: Send + 'static;
    type Store: Send + Sync + 'static;

    /// True if both may be in one batch.
    fn fits(&self, other: &Self) -> bool;

    /// The number of bytes that it has to carry.
    fn weight(&self) -> usize;

    /// Asks the store for all of a batch.
    fn send(store: Arc<Self::Store>, batch: Vec<Self>) -> impl Future<Output = Answers<Self>> + Send;
}

/// The answers to a batch, in its order. One that has none is asked alone.
pub(super) type Answers<R> = Vec<Option<<R as Request>::Answer>>;

/// The lanes, and the limits of a batch.
pub(super) struct Limits {
    pub(super) lanes: usize,
    pub(super) requests: usize,
    /// The most bytes in a batch of several requests.
    pub(super) weight: usize,
    /// The time without a departure after which those that wait leave although no lane is free: the lanes may be stuck.
    pub(super) patience: Duration,
}

/// Requests of one kind, and the lanes on which they leave.
pub(super) struct Batcher<R: Request> {
    queue: Mutex<Queue<R>>,
    limits: Limits,
    store: Weak<R::Store>,
}

struct Queue<R: Request> {
    /// In the order of their numbers.
    waiting: VecDeque<Waiting<R>>,
    free_lanes: usize,
    /// The number of the next request.
    next: u64,
    departures: u64,
}

struct Waiting<R: Request> {
    number: u64,
    request: R,
    answer: oneshot::Sender<Option<R::Answer>>,
    /// Of its caller.
    runtime: Handle,
}

/// The turn of a request.
pub(super) enum Turn<R: Request> {
    /// To be asked by its caller, who keeps the lane, if there is one, until there is an answer.
    Alone(Option<Lane<R>>),
    /// The answer came with those of others.
    Answered(R::Answer),
    /// The time was up. It does not leave any more, or nobody knows what has become of it.
    Late,
}

impl<R: Request> Batcher<R> {
    pub(super) fn new(limits: Limits, store: &Weak<R::Store>) -> Arc<Self> {
        let queue = Queue { waiting: VecDeque::new(), free_lanes: limits.lanes, next: 0, departures: 0 };
        Arc::new(Self { queue: Mutex::new(queue), limits, store: Weak::clone(store) })
    }

    /// Waits for a request's turn, until the deadline. Dropped, the request does not leave, or its answer is lost.
    pub(super) async fn turn(self: &Arc<Self>, deadline: Instant, request: impl FnOnce() -> R) -> Turn<R> {
        let (seat, mut departures, mut answer) = {
            let mut queue = lock(&self.queue);
            if let Some(fewer) = queue.free_lanes.checked_sub(1) {
                queue.free_lanes = fewer;
                return Turn::Alone(Some(Lane(Some(Arc::clone(self)))));
            }
            let Ok(runtime) = Handle::try_current() else { return Turn::Alone(None) };
            let (number, (sender, answer)) = (queue.next, oneshot::channel());
            queue.next += 1;
            queue.waiting.push_back(Waiting { number, request: request(), answer: sender, runtime });
            (Seat { batcher: self, number }, queue.departures, answer)
        };
        loop {
            let next = (Instant::now() + self.limits.patience).min(deadline);
            match timeout_at(next, &mut answer).await {
                Ok(Ok(Some(answer))) => return Turn::Answered(answer),
                // Without an answer, as of a task that panicked, nobody knows what has become of it.
                Ok(Ok(None) | Err(_)) => return Turn::Alone(None),
                Err(_) if next == deadline => return Turn::Late,
                Err(_) => departures = self.depart_if_stuck(seat.number, departures),
            }
        }
    }

    /// Has those that wait leave, if this one is among them and none has left since. Returns the number of departures.
    fn depart_if_stuck(self: &Arc<Self>, number: u64, departures: u64) -> u64 {
        let mut queue = lock(&self.queue);
        if queue.departures == departures && queue.place(number).is_some() {
            let batch = queue.depart(&self.limits);
            let departures = queue.departures;
            drop(queue);
            self.launch(batch, Lane(None));
            return departures;
        }
        queue.departures
    }

    /// Sends a batch on the runtime of the first caller in it, which is driven while that one waits.
    fn launch(self: &Arc<Self>, batch: Vec<Waiting<R>>, lane: Lane<R>) {
        if let Some(first) = batch.first() {
            let runtime = first.runtime.clone();
            runtime.spawn(Arc::clone(self).carry(batch, lane));
        }
    }

    async fn carry(self: Arc<Self>, batch: Vec<Waiting<R>>, _lane: Lane<R>) {
        let (requests, callers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.request, waiting.answer)).unzip();
        let Some(store) = self.store.upgrade() else { return };
        let answers = R::send(store, requests).await;
        for (caller, answer) in callers.into_iter().zip(answers) {
            let _ = caller.send(answer);
        }
    }
}

impl<R: Request> Queue<R> {
    fn place(&self, number: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&number, |waiting| waiting.number).ok()
    }

    /// Those that leave next: the first one, and others as far as they fit. The rest keeps its order.
    fn depart(&mut self, limits: &Limits) -> Vec<Waiting<R>> {
        let (mut batch, mut staying) = (Vec::<Waiting<R>>::new(), Vec::new());
        let mut weight = 0;
        while batch.len() < limits.requests
            && staying.len() < limits.requests
            && let Some(first) = self.waiting.pop_front()
        {
            let heavier = weight + first.request.weight();
            let is_light = batch.is_empty() || heavier <= limits.weight;
            if is_light && batch.iter().all(|waiting| waiting.request.fits(&first.request)) {
                weight = heavier;
                batch.push(first);
            } else {
                staying.push(first);
            }
        }
        staying.into_iter().rev().for_each(|waiting| self.waiting.push_front(waiting));
        self.departures += u64::from(!batch.is_empty());
        batch
    }
}

/// The place in the queue of a caller that waits.
struct Seat<'a, R: Request> {
    batcher: &'a Batcher<R>,
    number: u64,
}

impl<R: Request> Drop for Seat<'_, R> {
    fn drop(&mut self) {
        let mut queue = lock(&self.batcher.queue);
        if let Some(place) = queue.place(self.number) {
            queue.waiting.remove(place);
        }
    }
}

/// A lane in use. Dropped, it goes to those that wait, or is free. One without a batcher is there for one batch only.
pub(super) struct Lane<R: Request>(Option<Arc<Batcher<R>>>);

impl<R: Request> Drop for Lane<R> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<R: Request> Lane<R> {
    /// Leaves the lane to those that wait. The task that then carries them may be the next one of this very thread: it is let
    /// through first, since what follows here may block the thread.
    #[cfg(any(feature = "postgres", test))]
    pub(super) async fn pass(mut self) {
        if self.leave() {
            tokio::task::yield_now().await;
        }
    }

    /// Says whether somebody waited.
    fn leave(&mut self) -> bool {
        let Some(batcher) = self.0.take() else { return false };
        let batch = {
            let mut queue = lock(&batcher.queue);
            let batch = queue.depart(&batcher.limits);
            queue.free_lanes += usize::from(batch.is_empty());
            batch
        };
        if batch.is_empty() {
            return false;
        }
        batcher.launch(batch, Self(Some(Arc::clone(&batcher))));
        true
    }
}

#[cfg(test)]
mod tests;
