//! One delivery: the run of its message, and how it is settled.

use std::{
    fmt::Display,
    future::{Future, pending, poll_fn},
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;

use super::{
    alone::Place,
    delivery::{BoxError, Delivery, Message},
    inbox::{Inbox, InboxShared},
    payload::Payload,
    settled::{Dead, Settled},
};
use crate::{
    Error, Execution, Fingerprint, Outcome, RecordKey, ReleaseErrors,
    engine::{
        self, Prepared, RunEnd, Worked,
        claim::{Claim, RunStage},
        events::{self, About},
        scope::Scope,
    },
    lock::lock,
    readable::{readable, shortened},
    request::arguments::Request,
    store::DeadLetter,
};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::{InTransaction, store::BoxFuture};

/// The longest text of an error that a dead letter keeps, in bytes.
const MAX_ERROR_LEN: usize = 4 * 1024;

/// The decision about a delivery.
pub(super) enum Verdict {
    Done,
    Duplicate,
    Busy {
        after: Duration,
    },
    Retried {
        attempt: u32,
        after: Duration,
    },
    Dead(Dead),
    /// Nobody can say whether it was worked off: it is not acknowledged.
    Unknown {
        error: Error,
        after: Duration,
    },
}

impl Verdict {
    /// The time after which the message may be run again, if it was not worked off.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { after } | Self::Retried { after, .. } | Self::Unknown { after, .. } => Some(*after),
            Self::Done | Self::Duplicate | Self::Dead(_) => None,
        }
    }
}

/// The end of a handler's turn.
enum End<E> {
    Ran(Result<(), E>),
    /// It was not its turn: the message has been run as often as it may.
    Exhausted,
}

