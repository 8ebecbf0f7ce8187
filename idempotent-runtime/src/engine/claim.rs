//! A claim: asking the store for it, holding it, and giving it back.
//!
//! A claim whose reply was lost is asked for again with the same nonce, so that the store recognises it. A claim that no
//! body will use is given back: released, or abandoned again if it took over an abandoned key.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::{background::FinishInBackground, context::CallContext, retry::Backoff, runs::RunGuard};
use crate::{
    lock::lock,
    store::{BoxFuture, ClaimOutcome, ClaimRequest, Nonce, State, StoreError, StoreErrorKind, Token},
};

/// The time that a lease is trusted, counted from when it was asked for: a tenth less than the lease, since clocks run
/// at different rates and schedulers are late.
pub(super) fn trusted(lease: Duration) -> Duration {
    lease.saturating_sub(lease / 10)
}

/// A claim in the hands of its owner.
pub(crate) struct Claim {
    pub(super) context: Arc<CallContext>,
    /// `None` for a run that the store does not know of.
    pub(super) token: Option<Token>,
    pub(super) attempt: u32,
    /// In a transaction of the caller's, where nobody else can take it before that ends.
    in_transaction: bool,
    held: Mutex<Held>,
}

#[derive(Clone, Copy)]
struct Held {
    until: Instant,
    lost: bool,
}

impl Claim {
    pub(super) fn new(context: Arc<CallContext>, token: Option<Token>, attempt: u32, sent: Instant) -> Self {
        let until = sent + trusted(context.request.lease);
        Self { context, token, attempt, in_transaction: false, held: Mutex::new(Held { until, lost: false }) }
    }

    pub(super) fn in_transaction(context: Arc<CallContext>, token: Token, attempt: u32) -> Self {
        Self { in_transaction: true, ..Self::new(context, Some(token), attempt, Instant::now()) }
    }

    /// The fence, where it is known and cannot have been overtaken.
    pub(crate) fn certain_fence(&self) -> Option<u64> {
        self.token.filter(|_| self.in_transaction)?.fence
    }

    /// Tells that the store has renewed the claim until then.
    pub(super) fn renewed(&self, until: Instant) {
        self.held().until = until;
    }

    /// Tells that the store said it is not ours any more.
    pub(super) fn set_lost(&self) {
        self.held().lost = true;
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    /// The time until which the claim is surely ours.
    pub(super) fn until(&self) -> Instant {
        self.held().until
    }

    /// The time until which the claim may be ours. Duplicates are told this one.
    pub(super) fn lease_end(&self) -> Instant {
        let lease = self.context.request.lease;
        self.until() + lease.saturating_sub(trusted(lease))
    }

    /// True once the store said that it is not ours any more.
    pub(super) fn is_lost(&self) -> bool {
        self.held().lost
    }

    pub(crate) fn context(&self) -> &CallContext {
        &self.context
    }

    pub(crate) const fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    pub(crate) const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Gives the claim back: its body did not start.
    pub(super) async fn give_back(&self) {
        if let Some(token) = &self.token {
            end_unstarted(&self.context, token, self.attempt > 1, self.lease_end()).await;
        }
    }
}

/// The least number of tries before the store's failure is the caller's: one lost reply must not be.
const LEAST_TRIES: u32 = 2;
/// The most tries, and the time after which no further try begins: long enough for a connection to be made anew.
const MOST_TRIES: u32 = 5;
const TRY_FOR: Duration = Duration::from_secs(1);

/// The store's reply to a claim.
pub(super) struct ClaimReply {
    pub(super) context: Arc<CallContext>,
    nonce: Nonce,
    /// When the claim was first sent, or before: its lease cannot have begun earlier.
    pub(super) sent: Instant,
    pub(super) outcome: Result<ClaimOutcome, StoreError>,
    run: RunGuard,
}

/// Claims with this nonce, again while the store is unavailable. `sent` is not later than the present.
///
/// Dropped before it is answered, the claim is followed up in the background and given back: its body never started.
pub(super) fn claim(context: &Arc<CallContext>, nonce: Nonce, sent: Instant) -> FinishInBackground<ClaimReply> {
    let context = Arc::clone(context);
    FinishInBackground::new(ask(context, nonce, sent), ClaimReply::give_back)
}

async fn ask(context: Arc<CallContext>, nonce: Nonce, sent: Instant) -> ClaimReply {
    let run = RunGuard::new(&context.shared);
    let request = ClaimRequest { nonce, ..context.request.clone() };
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200));
    let mut tries = 1;
    loop {
        let outcome = context.store().claim(&context.key, &request).await;
        match outcome {
            Err(error)
                if error.kind() == StoreErrorKind::Unavailable
                    && (tries < LEAST_TRIES || tries < MOST_TRIES && sent.elapsed() < TRY_FOR) =>
            {
                tries += 1;
                // Boxed: it is rare, and would make every claim's future large.
                Box::pin(tokio::time::sleep(backoff.pause())).await;
            }
            outcome => return ClaimReply { context, nonce, sent, outcome, run },
        }
    }
}

