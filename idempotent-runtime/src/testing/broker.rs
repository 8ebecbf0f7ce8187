//! A message broker that does what a test tells it to.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;

use super::faulty::Gate;
use crate::{
    consumer::{BoxError, Dead, Delivery, Message},
    lock::lock,
};

/// A message that a test sends.
#[derive(Clone)]
pub struct ScriptedMessage {
    /// Its id, `None` for a producer that gives none.
    pub id: Option<String>,
    /// Its payload.
    pub payload: Bytes,
    /// The kind of its payload.
    pub kind: Option<String>,
    /// The part of the messages that has its own order.
    pub partition: Option<String>,
    /// True if an operator has sent it again.
    pub is_sent_again: bool,
}

impl ScriptedMessage {
    /// A message with an id and a payload.
    pub fn new(id: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { id: Some(id.into()), payload: payload.into(), kind: None, partition: None, is_sent_again: false }
    }

    /// Sets what has its own order.
    #[must_use]
    pub fn with_partition(mut self, partition: impl Into<String>) -> Self {
        self.partition = Some(partition.into());
        self
    }
}

/// Ids and payloads are not for logs.
impl fmt::Debug for ScriptedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedMessage").field("is_sent_again", &self.is_sent_again).finish_non_exhaustive()
    }
}

/// A way to settle a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleKind {
    /// [`Delivery::ack`].
    Ack,
    /// [`Delivery::retry`].
    Retry,
    /// [`Delivery::reject`].
    Reject,
    /// [`Delivery::extend`].
    Extend,
    /// Dropped, or its visibility has ended.
    Drop,
}

/// A fault that a settlement meets.
#[derive(Clone, Debug)]
pub enum SettleFault {
    /// The broker does not hear of it: the delivery comes again.
    LostRequest,
    /// The broker does it, and the answer is lost.
    LostReply,
    /// It waits at the gate, and goes on when that opens.
    Hold(Gate),
}

/// A broker in memory. It delivers at once what is given back, and anew what was dropped; its clones are one broker.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use idempotent_runtime::{Idempotency, consumer::{Inbox, Settled}};
/// use idempotent_runtime::testing::{ScriptedBroker, ScriptedMessage};
///
/// let broker = ScriptedBroker::new();
/// broker.send(ScriptedMessage::new("event-17", "{}"));
/// let inbox = Inbox::<std::io::Error>::builder(Idempotency::memory(), "billing", "book").build()?;
/// let delivery = broker.deliver().expect("a message");
/// assert!(matches!(inbox.handle(delivery, async |_, _| Ok(())).await, Settled::Done));
/// assert!(broker.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct ScriptedBroker {
    shared: Arc<Mutex<BrokerState>>,
}

#[derive(Default)]
struct BrokerState {
    queue: VecDeque<(u64, ScriptedMessage, u32)>,
    unsettled: usize,
    next: u64,
    dead: Vec<(ScriptedMessage, Dead)>,
    log: Vec<(Option<String>, SettleKind)>,
    faults: Vec<(SettleKind, SettleFault)>,
    wakers: Vec<Waker>,
    visibility: Option<Duration>,
    is_closed: bool,
}

impl ScriptedBroker {
    /// A broker without messages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time for which a delivery stays its consumer's without a sign of life, on tokio's clock.
    #[must_use]
    pub fn with_visibility(self, visibility: Duration) -> Self {
        self.lock().visibility = Some(visibility);
        self
    }

    fn lock(&self) -> MutexGuard<'_, BrokerState> {
        lock(&self.shared)
    }

    /// Sends a message.
    pub fn send(&self, message: ScriptedMessage) {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        state.queue.push_back((number, message, 0));
        state.wake();
    }

    /// The next settlement of this kind meets this fault.
    pub fn next(&self, kind: SettleKind, fault: SettleFault) {
        self.lock().faults.push((kind, fault));
    }

    /// Hands out the next message, if there is one.
    #[must_use]
    pub fn deliver(&self) -> Option<ScriptedDelivery> {
        let mut state = self.lock();
        let (number, message, deliveries) = state.queue.pop_front()?;
        state.unsettled += 1;
        let visibility = state.visibility;
        drop(state);
        let held = Mutex::new(Some((number, message.clone(), deliveries + 1)));
        let lease = Arc::new(Lease { held, extended: AtomicUsize::new(0) });
        let delivery =
            ScriptedDelivery { broker: self.clone(), message, deliveries: deliveries + 1, lease, visibility };
        delivery.watch();
        Some(delivery)
    }

    /// The deliveries, as a consumer gets them. The stream ends when the broker is [closed](Self::close) and has none left, with
    /// its consumers or itself.
    #[must_use]
    pub fn deliveries(&self) -> ScriptedDeliveries {
        ScriptedDeliveries { broker: self.clone() }
    }

    /// Lets the streams of deliveries end once all messages are settled.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.wake();
    }

    /// True if all messages are settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let state = self.lock();
        state.queue.is_empty() && state.unsettled == 0
    }

    /// The messages that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// The messages that were rejected, with the reasons.
    #[must_use]
    pub fn dead(&self) -> Vec<(ScriptedMessage, Dead)> {
        self.lock().dead.clone()
    }

    /// Counts the times that the broker heard of a settlement of this kind.
    #[must_use]
    pub fn count(&self, kind: SettleKind) -> usize {
        self.lock().log.iter().filter(|(_, of)| *of == kind).count()
    }

    /// The settlements of one message that the broker heard of, in their order.
    #[must_use]
    pub fn settlements(&self, id: &str) -> Vec<SettleKind> {
        self.lock().log.iter().filter(|(of, _)| of.as_deref() == Some(id)).map(|(_, kind)| *kind).collect()
    }
}