impl<E: Display + Send + Sync + 'static> Inbox<E> {
    /// Works a message off by effects anywhere, at least once: a handler whose process is killed runs again. Pass a
    /// [`child_key`](Execution::child_key) of its run on to systems that take one, and make [steps](crate::step) of what must
    /// not be repeated.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use idempotent_runtime::{Idempotency, consumer::{BoxError, Dead, Delivery, Inbox, Message, Settled}};
    /// # struct Received;
    /// # impl Delivery for Received {
    /// #     fn message(&self) -> Message<'_> { Message::new(Some("event-17"), b"{}") }
    /// #     async fn ack(self) -> Result<(), BoxError> { Ok(()) }
    /// #     async fn retry(self, _: Duration) -> Result<(), BoxError> { Ok(()) }
    /// #     async fn reject(self, _: &Dead) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let inbox = Inbox::<std::io::Error>::builder(Idempotency::memory(), "billing", "send-receipt").build()?;
    /// # let received = Received;
    /// let settled = inbox.handle(received, async |message, run| {
    ///     let (_key, _body) = (run.child_key("mail"), message.payload);
    ///     Ok(())
    /// });
    /// assert!(matches!(settled.await, Settled::Done));
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// On a Tokio runtime without timers. A panic of the handler is a run that vanished.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the handler runs, the run is abandoned and the delivery is left to the broker. Dropped after the handler
    /// returned, its end is recorded all the same.
    pub async fn handle<D: Delivery>(
        &self,
        delivery: D,
        handler: impl AsyncFnOnce(Message<'_>, Execution) -> Result<(), E>,
    ) -> Settled {
        let verdict = self.judge(&delivery, handler, &NEVER).await;
        self.settle(delivery, verdict).await
    }

    /// Works a message off by effects in the store's database, exactly once: what the handler writes in the transaction and the
    /// record of the message are committed together, or not at all.
    ///
    /// ```no_run
    /// # use idempotent_runtime::consumer::{Delivery, Inbox, Settled};
    /// # #[cfg(feature = "sqlite")]
    /// async fn book(inbox: &Inbox<sqlx::Error>, pool: &sqlx::SqlitePool, delivery: impl Delivery) -> Settled {
    ///     inbox
    ///         .handle_in(pool, delivery, |tx, message, _| {
    ///             Box::pin(async move {
    ///                 let insert = sqlx::query("INSERT INTO booking (body) VALUES (?1)").bind(message.payload.to_owned());
    ///                 insert.execute(&mut **tx.0).await.map(drop)
    ///             })
    ///         })
    ///         .await
    /// }
    /// ```
    ///
    /// The transaction is as that of [`Call::commit`](crate::Call::commit): READ COMMITTED, and on SQLite exclusive.
    ///
    /// # Panics
    ///
    /// As [`handle`](Self::handle).
    ///
    /// # Cancel safety
    ///
    /// As [`handle`](Self::handle). Dropped while the handler runs, what it wrote is rolled back.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub async fn handle_in<'a, DB, D>(
        &self,
        pool: &sqlx::Pool<DB>,
        delivery: D,
        handler: impl for<'t> FnOnce(InTransaction<'t, 'a, DB>, Message<'t>, Execution) -> BoxFuture<'t, Result<(), E>>
        + Send
        + 'a,
    ) -> Settled
    where
        DB: crate::TransactionDatabase,
        D: Delivery,
    {
        let verdict = self.judge_in(pool, &delivery, handler, &NEVER).await;
        self.settle(delivery, verdict).await
    }

    /// Runs the message of a delivery, if it is to be run. What is dropped while `is_over` is not counted.
    pub(super) async fn judge<D: Delivery>(
        &self,
        delivery: &D,
        handler: impl AsyncFnOnce(Message<'_>, Execution) -> Result<(), E>,
        is_over: &AtomicBool,
    ) -> Verdict {
        let begun = AtomicU32::new(0);
        let handler = Mutex::new(Some(handler));
        let judged = async {
            let mut is_alone = false;
            loop {
                let attempt = match Attempt::new(self, delivery, &begun, is_over, is_alone).await {
                    Ok(attempt) => attempt,
                    Err(verdict) => return verdict,
                };
                let body = async {
                    let turn = match attempt.begin()? {
                        ControlFlow::Continue(turn) => turn,
                        ControlFlow::Break(end) => return Ok(end),
                    };
                    let handler = lock(&handler).take().ok_or(Error::ClaimLost)?;
                    Ok(End::Ran(turn.run(handler(attempt.message, turn.execution())).await))
                };
                let mut body = pin!(Some(body));
                let worked = attempt.call().work(body.as_mut(), |end| attempt.end(end)).await;
                if attempt.is_to_be_alone() {
                    is_alone = true;
                    continue;
                }
                return attempt.verdict(worked).await;
            }
        };
        self.judged(delivery, judged, &begun).await
    }

    /// Runs the message of a delivery in a transaction of its own, if it is to be run.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) async fn judge_in<'a, DB, D>(
        &self,
        pool: &sqlx::Pool<DB>,
        delivery: &D,
        handler: impl for<'t> FnOnce(InTransaction<'t, 'a, DB>, Message<'t>, Execution) -> BoxFuture<'t, Result<(), E>>
        + Send
        + 'a,
        is_over: &AtomicBool,
    ) -> Verdict
    where
        DB: crate::TransactionDatabase,
        D: Delivery,
    {
        let begun = AtomicU32::new(0);
        let handler = Mutex::new(Some(handler));
        let judged = async {
            let mut is_alone = false;
            loop {
                let attempt = match Attempt::new(self, delivery, &begun, is_over, is_alone).await {
                    Ok(attempt) => attempt,
                    Err(verdict) => return verdict,
                };
                let place = Mutex::new(None);
                let transaction = async {
                    let turn = match attempt.begin()? {
                        ControlFlow::Continue(turn) => turn,
                        ControlFlow::Break(end) => return Ok(ControlFlow::Break(end)),
                    };
                    let mut transaction = engine::begin_run(pool).await?;
                    turn.claim.set_stage(RunStage::Claimed);
                    self.shared.check_pool::<DB>(&turn.claim, &mut transaction).await?;
                    *lock(&place) = Some(turn);
                    Ok(ControlFlow::Continue(transaction))
                };
                let (attempt, place, handler) = (&attempt, &place, &handler);
                let work = attempt.call().work_in(
                    transaction,
                    move |transaction| {
                        Box::pin(async move {
                            let (turn, handler) = (lock(place).take(), lock(handler).take());
                            let (Some(turn), Some(handler)) = (turn, handler) else { return End::Exhausted };
                            let transaction = InTransaction::of(transaction.0);
                            End::Ran(turn.run(handler(transaction, attempt.message, turn.execution())).await)
                        })
                    },
                    |end, transaction| attempt.end(end).in_transaction(matches!(end, End::Ran(Ok(()))), transaction),
                );
                let worked = work.await;
                if attempt.is_to_be_alone() {
                    is_alone = true;
                    continue;
                }
                return attempt.verdict(worked).await;
            }
        };
        self.judged(delivery, judged, &begun).await
    }

    /// Polls a run, and keeps its delivery ours meanwhile. One that panicked has vanished.
    async fn judged<D: Delivery>(
        &self,
        delivery: &D,
        judged: impl Future<Output = Verdict>,
        begun: &AtomicU32,
    ) -> Verdict {
        let mut judged = pin!(judged);
        let mut extension = pin!(keep_visible(delivery, self.shared.operation.lease));
        let verdict = poll_fn(|cx| {
            match catch_unwind(AssertUnwindSafe(|| judged.as_mut().poll(cx))) {
                Ok(Poll::Ready(verdict)) => return Poll::Ready(Some(verdict)),
                Ok(Poll::Pending) => {}
                Err(_) => return Poll::Ready(None),
            }
            let _: Poll<()> = extension.as_mut().poll(cx);
            Poll::Pending
        });
        verdict.await.unwrap_or_else(|| {
            let attempt = begun.load(Ordering::Acquire);
            Verdict::Retried { attempt, after: self.shared.backoff.after(attempt.max(1)) }
        })
    }

    /// Tells the broker what became of the message.
    pub(super) async fn settle<D: Delivery>(&self, delivery: D, verdict: Verdict) -> Settled {
        let lease = self.shared.operation.lease;
        let (answer, settled) = match verdict {
            Verdict::Done => (answered(lease, delivery.ack()).await, Settled::Done),
            Verdict::Duplicate => (answered(lease, delivery.ack()).await, Settled::Duplicate),
            Verdict::Busy { after } => (given_back(lease, delivery, after).await, Settled::Busy { after }),
            Verdict::Retried { attempt, after } => {
                (given_back(lease, delivery, after).await, Settled::Retried { attempt, after })
            }
            Verdict::Dead(why) => (answered(lease, delivery.reject(&why)).await, Settled::Dead(why)),
            // Not acknowledged, and given back, so that the broker need not wait for the connection to end.
            Verdict::Unknown { error, after } => {
                (given_back(lease, delivery, after).await, Settled::NotSettled(BoxError::from(error)))
            }
        };
        let settled = match answer {
            Ok(()) => settled,
            Err(error) => {
                events::delivery_not_settled(self.operation(), settled.as_str());
                Settled::NotSettled(error)
            }
        };
        let reason = if let Settled::Dead(why) = &settled { Some(why.as_str()) } else { None };
        events::delivery_settled(self.operation(), settled.as_str(), reason);
        settled
    }
}

