//! The work of a relay while it has the lease.
//!
//! ```text
//!  fetch ─▶ queues per key ─▶ a batch ─▶ publish ─▶ confirmed ─▶ delete
//!    ▲                                      │ Retry: the key rests, and is read anew
//!    └──────────────────────────────────────┘ Permanent: parked
//! ```
//!
//! Each of the three is a task, so that the next batch is read, and the one before removed, while one is with the broker. A batch is
//! begun only while the lease is trusted by the monotonic clock. When that is over, all tasks are stopped.
//!
//! Two relays at a time, as after a pause of the first one's process, cost duplicates and no more: each of them hands a message over only
//! after the broker has confirmed all before it that have its key.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Relay,
    lanes::{Lanes, Sent},
    trusted,
};
use crate::{
    engine::events,
    outbox::{
        publisher::{PublishError, Publisher},
        rows::{Lease, OutboxRow},
        wake,
    },
    store::{Nonce, StoreResult},
};

/// The pause between two looks where there was nothing: it grows from the first to the second.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LATER_LOOK: Duration = Duration::from_millis(100);
/// The least time between two looks, however often a commit wakes us.
const LEAST_LOOK: Duration = Duration::from_millis(5);
/// The pause after a batch of which the broker confirmed nothing: it doubles from the first to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// The pause after a fault of the database.
const FAULT_PAUSE: Duration = Duration::from_millis(250);
/// The longest text of an error that is kept, in bytes.
const MAX_ERROR_LEN: usize = 4 * 1024;
/// The time for a last deletion without the lease.
const LAST_WORD: Duration = Duration::from_secs(2);

/// The end of a relay's time as the leader.
#[derive(PartialEq, Eq)]
pub(super) enum Ending {
    ShutDown,
    Lost,
}

/// The end of a task.
enum Done {
    Renewed(Instant, StoreResult<Lease>),
    Fetched(StoreResult<Vec<OutboxRow>>),
    Published(Vec<Sent>, Vec<Result<(), PublishError>>),
    Deleted(Vec<i64>, StoreResult<()>),
    Parked(Vec<(i64, String)>, StoreResult<()>),
}

enum Next {
    ShutDown,
    Woken,
    Time,
    Done(Done),
    /// A task has panicked: it is not known what it was at. All is read anew.
    Broken,
}

#[expect(clippy::struct_excessive_bools, reason = "a task of each kind runs, or it does not")]
pub(super) struct Leader<'r, P> {
    relay: &'r Relay<P>,
    nonce: Nonce,
    /// The time until which the lease is surely ours.
    until: Instant,
    lanes: Lanes,
    tasks: JoinSet<Done>,
    commits: watch::Receiver<()>,
    is_draining: bool,
    is_renewing: bool,
    renew_at: Instant,
    is_fetching: bool,
    /// A commit came while a fetch was under way, which may have missed it.
    is_woken: bool,
    fetch_at: Instant,
    fetched_at: Instant,
    look: Duration,
    publishing: Option<AbortHandle>,
    publish_at: Instant,
    pause: Duration,
    /// The broker has confirmed these.
    confirmed: Vec<i64>,
    /// The broker will never take these.
    refused: Vec<(i64, String)>,
    is_deleting: bool,
    is_parking: bool,
    settle_at: Instant,
}

impl<'r, P: Publisher> Leader<'r, P> {
    /// For a lease that was asked for at `sent`, or after.
    pub(super) fn new(relay: &'r Relay<P>, nonce: Nonce, sent: Instant) -> Self {
        Self {
            relay,
            nonce,
            until: sent + trusted(relay.lease),
            lanes: Lanes::default(),
            tasks: JoinSet::new(),
            commits: wake::commits(),
            is_draining: false,
            is_renewing: false,
            renew_at: sent + relay.lease / 3,
            is_fetching: false,
            is_woken: false,
            fetch_at: sent,
            fetched_at: sent,
            look: FIRST_LOOK,
            publishing: None,
            publish_at: sent,
            pause: FIRST_PAUSE,
            confirmed: Vec::new(),
            refused: Vec::new(),
            is_deleting: false,
            is_parking: false,
            settle_at: sent,
        }
    }

    /// Relays until the lease is lost or the shutdown comes. Then it ends the batch that is with the broker.
    pub(super) async fn run(mut self, mut shutdown: Pin<&mut impl Future<Output = ()>>) -> Ending {
        loop {
            // Before anything is begun: this process may have been stopped for long.
            if Instant::now() >= self.until {
                return self.lost().await;
            }
            self.start();
            if self.is_draining && self.is_idle() {
                return Ending::ShutDown;
            }
            match self.next(shutdown.as_mut()).await {
                Next::ShutDown => self.is_draining = true,
                Next::Woken => self.woken(),
                Next::Time => {}
                Next::Broken => return self.lost().await,
                Next::Done(Done::Renewed(sent, answer)) => {
                    if !self.renewed(sent, answer) {
                        return self.lost().await;
                    }
                }
                Next::Done(done) => self.done(done),
            }
        }
    }

