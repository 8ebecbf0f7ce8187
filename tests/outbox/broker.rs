//! A broker in memory, which does what it is told to each message.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use idempotent_runtime::outbox::{OutboxMessage, PublishError, Publisher};
use idempotent_tests::wait::wait_for;

/// What the broker does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Confirm,
    /// It takes the message, and its confirmation is lost.
    TakeOnly,
    Retry,
    Permanent,
    /// It answers neither for this message nor for those behind it.
    Silence,
    Hang,
    Panic,
}

type Judge = Box<dyn Fn(&OutboxMessage) -> Deed + Send>;

#[derive(Clone)]
pub(crate) struct Broker(Arc<State>);

struct State {
    arrived: Mutex<Vec<OutboxMessage>>,
    judge: Mutex<Judge>,
    calls: AtomicUsize,
    dropped: AtomicUsize,
}

impl Broker {
    /// One that confirms everything.
    pub(crate) fn new() -> Self {
        let judge: Judge = Box::new(|_| Deed::Confirm);
        Self(Arc::new(State {
            arrived: Mutex::default(),
            judge: Mutex::new(judge),
            calls: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn that(judge: impl Fn(&OutboxMessage) -> Deed + Send + 'static) -> Self {
        let broker = Self::new();
        broker.now(judge);
        broker
    }

    /// From now on it does this.
    pub(crate) fn now(&self, judge: impl Fn(&OutboxMessage) -> Deed + Send + 'static) {
        *self.0.judge.lock().unwrap() = Box::new(judge);
    }

    /// How often it was called.
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// How many calls were broken off.
    pub(crate) fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::SeqCst)
    }

    /// All that has arrived, in this order.
    pub(crate) fn arrived(&self) -> Vec<OutboxMessage> {
        self.0.arrived.lock().unwrap().clone()
    }

    /// What has arrived, as text.
    pub(crate) fn payloads(&self) -> Vec<String> {
        self.arrived().iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
    }

    pub(crate) async fn arrivals(&self, number: usize) {
        wait_for("arrivals", async || self.arrived().len() >= number).await;
    }
}

/// Counts calls that are dropped before their end.
struct Call<'a>(&'a AtomicUsize, bool);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Publisher for Broker {
    async fn publish(&self, batch: &[OutboxMessage]) -> Vec<Result<(), PublishError>> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let mut call = Call(&self.0.dropped, false);
        let keys: Vec<_> = batch.iter().filter_map(|message| message.key.as_ref()).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "two messages of a key in a batch");
        let mut answers = Vec::new();
        for message in batch {
            let deed = (self.0.judge.lock().unwrap())(message);
            if matches!(deed, Deed::Confirm | Deed::TakeOnly) {
                self.0.arrived.lock().unwrap().push(message.clone());
            }
            match deed {
                Deed::Confirm => answers.push(Ok(())),
                Deed::TakeOnly => answers.push(Err(PublishError::Retry("the confirmation is lost".into()))),
                Deed::Retry => answers.push(Err(PublishError::Retry("away".into()))),
                Deed::Permanent => answers.push(Err(PublishError::Permanent("é".repeat(4 * 1024).into()))),
                Deed::Silence => break,
                Deed::Hang => std::future::pending::<()>().await,
                Deed::Panic => panic!("a publisher that panics"),
            }
        }
        call.1 = true;
        answers
    }
}

/// The first arrival of each message, by key; a second one has to be the same.
pub(crate) fn first_arrivals(arrived: &[OutboxMessage]) -> BTreeMap<String, Vec<String>> {
    let mut known: HashMap<&str, &OutboxMessage> = HashMap::new();
    let mut first: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in arrived {
        if let Some(earlier) = known.insert(&message.id, message) {
            assert_eq!(earlier, message, "two messages with one id");
            continue;
        }
        let text = String::from_utf8(message.payload.to_vec()).unwrap();
        first.entry(message.key.clone().unwrap_or_default()).or_default().push(text);
    }
    first
}