/// Waits for the answer of the broker. A client whose connection ends may never have one, and others wait for this delivery: those
/// behind it in its partition, and a drain.
async fn answered(within: Duration, answer: impl Future<Output = Result<(), BoxError>>) -> Result<(), BoxError> {
    tokio::time::timeout(within, answer).await.unwrap_or_else(|_| Err("the broker has not answered in time".into()))
}

/// Gives a delivery back. Where the broker cannot delay, its client may.
pub(super) async fn given_back<D: Delivery>(lease: Duration, delivery: D, after: Duration) -> Result<(), BoxError> {
    answered(lease.saturating_add(after), delivery.retry(after)).await
}

/// For deliveries outside a loop: they are never broken off by a drain.
static NEVER: AtomicBool = AtomicBool::new(false);

/// One try to run a message.
struct Attempt<'a, E> {
    inbox: &'a Arc<InboxShared<E>>,
    message: Message<'a>,
    fingerprint: Fingerprint,
    key: RecordKey,
    /// Taken when the handler begins.
    place: Mutex<Option<Place>>,
    /// The number of the run, once its handler has begun.
    begun: &'a AtomicU32,
    is_over: &'a AtomicBool,
    is_to_be_alone: AtomicBool,
    /// The time for which a message that is given up is refused, where its store keeps no letter.
    refused_for: Duration,
    /// The end of the handler, for the broker.
    ended: Mutex<Option<Verdict>>,
}