impl BrokerState {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    fn settle(&mut self, lease: Option<(u64, ScriptedMessage, u32)>, kind: SettleKind, why: Option<Dead>) {
        let Some((number, message, deliveries)) = lease else { return };
        self.log.push((message.id.clone(), kind));
        self.unsettled -= 1;
        match (kind, why) {
            (SettleKind::Ack | SettleKind::Extend, _) => {}
            (SettleKind::Reject, why) => self.dead.push((message, why.unwrap_or(Dead::Permanent))),
            // Where it was: before all that was sent later.
            (SettleKind::Retry | SettleKind::Drop, _) => {
                let at = self.queue.iter().position(|(other, ..)| *other > number).unwrap_or(self.queue.len());
                self.queue.insert(at, (number, message, deliveries));
            }
        }
        self.wake();
    }
}

/// Messages and faults are many.
impl fmt::Debug for ScriptedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("ScriptedBroker")
            .field("waiting", &state.queue.len())
            .field("unsettled", &state.unsettled)
            .finish_non_exhaustive()
    }
}

/// The deliveries of a [`ScriptedBroker`].
#[derive(Debug)]
pub struct ScriptedDeliveries {
    broker: ScriptedBroker,
}

impl Stream for ScriptedDeliveries {
    type Item = ScriptedDelivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ScriptedDelivery>> {
        if let Some(delivery) = self.broker.deliver() {
            return Poll::Ready(Some(delivery));
        }
        let mut state = self.broker.lock();
        if !state.queue.is_empty() {
            // Sent since the look.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if state.is_closed && state.unsettled == 0 {
            return Poll::Ready(None);
        }
        state.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}

/// A consumer's hold on a message.
#[derive(Debug)]
struct Lease {
    /// Taken by what settles it, or by the end of its visibility.
    held: Mutex<Option<(u64, ScriptedMessage, u32)>>,
    /// The signs of life.
    extended: AtomicUsize,
}

/// A delivery of a [`ScriptedBroker`]. Dropped, its message is delivered again.
#[derive(Debug)]
pub struct ScriptedDelivery {
    broker: ScriptedBroker,
    message: ScriptedMessage,
    deliveries: u32,
    lease: Arc<Lease>,
    visibility: Option<Duration>,
}

impl ScriptedDelivery {
    /// Takes the message back when its visibility ends.
    fn watch(&self) {
        let Some(visibility) = self.visibility else { return };
        let (broker, lease) = (self.broker.clone(), Arc::downgrade(&self.lease));
        drop(tokio::spawn(async move {
            let mut seen = 0;
            loop {
                tokio::time::sleep(visibility).await;
                let Some(lease) = lease.upgrade() else { return };
                let extended = lease.extended.load(Ordering::Relaxed);
                if extended == seen {
                    let taken = lock(&lease.held).take();
                    broker.lock().settle(taken, SettleKind::Drop, None);
                    return;
                }
                seen = extended;
            }
        }));
    }

    async fn settle(self, kind: SettleKind, why: Option<Dead>) -> Result<(), BoxError> {
        let fault = {
            let mut state = self.broker.lock();
            let at = state.faults.iter().position(|(of, _)| *of == kind);
            at.map(|at| state.faults.remove(at).1)
        };
        match fault {
            Some(SettleFault::LostRequest) => return Err("the broker did not hear of it".into()),
            Some(SettleFault::Hold(ref gate)) => gate.pass().await,
            Some(SettleFault::LostReply) | None => {}
        }
        let taken = lock(&self.lease.held).take();
        if taken.is_none() {
            return Err("the delivery is not ours any more".into());
        }
        self.broker.lock().settle(taken, kind, why);
        if let Some(SettleFault::LostReply) = fault {
            return Err("the broker's answer was lost".into());
        }
        Ok(())
    }
}

impl Delivery for ScriptedDelivery {
    fn message(&self) -> Message<'_> {
        let ScriptedMessage { id, payload, kind, partition, is_sent_again } = &self.message;
        Message::new(id.as_deref(), payload)
            .with_kind(kind.as_deref())
            .with_partition(partition.as_deref())
            .sent_again(*is_sent_again)
    }

    fn deliveries(&self) -> Option<u32> {
        Some(self.deliveries)
    }

    fn visibility(&self) -> Option<Duration> {
        self.visibility
    }

    async fn extend(&self) -> Result<(), BoxError> {
        let mut state = self.broker.lock();
        let at = state.faults.iter().position(|(of, _)| *of == SettleKind::Extend);
        if let Some(at) = at {
            state.faults.remove(at);
            return Err("the broker did not hear of it".into());
        }
        if lock(&self.lease.held).is_none() {
            return Err("the delivery is not ours any more".into());
        }
        state.log.push((self.message.id.clone(), SettleKind::Extend));
        self.lease.extended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn ack(self) -> Result<(), BoxError> {
        self.settle(SettleKind::Ack, None).await
    }

    async fn retry(self, _: Duration) -> Result<(), BoxError> {
        self.settle(SettleKind::Retry, None).await
    }

    async fn reject(self, why: &Dead) -> Result<(), BoxError> {
        self.settle(SettleKind::Reject, Some(*why)).await
    }
}

impl Drop for ScriptedDelivery {
    fn drop(&mut self) {
        let taken = lock(&self.lease.held).take();
        self.broker.lock().settle(taken, SettleKind::Drop, None);
    }
}