impl ClaimReply {
    /// Gives back the claim that was granted, or may have been: its body never started.
    pub(super) fn give_back(self) -> BoxFuture<'static, ()> {
        let Self { context, nonce, sent, outcome, run } = self;
        let deadline = sent + context.request.lease;
        match outcome {
            Ok(ClaimOutcome::Claimed { token, attempt }) => Box::pin(async move {
                end_unstarted(&context, &token, attempt > 1, deadline).await;
                drop(run);
            }),
            // No answer is not a no: the claim may have been granted.
            Err(error) if error.kind() == StoreErrorKind::Unavailable => Box::pin(async move {
                let token = Token::new(nonce);
                let took_over = context.request.take_over && may_have_taken_over(&context, deadline).await;
                end_unstarted(&context, &token, took_over, deadline).await;
                drop(run);
            }),
            _ => Box::pin(std::future::ready(())),
        }
    }
}

/// Ends a claim whose body did not start, if it is still ours.
async fn end_unstarted(context: &CallContext, token: &Token, took_over: bool, deadline: Instant) {
    if took_over {
        // The run before it vanished, and the next one must be told so still.
        abandon_until(context, token, deadline).await;
    } else {
        release_until(context, token, deadline).await;
    }
}

/// Looks whether a claim that got no answer may have taken over from a run that vanished.
async fn may_have_taken_over(context: &CallContext, deadline: Instant) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        match context.store().inspect(&context.key).await {
            Ok(record) => {
                return record.is_some_and(|record| {
                    record.attempt > 1 || matches!(record.state, State::Lapsed | State::Abandoned)
                });
            }
            Err(_) if !backoff.sleep_before(deadline).await => return true,
            Err(_) => {}
        }
    }
}

/// The time for which the end of a held key is tried beyond its lease: nobody else takes it, and nobody else ends it.
const HELD_FOR: Duration = Duration::from_secs(60 * 60);

/// The time until which the end of a claim is tried.
pub(super) fn last_try(context: &CallContext, lease_end: Instant) -> Instant {
    if context.request.ttl > ClaimRequest::HELD { lease_end + HELD_FOR } else { lease_end }
}

/// Releases a claim, again while the store fails, until its lease would be over anyway.
pub(super) async fn release_until(context: &CallContext, token: &Token, deadline: Instant) {
    let deadline = last_try(context, deadline);
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    while context.store().release(&context.key, token).await.is_err() {
        if !backoff.sleep_before(deadline).await {
            return;
        }
    }
}