impl<'a, E: Display> Attempt<'a, E> {
    /// Identifies the message, and waits for a place; a verdict where it cannot be run.
    async fn new<D: Delivery>(
        inbox: &'a Inbox<E>,
        delivery: &'a D,
        begun: &'a AtomicU32,
        is_over: &'a AtomicBool,
        is_alone: bool,
    ) -> Result<Self, Verdict> {
        let (inbox, message) = (&inbox.shared, delivery.message());
        let (key, fingerprint) = if let Some(letter) = message.letter {
            // What it was claimed by before: the inbox may identify messages in another way by now.
            (format!("{}|{}", letter.operation, letter.key).parse().ok(), Ok(letter.fingerprint))
        } else {
            let id = message.id.filter(|id| !id.is_empty());
            let key = id.and_then(|id| inbox.idempotency.encode_key(&inbox.operation.name, id).ok());
            if key.is_some() && message.payload.len() > inbox.max_payload_len {
                return Err(give_up(inbox, message, key.as_ref(), None, Dead::TooLarge).await);
            }
            (key, inbox.fingerprint(&message))
        };
        let Some(key) = key else { return Err(give_up(inbox, message, None, None, Dead::NoId).await) };
        let fingerprint = match fingerprint {
            Ok(fingerprint) => fingerprint,
            Err(error) => return Err(Verdict::Unknown { error, after: inbox.backoff.longest() }),
        };
        let Some(place) = Place::take(is_alone, Scope::depth() > 0).await else {
            return Err(Verdict::Busy { after: inbox.backoff.longest() });
        };
        let lease = inbox.operation.lease;
        Ok(Self {
            inbox,
            message,
            fingerprint,
            key,
            place: Mutex::new(Some(place)),
            begun,
            is_over,
            is_to_be_alone: AtomicBool::new(false),
            refused_for: lease + delivery.visibility().unwrap_or(lease),
            ended: Mutex::default(),
        })
    }

    /// True if it has to be tried again in a place of its own.
    fn is_to_be_alone(&self) -> bool {
        self.is_to_be_alone.load(Ordering::Acquire)
    }

    fn call(&self) -> engine::Call<ReleaseErrors> {
        let request = Request { fingerprint: self.fingerprint, arguments: None };
        let prepared =
            Prepared { shared: &self.inbox.idempotency.shared, key: self.key.clone(), request, request_id: None };
        engine::Call::new(self.inbox.operation.clone(), Ok(prepared))
    }