    /// True if nothing is with the broker, and the table says so. No renewal is under way either: it would take the lease again
    /// that is given back next.
    fn is_idle(&self) -> bool {
        self.publishing.is_none()
            && !self.is_renewing
            && self.confirmed.is_empty()
            && self.refused.is_empty()
            && !self.is_deleting
            && !self.is_parking
    }

    /// Stops at once. What the broker has confirmed may be removed whoever has the lease.
    async fn lost(mut self) -> Ending {
        self.tasks.shutdown().await;
        events::relay_lost(self.relay.rows.name());
        if !self.confirmed.is_empty() {
            let _ = timeout(LAST_WORD, self.relay.rows.delete(&self.confirmed)).await;
        }
        // A shutdown comes once.
        if self.is_draining { Ending::ShutDown } else { Ending::Lost }
    }

    /// Begins what can be done now.
    fn start(&mut self) {
        let now = Instant::now();
        if !self.is_renewing && now >= self.renew_at {
            self.renew(now);
        }
        if now >= self.settle_at {
            self.settle();
        }
        if self.is_draining {
            return;
        }
        if self.publishing.is_none() && now >= self.publish_at && self.lanes.ready() > 0 {
            self.publish();
        }
        if !self.is_fetching && now >= self.fetch_at && self.has_room() && !self.lanes.is_tired(now) {
            self.fetch(now);
        }
    }

    fn has_room(&self) -> bool {
        self.lanes.ready() < self.relay.batch * 2
    }

    fn fetch_limit(&self) -> usize {
        self.relay.batch * 4
    }

    fn renew(&mut self, now: Instant) {
        let (rows, nonce, lease) = (Arc::clone(&self.relay.rows), self.nonce, self.relay.lease);
        self.is_renewing = true;
        self.tasks.spawn(async move { Done::Renewed(now, rows.lease(&nonce, lease).await) });
    }

    fn fetch(&mut self, now: Instant) {
        let (rows, limit) = (Arc::clone(&self.relay.rows), self.fetch_limit());
        let (but_rows, but_keys) = self.lanes.left_out(now);
        (self.is_fetching, self.is_woken, self.fetched_at) = (true, false, now);
        self.tasks.spawn(async move { Done::Fetched(rows.fetch(&but_rows, &but_keys, limit).await) });
    }

    fn settle(&mut self) {
        if !self.is_deleting && !self.confirmed.is_empty() {
            let (rows, confirmed) = (Arc::clone(&self.relay.rows), std::mem::take(&mut self.confirmed));
            self.is_deleting = true;
            self.tasks.spawn(async move {
                let answer = rows.delete(&confirmed).await;
                Done::Deleted(confirmed, answer)
            });
        }
        if !self.is_parking && !self.refused.is_empty() {
            let (rows, refused) = (Arc::clone(&self.relay.rows), std::mem::take(&mut self.refused));
            self.is_parking = true;
            self.tasks.spawn(async move {
                let answer = rows.park(&refused).await;
                Done::Parked(refused, answer)
            });
        }
    }

    fn publish(&mut self) {
        let (sent, messages) = self.lanes.batch(self.relay.batch);
        if sent.is_empty() {
            return;
        }
        if self.lanes.is_short() {
            self.fetch_at = self.fetch_at.min(Instant::now());
        }
        let (publisher, limit) = (Arc::clone(&self.relay.publisher), self.relay.time_out());
        let task = self.tasks.spawn(async move {
            let answers = {
                let mut publish = pin!(publisher.publish(&messages));
                // A panic is no answer.
                let unless_it_panics = poll_fn(|cx| {
                    catch_unwind(AssertUnwindSafe(|| publish.as_mut().poll(cx)))
                        .unwrap_or_else(|_| Poll::Ready(Vec::new()))
                });
                timeout(limit, unless_it_panics).await.unwrap_or_default()
            };
            Done::Published(sent, answers)
        });
        self.publishing = Some(task);
    }

    /// The time at which there is something to do, if nothing happens before.
    fn next_time(&self) -> Instant {
        let mut next = self.until;
        let mut at = |time: Instant, if_any: bool| {
            if if_any {
                next = next.min(time);
            }
        };
        at(self.renew_at, !self.is_renewing);
        let may_settle =
            !self.is_deleting && !self.confirmed.is_empty() || !self.is_parking && !self.refused.is_empty();
        at(self.settle_at, may_settle);
        if !self.is_draining {
            at(self.publish_at, self.publishing.is_none() && self.lanes.ready() > 0);
            // Where too many keys rest, one may have rested long enough by then.
            let now = Instant::now();
            let fetch_at = if self.lanes.is_tired(now) { now + LATER_LOOK } else { self.fetch_at };
            at(fetch_at, !self.is_fetching && self.has_room());
        }
        next
    }

