//! A run with a transaction of its own: claimed before it begins, completed by its last statement, committed or not at all.
//!
//! ```text
//!  claim ─▶ BEGIN ─▶ is the claim ours? ─▶ the body ─▶ end ─▶ COMMIT ─▶ duplicates hear of it
//!             │             │ no             │ Err      │ claim gone   │ no answer
//!             ▼             ▼                ▼          ▼              ▼
//!         as before     claim lost       ROLLBACK,   ROLLBACK,     suspend: it waits for the record's lock, and
//!                                        then as     then see      then tells whether the run is done
//!                                        elsewhere   the record
//! ```
//!
//! The claim is committed before the body begins: attempts are counted whatever happens next, and duplicates wait for it
//! without a connection. The completion compares the claim under the record's lock: what a late owner wrote is rolled back.

use std::{
    future::{Future, poll_fn, ready},
    ops::ControlFlow,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use sqlx::{Pool, Transaction};
use tokio::time::Instant;

use super::{
    background::FinishInBackground,
    call::{CallMachine, CallWithBody},
    claim::{Claim, RunStage},
    context::{CallContext, OwnTransaction},
    disposition::Disposition,
    record::{RunEnd, done_elsewhere, fail, share, suspend},
    reply::Answer,
    rest::Rest,
    retry::Pauses,
    scope::Scope,
    single_flight::Leadership,
};
use crate::{
    error::{Error, OperationError},
    store::{BoxFuture, Outcome, StoreError, StoreErrorKind, Suspension, Token},
    transaction::{InTransaction, TransactionDatabase, in_time},
};

/// A call that has ended: its answer, and the output of its body if it ran one.
pub(crate) struct Ended<R> {
    pub(super) answer: Result<Answer, Error>,
    pub(super) output: Option<R>,
}

/// The open transaction of a run whose body has ended.
pub(crate) trait RunTransaction: Send {
    /// Ends the run in the transaction, as its last statement, and commits it.
    fn commit(self: Box<Self>, claim: Arc<Claim>, token: Token, outcome: Outcome) -> BoxFuture<'static, CommitEnd>;

    /// Takes back what the body did.
    fn roll_back(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// The end of a run's transaction.
pub(crate) enum CommitEnd {
    /// It is committed.
    Committed,
    /// It is rolled back: the claim is gone, or it was not the run's transaction any more.
    ClaimGone,
    /// It is rolled back, since the run could not be ended in it.
    RolledBack(StoreError),
    /// Nobody knows yet.
    Unknown(StoreError),
}

const NOT_OF_THE_RUN: StoreError = StoreError::new(
    StoreErrorKind::Refused,
    "the run could not be ended in its transaction: the body has ended that, or changed its isolation level, or the pool \
     is of another database than the store",
);

/// Commits a run, and finds out what became of it.
pub(super) async fn commit(
    claim: &Arc<Claim>,
    token: Token,
    outcome: Outcome,
    transaction: Box<dyn RunTransaction>,
    leadership: Leadership,
    own: Answer,
) -> Result<Answer, Error> {
    match transaction.commit(Arc::clone(claim), token, outcome.clone()).await {
        CommitEnd::Committed => Ok(committed(claim, outcome, leadership, own)),
        CommitEnd::ClaimGone => claim_gone(claim, token, leadership).await,
        CommitEnd::RolledBack(error) => {
            fail(claim, token, leadership, own).await;
            Err(error.into())
        }
        CommitEnd::Unknown(error) => arbitrate(claim, token, error, leadership, own).await,
    }
}

/// Tells all who wait. Not before the commit was answered: they would rely on what may still be rolled back.
fn committed(claim: &Claim, outcome: Outcome, leadership: Leadership, own: Answer) -> Answer {
    let context = &claim.context;
    if let Some(store) = context.store().transactional() {
        store.committed(&context.key);
    }
    #[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
    if claim.has_published() {
        crate::outbox::committed();
    }
    share(leadership, outcome);
    own
}

/// Answers a call that found nothing to end: with what the other run has recorded, if there is one.
async fn claim_gone(claim: &Arc<Claim>, token: Token, leadership: Leadership) -> Result<Answer, Error> {
    let context = &claim.context;
    if let Some(outcome) = done_elsewhere(context).await {
        claim.tell_lost();
        share(leadership, outcome.clone());
        return Ok(Answer::Other(outcome, Disposition::Waited));
    }
    let Rest { why, not_before, keep } = Rest::abandoned(claim);
    match context.store().suspend(&context.key, &token, why, not_before, keep).await {
        // The claim was there. A body that has ended its transaction may have committed what it did.
        Ok(Suspension::Applied) => Err(NOT_OF_THE_RUN.into()),
        Ok(_) => {
            claim.tell_lost();
            Err(Error::ClaimLost)
        }
        Err(_) => {
            suspend(claim, token, Rest::abandoned(claim), leadership, Answer::Told).await;
            Err(Error::ClaimLost)
        }
    }
}

/// Finds out whether an unanswered commit has happened. The session that may still be at it has the record's lock, and
/// `suspend` waits for that: a look would show what was there before.
async fn arbitrate(
    claim: &Arc<Claim>,
    token: Token,
    error: StoreError,
    leadership: Leadership,
    own: Answer,
) -> Result<Answer, Error> {
    let context = &claim.context;
    let Rest { why, not_before, keep } = Rest::failed(claim);
    let deadline = Instant::now() + context.request.lease.max(MAY_BE_IDLE) + MAY_BE_IDLE;
    let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        match context.store().suspend(&context.key, &token, why, not_before, keep).await {
            // It is rolled back: the claim was as it had been before the end.
            Ok(Suspension::Applied) => return Err(error.into()),
            Ok(Suspension::Ended { how, by_us: true }) => return Ok(committed(claim, how, leadership, own)),
            Ok(Suspension::Ended { .. } | Suspension::Taken | Suspension::Vacant) => {
                return Err(Error::CommitUnknown(error));
            }
            Err(_) if pauses.sleep_before(deadline).await => {}
            Err(_) => return Err(Error::CommitUnknown(error)),
        }
    }
}

/// The time for which a session may be idle between the end of its run and the commit.
const MAY_BE_IDLE: Duration = Duration::from_secs(5);

struct Opened<DB: TransactionDatabase>(Transaction<'static, DB>);

impl<DB: TransactionDatabase> RunTransaction for Opened<DB> {
    fn commit(self: Box<Self>, claim: Arc<Claim>, token: Token, outcome: Outcome) -> BoxFuture<'static, CommitEnd> {
        Box::pin(async move {
            let mut transaction = self.0;
            let context = &claim.context;
            let ended = match context.store().transactional() {
                Some(store) => {
                    let connection = DB::connection(&mut transaction);
                    store.end(connection, &context.key, &token, &outcome, context.ttl, MAY_BE_IDLE).await
                }
                None => Err(NOT_OF_THE_RUN),
            };
            // Not before the end was answered, and never in one message with it: if it fails, so must the commit.
            let end = match ended {
                Ok(true) => {
                    return match in_time(transaction.commit()).await {
                        Ok(()) => CommitEnd::Committed,
                        Err(error) => CommitEnd::Unknown(DB::fault(error)),
                    };
                }
                Ok(false) => CommitEnd::ClaimGone,
                Err(error) => CommitEnd::RolledBack(error),
            };
            roll_back(transaction).await;
            end
        })
    }

    fn roll_back(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(roll_back(self.0))
    }
}

/// If it fails, the connection goes back to the pool only when the server has answered a rollback.
async fn roll_back<DB: TransactionDatabase>(mut transaction: Transaction<'static, DB>) {
    DB::before_rollback(&mut transaction).await;
    let _ = in_time(transaction.rollback()).await;
}

/// The end of a body in a transaction of its run.
enum BodyEnd<R, DB: TransactionDatabase> {
    Unstarted(Error),
    Ended(R, Option<Transaction<'static, DB>>),
}

/// Begins a transaction, whoever waits for it. Dropped before its `BEGIN` is answered, sqlx 0.9 would not know of the
/// transaction, and give its connection back to the pool with it.
pub(crate) fn begin<DB: TransactionDatabase>(
    pool: &Pool<DB>,
    statement: &'static str,
) -> FinishInBackground<sqlx::Result<Transaction<'static, DB>>> {
    let pool = pool.clone();
    FinishInBackground::new(async move { pool.begin_with(statement).await }, |begun| {
        drop(begun);
        Box::pin(ready(()))
    })
}

/// Begins the transaction of the run around the caller, and makes sure that the claim is still the run's.
pub(crate) async fn begin_run<DB: TransactionDatabase>(pool: &Pool<DB>) -> Result<Transaction<'static, DB>, Error> {
    let claim = Scope::claim().ok_or(Error::ClaimLost)?;
    let token = claim.token.ok_or(Error::ClaimLost)?;
    // A caller that leaves before the body begins has used up no attempt.
    claim.set_stage(RunStage::Claimed);
    let mut transaction = begin(pool, DB::BEGIN_RUN).await.map_err(DB::fault)?;
    match claim.context.store().transactional().filter(|_| claim.context.is_exclusive()) {
        // Nobody can take it over from here on.
        Some(store) => {
            if !store.owns(DB::connection(&mut transaction), &claim.context.key, &token).await? {
                claim.tell_lost();
                return Err(Error::ClaimLost);
            }
        }
        // The wait for a connection may have used the lease up.
        None => claim.trust(&token).await?,
    }
    claim.set_stage(RunStage::Body);
    Ok(transaction)
}

/// Answers a call whose body runs in a transaction that is begun for it.
pub(super) async fn in_own_transaction<'a, DB, R>(
    mut context: Arc<CallContext>,
    begin: impl Future<Output = Result<ControlFlow<R, Transaction<'static, DB>>, Error>>,
    body: impl for<'t> FnOnce(InTransaction<'t, 'a, DB>) -> BoxFuture<'t, R>,
    mut encode: impl FnMut(&R, Option<Box<dyn RunTransaction>>) -> RunEnd,
) -> Ended<R>
where
    DB: TransactionDatabase,
{
    let mode = context
        .store()
        .transactional()
        .map(|store| if store.is_exclusive() { OwnTransaction::Exclusive } else { OwnTransaction::Shared });
    let Some(mode) = mode else {
        return Ended { answer: Err(OperationError::NoTransactions.into()), output: None };
    };
    // Nobody else has it yet.
    if let Some(context) = Arc::get_mut(&mut context) {
        context.own_transaction = mode;
    }
    let body = async move {
        match begin.await {
            Ok(ControlFlow::Continue(mut transaction)) => {
                let output = body(InTransaction::of(&mut transaction)).await;
                BodyEnd::Ended(output, Some(transaction))
            }
            Ok(ControlFlow::Break(output)) => BodyEnd::Ended(output, None),
            Err(error) => BodyEnd::Unstarted(error),
        }
    };
    let mut call = CallWithBody { call: CallMachine::new(context), body: pin!(Some(body)) };
    let (mut output, mut unstarted) = (None, None);
    let answer = poll_fn(|cx| {
        call.poll(cx, |end| match end {
            BodyEnd::Ended(ended, transaction) => {
                let transaction = transaction.map(|open| Box::new(Opened(open)) as Box<dyn RunTransaction>);
                encode(output.insert(ended), transaction)
            }
            BodyEnd::Unstarted(error) => {
                unstarted = Some(error);
                RunEnd::Unstarted
            }
        })
    })
    .await;
    Ended { answer: unstarted.map_or(answer, Err), output }
}