    /// The handler's turn; `Break` if it is not to run.
    fn begin(&self) -> Result<ControlFlow<End<E>, Turn<'_>>, Error> {
        let claim = Scope::claim().ok_or(Error::ClaimLost)?;
        // Until the handler begins, a delivery that is given back has used up no attempt.
        claim.set_stage(RunStage::Claimed);
        let (attempt, max) = (claim.attempt(), self.inbox.max_attempts);
        if attempt > max {
            return Ok(ControlFlow::Break(End::Exhausted));
        }
        let place = lock(&self.place).take().ok_or(Error::ClaimLost)?;
        if place.is_too_crowded_for(claim.vanished(), attempt == max) {
            // The claim is given back first: it must not be held while others end.
            self.is_to_be_alone.store(true, Ordering::Release);
            return Err(Error::TooManyWaiters);
        }
        let operation = &self.inbox.operation.name;
        let (begun, is_over, place) = (self.begun, self.is_over, Mutex::new(Some(place)));
        Ok(ControlFlow::Continue(Turn { claim, operation, begun, is_over, place }))
    }

    /// Decides how the run ends, and what the broker is told if that is recorded.
    fn end(&self, end: &End<E>) -> RunEnd {
        let max = self.inbox.max_attempts;
        let attempt = Scope::claim().map_or(1, |claim| claim.attempt());
        let (end, verdict) = match end {
            End::Ran(Ok(())) => (RunEnd::Keep(Outcome::Ok(Bytes::from_static(b"null"))), Verdict::Done),
            End::Ran(Err(error)) if self.inbox.is_permanent(error) => self.dead(Dead::Permanent, attempt, Some(error)),
            End::Ran(Err(error)) if attempt >= max => {
                self.dead(Dead::Exhausted { attempts: attempt }, attempt, Some(error))
            }
            End::Ran(Err(_)) => {
                (RunEnd::Release, Verdict::Retried { attempt, after: self.inbox.backoff.after(attempt) })
            }
            End::Exhausted => self.dead(Dead::Exhausted { attempts: max }, max, None),
        };
        *lock(&self.ended) = Some(verdict);
        end
    }

    fn dead(&self, why: Dead, attempts: u32, error: Option<&E>) -> (RunEnd, Verdict) {
        let mut letter = letter(&self.inbox.letters_of, self.message, self.key.key(), why);
        letter.fingerprint = self.fingerprint;
        letter.attempts = attempts;
        letter.error = error.map(|error| shortened(&error.to_string(), MAX_ERROR_LEN));
        (RunEnd::Dead(Box::new(letter), self.refused_for), Verdict::Dead(why))
    }

    /// Decides what the broker is told.
    async fn verdict(&self, worked: Result<Worked<End<E>>, Error>) -> Verdict {
        let inbox = self.inbox;
        let begun = self.begun.load(Ordering::Acquire);
        let error = match worked {
            Ok(Worked::Ran(_)) => {
                return lock(&self.ended).take().unwrap_or(Verdict::Busy { after: inbox.backoff.after(1) });
            }
            Ok(Worked::Before(Outcome::Dead | Outcome::Exhausted))
                if self.message.is_sent_again && inbox.idempotency.shared.store.dead_letters().is_none() =>
            {
                // The record lives for a while, so that a rejection that got lost is repeated. Then this is its first run.
                return Verdict::Busy { after: self.refused_for };
            }
            Ok(Worked::Before(Outcome::Dead)) => return Verdict::Dead(Dead::Permanent),
            Ok(Worked::Before(Outcome::Exhausted)) => {
                return Verdict::Dead(Dead::Exhausted { attempts: inbox.max_attempts });
            }
            Ok(Worked::Before(_)) => return Verdict::Duplicate,
            Err(error) => error,
        };
        match error {
            Error::InFlight { retry_after } | Error::Suspended { retry_after, .. } => {
                Verdict::Busy { after: retry_after }
            }
            Error::TooManyWaiters => Verdict::Busy { after: inbox.backoff.after(1) },
            Error::Mismatch { .. } => {
                give_up(inbox, self.message, Some(&self.key), Some(self.fingerprint), Dead::Conflict).await
            }
            Error::Store(error) => {
                events::store_failed(&inbox.operation.name, &error);
                // What the handler did was rolled back and is counted, or its end is not on record: acknowledged, another delivery
                // would run again.
                match begun {
                    0 => Verdict::Busy { after: inbox.backoff.after(1) },
                    attempt => Verdict::Retried { attempt, after: inbox.backoff.after(attempt) },
                }
            }
            Error::ClaimLost => Verdict::Busy { after: inbox.backoff.after(begun.max(1)) },
            Error::CommitUnknown(_) => Verdict::Unknown { error, after: inbox.operation.lease },
            error => {
                events::refused(About::Record(&self.key), &error);
                Verdict::Unknown { error, after: inbox.backoff.longest() }
            }
        }
    }
}

/// A handler's turn.
struct Turn<'a> {
    claim: Arc<Claim>,
    operation: &'a str,
    begun: &'a AtomicU32,
    is_over: &'a AtomicBool,
    place: Mutex<Option<Place>>,
}