    async fn next(&mut self, mut shutdown: Pin<&mut impl Future<Output = ()>>) -> Next {
        let mut time = pin!(sleep_until(self.next_time()));
        let (tasks, is_draining) = (&mut self.tasks, self.is_draining);
        let mut woken = pin!(self.commits.changed());
        poll_fn(|cx| {
            if !is_draining && shutdown.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::ShutDown);
            }
            match tasks.poll_join_next(cx) {
                Poll::Ready(Some(Ok(done))) => return Poll::Ready(Next::Done(done)),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Next::Broken),
                Poll::Ready(None) | Poll::Pending => {}
            }
            if !is_draining && woken.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::Woken);
            }
            time.as_mut().poll(cx).map(|()| Next::Time)
        })
        .await
    }

    fn woken(&mut self) {
        self.is_woken = true;
        self.fetch_at = self.fetch_at.min(self.fetched_at + LEAST_LOOK);
    }

    /// False if the lease is another relay's.
    fn renewed(&mut self, sent: Instant, answer: StoreResult<Lease>) -> bool {
        self.is_renewing = false;
        let lease = self.relay.lease;
        match answer {
            Ok(Lease::Ours(oldest)) => {
                self.until = self.until.max(sent + trusted(lease));
                self.renew_at = sent + lease / 3;
                events::outbox_age(self.relay.rows.name(), oldest.unwrap_or_default());
                true
            }
            Ok(Lease::Others) => false,
            Err(error) => {
                events::relay_failed(self.relay.rows.name(), &error);
                self.renew_at = Instant::now() + (lease / 20).min(FAULT_PAUSE);
                true
            }
        }
    }

    fn done(&mut self, done: Done) {
        let name = self.relay.rows.name();
        let failed = match done {
            Done::Renewed(..) => None,
            Done::Fetched(answer) => {
                self.is_fetching = false;
                answer.map(|rows| self.fetched(rows)).err()
            }
            Done::Published(sent, answers) => {
                self.publishing = None;
                self.published(sent, answers);
                None
            }
            Done::Deleted(rows, answer) => {
                self.is_deleting = false;
                match answer {
                    Ok(()) => {
                        self.lanes.gone(rows);
                        None
                    }
                    Err(error) => {
                        self.confirmed.extend(rows);
                        Some(error)
                    }
                }
            }
            Done::Parked(refused, answer) => {
                self.is_parking = false;
                match answer {
                    Ok(()) => {
                        self.lanes.gone(refused.into_iter().map(|(row, _)| row));
                        None
                    }
                    Err(error) => {
                        self.refused.extend(refused);
                        Some(error)
                    }
                }
            }
        };
        if let Some(error) = failed {
            events::relay_failed(name, &error);
            let later = Instant::now() + FAULT_PAUSE;
            (self.fetch_at, self.settle_at) = (self.fetch_at.max(later), self.settle_at.max(later));
        }
    }

    fn fetched(&mut self, rows: Vec<OutboxRow>) {
        let (is_all, is_none) = (rows.len() < self.fetch_limit(), rows.is_empty());
        self.lanes.add(rows, is_all);
        let now = Instant::now();
        self.look = if is_none { (self.look + LEAST_LOOK).min(LATER_LOOK) } else { FIRST_LOOK };
        self.fetch_at = if !is_all || self.lanes.is_short() {
            now
        } else if self.is_woken {
            self.fetched_at + LEAST_LOOK
        } else {
            now + self.look
        };
    }

    fn published(&mut self, sent: Vec<Sent>, answers: Vec<Result<(), PublishError>>) {
        let (now, mut answers) = (Instant::now(), answers.into_iter());
        let (mut confirmed, mut again, mut refused) = (0, 0, 0);
        for sent in sent {
            match answers.next() {
                Some(Ok(())) => {
                    self.lanes.settled(&sent);
                    self.confirmed.push(sent.seq);
                    confirmed += 1;
                }
                Some(Err(PublishError::Permanent(error))) => {
                    self.lanes.settled(&sent);
                    self.refused.push((sent.seq, text(&error.to_string())));
                    refused += 1;
                }
                Some(Err(PublishError::Retry(_))) | None => {
                    self.lanes.failed(sent, now, &self.relay.backoff);
                    again += 1;
                }
            }
        }
        events::outbox_published(self.relay.rows.name(), confirmed, again, refused);
        if confirmed == 0 && again > 0 {
            self.publish_at = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        } else {
            self.pause = FIRST_PAUSE;
        }
    }
}

/// The text of an error as the table takes it.
fn text(error: &str) -> String {
    let end = (0..=MAX_ERROR_LEN.min(error.len())).rev().find(|&end| error.is_char_boundary(end));
    error.get(..end.unwrap_or_default()).unwrap_or_default().replace('\0', " ")
}