/// Abandons a claim, as persistently.
pub(super) async fn abandon_until(context: &CallContext, token: &Token, deadline: Instant) {
    let deadline = last_try(context, deadline);
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    while context.store().abandon(&context.key, token, context.request.ttl).await.is_err() {
        if !backoff.sleep_before(deadline).await {
            return;
        }
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::{
        future::{pending, ready},
        task::{self, Waker},
    };

    use super::*;
    use crate::{
        Error, Execution, Idempotency, Operation,
        store::memory::MemoryStore,
        testing::{Fault, FaultyStore, Gate, Method},
    };

    /// The caller leaves between the takeover and its reply.
    #[tokio::test]
    async fn a_takeover_that_is_given_back_does_not_hide_the_run_that_vanished() {
        let store = FaultyStore::new(MemoryStore::new());
        let idempotency = Idempotency::new(store.clone());
        let attempt = || {
            let idempotency = idempotency.clone();
            async move {
                let body = async { Ok::<_, Error>(Execution::current().unwrap().attempt()) };
                idempotency.call("charge").key("key").run(body).await
            }
        };
        tokio::select! {
            biased;
            _ = idempotency.call("charge").key("key").run(pending::<Result<u32, Error>>()) => unreachable!(),
            () = ready(()) => {}
        }

        let gate = Gate::new();
        store.next(Method::Claim, [Fault::HoldAfter(gate.clone())]);
        let caller = tokio::spawn(attempt());
        gate.reached(1).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        gate.open();

        assert_eq!(attempt().await.unwrap(), 3, "1 vanished, 2 did not start");
    }

    /// The store hears each try, and the caller no answer. Found by chaos for takeovers: they were released.
    #[tokio::test(start_paused = true)]
    async fn a_claim_without_an_answer_is_given_back_as_what_it_was() {
        for (vanished, expected) in [(false, 1), (true, 3)] {
            let store = FaultyStore::new(MemoryStore::new());
            let idempotency = Idempotency::new(store.clone());
            let attempt = || {
                let body = async { Ok::<_, Error>(Execution::current().unwrap().attempt()) };
                idempotency.call("charge").key("key").run(body)
            };
            if vanished {
                tokio::select! {
                    biased;
                    _ = idempotency.call("charge").key("key").run(pending::<Result<u32, Error>>()) => unreachable!(),
                    () = ready(()) => {}
                }
            }
            store.next(Method::Claim, std::iter::repeat_n(Fault::LOST_REPLY, 5));
            assert!(matches!(attempt().await, Err(Error::Store(_))));
            assert_eq!(attempt().await.unwrap(), expected);
        }
    }

    /// Long enough for a connection to be made anew, and no longer; once more where the first answer took that long.
    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_asked_five_times_or_twice() {
        for (each, tries) in [(Duration::ZERO, MOST_TRIES), (TRY_FOR, LEAST_TRIES)] {
            let failing = FaultyStore::new(MemoryStore::new());
            failing.always(Method::Claim, Fault::LOST_REQUEST);
            let store = FaultyStore::new(failing.clone());
            store.always(Method::Claim, Fault::Delay(each));
            let idempotency = Idempotency::new(store);
            let answer = idempotency.call("charge").key("key").run(ready(Ok::<_, Error>(())));
            assert!(matches!(answer.await, Err(Error::Store(_))));
            assert_eq!(failing.calls(Method::Claim), tries as usize, "{each:?}");
        }
    }

    /// The claim is granted, and its body's task does not come to run for a lease.
    #[tokio::test(start_paused = true)]
    async fn a_claim_that_is_too_old_starts_no_body_and_is_given_back_as_what_it_was() {
        for (vanished, expected) in [(false, 1), (true, 3)] {
            let idempotency = Idempotency::memory();
            let attempt = || async { Ok::<_, Error>(Execution::current().unwrap().attempt()) };
            if vanished {
                tokio::select! {
                    biased;
                    _ = idempotency.call("charge").key("key").run(pending::<Result<u32, Error>>()) => unreachable!(),
                    () = ready(()) => {}
                }
            }
            let mut late = Box::pin(idempotency.call("charge").key("key").detached().run(async {
                unreachable!("the body started");
                #[expect(unreachable_code, reason = "the type of the body's result")]
                Ok::<u32, Error>(0)
            }));
            assert!(late.as_mut().poll(&mut task::Context::from_waker(Waker::noop())).is_pending());
            tokio::time::advance(Operation::DEFAULT_LEASE).await;
            assert!(matches!(late.await, Err(Error::Store(_))));
            assert_eq!(idempotency.call("charge").key("key").run(attempt()).await.unwrap(), expected);
        }
    }
}