impl Turn<'_> {
    fn execution(&self) -> Execution {
        Execution::of(Arc::clone(&self.claim))
    }

    /// Runs the handler to its end. One that a drain breaks off is not counted, unless its steps have to be remembered.
    async fn run<R>(&self, handler: impl Future<Output = R>) -> R {
        let mut broken_off = BrokenOff { claim: &self.claim, is_over: self.is_over, has_ended: false };
        self.claim.set_stage(RunStage::Body);
        self.begun.store(self.claim.attempt(), Ordering::Release);
        let _runs = events::HandlerRuns::begin(self.operation, self.claim.attempt());
        let place = lock(&self.place).take().unwrap_or(Place::Inner);
        let output = place.run(handler).await;
        broken_off.has_ended = true;
        output
    }
}

struct BrokenOff<'a> {
    claim: &'a Claim,
    is_over: &'a AtomicBool,
    has_ended: bool,
}

impl Drop for BrokenOff<'_> {
    fn drop(&mut self) {
        let is_broken_off = !self.has_ended && self.is_over.load(Ordering::Acquire) && !std::thread::panicking();
        if is_broken_off && !self.claim.has_steps() {
            self.claim.set_stage(RunStage::Claimed);
        }
    }
}

/// Extends a delivery's visibility at a third of what is shorter, that or the lease. Never ends.
pub(super) async fn keep_visible<D: Delivery>(delivery: &D, lease: Duration) {
    let Some(visibility) = delivery.visibility() else { return pending().await };
    let interval = (visibility.min(lease) / 3).max(Duration::from_millis(1));
    loop {
        tokio::time::sleep(interval).await;
        // If it fails, another consumer gets the message, and waits for this run.
        let _ = tokio::time::timeout(interval, delivery.extend()).await;
    }
}

/// Gives a message up that is not run. It is rejected once its letter is on record.
async fn give_up<E>(
    inbox: &InboxShared<E>,
    message: Message<'_>,
    key: Option<&RecordKey>,
    fingerprint: Option<Fingerprint>,
    why: Dead,
) -> Verdict {
    let Some(letters) = inbox.idempotency.shared.store.dead_letters() else { return Verdict::Dead(why) };
    let mut letter = letter(&inbox.letters_of, message, key.map_or("", RecordKey::key), why);
    letter.fingerprint = match fingerprint {
        Some(fingerprint) => fingerprint,
        None => match Fingerprint::of(&(message.kind, Payload(message.payload))) {
            Ok(fingerprint) => fingerprint,
            Err(error) => return Verdict::Unknown { error: Error::Arguments(error), after: inbox.backoff.longest() },
        },
    };
    match letters.put(&letter).await {
        Ok(()) => Verdict::Dead(why),
        Err(error) => {
            events::store_failed(&inbox.operation.name, &error);
            Verdict::Busy { after: inbox.backoff.after(1) }
        }
    }
}

fn letter(operation: &str, message: Message<'_>, key: &str, why: Dead) -> DeadLetter {
    let fingerprint = Fingerprint::from_bytes([0; Fingerprint::LEN]);
    let mut letter = DeadLetter::new(operation.to_owned(), key.to_owned(), fingerprint, why.as_str().to_owned());
    letter.message_id = message.id.map(readable);
    letter.kind = message.kind.map(readable);
    letter.partition = message.partition.map(readable);
    letter.headers = (!message.headers.is_empty()).then(|| serde_json::to_string(message.headers).ok()).flatten();
    letter.payload = (why != Dead::TooLarge).then(|| Bytes::copy_from_slice(message.payload));
    letter
}

impl<E> InboxShared<E> {
    /// Makes sure, once, that the pool is of the store's database: elsewhere no run could ever be ended.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    async fn check_pool<DB: crate::TransactionDatabase>(
        &self,
        claim: &Claim,
        transaction: &mut sqlx::Transaction<'static, DB>,
    ) -> Result<(), Error> {
        const OTHER: crate::StoreError =
            crate::StoreError::new(crate::StoreErrorKind::Refused, "the pool is of another database than the store");
        if self.is_checked.load(Ordering::Acquire) {
            return Ok(());
        }
        let (Some(token), Some(store)) = (claim.token(), claim.context().store().transactional()) else {
            return Err(Error::ClaimLost);
        };
        if !store.owns(DB::connection(transaction), claim.context().key(), token).await? {
            return Err(OTHER.into());
        }
        self.is_checked.store(true, Ordering::Release);
        Ok(())
    }
}
