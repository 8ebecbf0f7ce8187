//! A call in a transaction that its caller has open: its record is written there, and is committed with what the body
//! wrote, or not at all.
//!
//! | the body's end | what the transaction has of it |
//! |---|---|
//! | `Ok` | effects and record; where the result cannot be kept, the record says done without a result |
//! | an `Err` that is kept | the record, no effects |
//! | another `Err` | neither |
//! | the store failed at any step | neither, and the caller gets the store's error: the body's value would be a lie |
//! | panic, dropped future | a claim without an end: the database refuses to commit |
//!
//! The transaction itself is the caller's. If it is rolled back, nothing has happened; a duplicate waits on the
//! database's lock until it has ended. So there is no lease, no flight and no notification here.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;

use super::{
    Call, Preparation, RunEnd,
    admit::mismatch,
    claim::Claim,
    context::CallContext,
    decode_result,
    disposition::Disposition,
    encode_output,
    events::{self, About},
    prepare::LONGEST,
    reply::{Answer, Reply},
    runs::RunGuard,
    scope::{BodyScope, Scope, TransactionEnd},
};
use crate::{
    error::{Error, OperationError},
    operation::ErrorPolicy,
    store::{
        ClaimOutcome, Outcome, RecordKey, StoreResult, Token,
        transactional::{Connection, Transactional},
    },
};

/// A body that may run in the transaction. Dropped before [`finish`](Self::finish), the transaction cannot be committed.
pub struct Begun<'t, X: ?Sized, T, E, P> {
    transaction: &'t mut X,
    run: TransactionRun,
    errors: P,
    // Function pointers captured in `begin`, so that all trait bounds appear, and fail, only there.
    connection: fn(&mut X) -> Connection<'_>,
    encode: fn(&P, &Result<T, E>) -> RunEnd,
    error: fn(Error) -> E,
}

/// Answers at once, or lets the body run.
pub(super) type Beginning<'t, X, T, E, P> = ControlFlow<Result<T, E>, Begun<'t, X, T, E, P>>;

impl<P> Call<P> {
    /// Claims the key in the transaction.
    pub(crate) async fn begin<X, T, E>(
        self,
        transaction: &mut X,
        connection: fn(&mut X) -> Connection<'_>,
    ) -> Beginning<'_, X, T, E, P>
    where
        X: ?Sized,
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
    {
        // Of an earlier call in the same transaction.
        Scope::note_transaction(TransactionEnd::Unknown);
        let Self { preparation, errors } = self;
        let answer = match preparation {
            Preparation::AtHand(answer, call) => {
                Reply::new(call.about(), answer, None, |outcome| decode_result(&errors, outcome))
            }
            Preparation::Ask(context) => match admit(&context, connection(transaction), P::MAY_KEEP).await {
                ControlFlow::Continue(run) => {
                    return ControlFlow::Continue(Begun {
                        transaction,
                        run,
                        errors,
                        connection,
                        encode: |errors, output| encode_output(errors, output, None),
                        error: E::from,
                    });
                }
                ControlFlow::Break(answer) => {
                    Reply::new(About::Record(&context.key), answer, None, |outcome| decode_result(&errors, outcome))
                }
            },
        };
        ControlFlow::Break(answer.give().unwrap_or_else(|error| Err(error.into())))
    }
}

impl<X: ?Sized, T, E, P> Begun<'_, X, T, E, P> {
    /// The scope that the body runs in, and the transaction for it.
    pub fn body(&mut self) -> (BodyScope, &mut X) {
        (BodyScope::of(&self.run.claim), self.transaction)
    }

    /// Writes how the body ended into the transaction, or takes back what it did.
    ///
    /// # Errors
    ///
    /// The body's own, and [`Error::Store`] if its end could not be written: the transaction has nothing of it then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the transaction has all of it or cannot be committed.
    pub async fn finish(self, output: Result<T, E>) -> Result<T, E> {
        let Self { transaction, mut run, errors, connection, encode, error: from_error } = self;
        let end = encode(&errors, &output);
        let answer = run.end(connection(transaction), end, output.is_err()).await;
        let answer = answer.map(|()| Answer::Own(run.disposition()));
        // The claim is in this transaction: no other run can have an outcome to answer with.
        let reply = Reply::new(About::Record(run.key()), answer, Some(output), |_| Err(Error::ClaimLost));
        reply.give().unwrap_or_else(|error| Err(from_error(error)))
    }
}

/// The pauses before it is looked whether a kept error was committed.
const COMMIT_CHECKS: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(4)];

/// A claim in a transaction.
struct TransactionRun {
    claim: Arc<Claim>,
    token: Token,
    /// Before the claim.
    savepoint: String,
    /// Between the claim and the body, if a kept error is to take back only the body.
    before_body: Option<String>,
    ended: bool,
    _guard: RunGuard,
}

fn store_of(context: &CallContext) -> Result<&dyn Transactional, Error> {
    Ok(context.store().transactional().ok_or(OperationError::NoTransactions)?)
}

/// Claims the key in the transaction: `Break` with the call's answer, `Continue` if the body may run.
async fn admit(
    context: &Arc<CallContext>,
    connection: Connection<'_>,
    may_keep_errors: bool,
) -> ControlFlow<Result<Answer, Error>, TransactionRun> {
    match claim(context, connection, may_keep_errors).await {
        Ok(ControlFlow::Continue(run)) => ControlFlow::Continue(run),
        Ok(ControlFlow::Break(outcome)) => ControlFlow::Break(Ok(Answer::Other(outcome, Disposition::Replayed))),
        Err(error) => ControlFlow::Break(Err(error)),
    }
}

async fn claim(
    context: &Arc<CallContext>,
    connection: Connection<'_>,
    may_keep_errors: bool,
) -> Result<ControlFlow<Outcome, TransactionRun>, Error> {
    let store = store_of(context)?;
    // What a transaction takes back cannot be counted, and nobody but its caller can ask about it.
    if context.attempts.are_kept() || context.attempts.settle_after.is_some() {
        return Err(OperationError::AttemptsInTransaction.into());
    }
    let savepoint = format!("idempotent_{}", Scope::depth());
    store.savepoint(connection, &savepoint).await?;
    let claimed = store.claim(connection, &context.key, &context.request, context.wait.min(LONGEST)).await;
    let answer = match claimed {
        Ok(ClaimOutcome::Claimed { token, attempt, past }) => {
            let claim = Arc::new(Claim::in_transaction(Arc::clone(context), token, attempt, past));
            let before_body = may_keep_errors.then(|| format!("{savepoint}_body"));
            let guard = RunGuard::new(&context.shared);
            let mut run = TransactionRun { claim, token, savepoint, before_body, ended: false, _guard: guard };
            return match run.mark(store, connection).await {
                Ok(()) => Ok(ControlFlow::Continue(run)),
                Err(error) => {
                    run.ended = true;
                    run.undo(store, connection).await;
                    Err(error.into())
                }
            };
        }
        Ok(ClaimOutcome::Done(finished)) => Ok(ControlFlow::Break(finished.outcome)),
        Ok(ClaimOutcome::InFlight { retry_after }) => {
            // A claim of this very transaction has no end that could be told.
            Err(Error::InFlight { retry_after: retry_after.min(context.request.lease) })
        }
        Ok(ClaimOutcome::Mismatch) => Err(mismatch(context, store.inspect(connection, &context.key)).await),
        Ok(ClaimOutcome::Abandoned { attempt }) => Err(Error::abandoned(attempt)),
        Ok(ClaimOutcome::Suspended { retry_after, attempt }) => Err(Error::Suspended { retry_after, attempt }),
        Err(error) => Err(error.into()),
    };
    // Nothing was written, but a wait that timed out has failed the transaction. If this fails, so will the caller's next
    // step.
    let _ = store.undo(connection, &savepoint).await;
    answer
}

impl TransactionRun {
    fn key(&self) -> &RecordKey {
        &self.claim.context.key
    }

    fn disposition(&self) -> Disposition {
        if self.claim.attempt == 1 { Disposition::Executed } else { Disposition::TookOver }
    }

    /// Marks where the body begins, if it is to be undone without its claim.
    async fn mark(&self, store: &dyn Transactional, connection: Connection<'_>) -> StoreResult<()> {
        match &self.before_body {
            Some(savepoint) => store.savepoint(connection, savepoint).await,
            None => Ok(()),
        }
    }

    async fn end(&mut self, connection: Connection<'_>, end: RunEnd, failed: bool) -> Result<(), Error> {
        let store = store_of(&self.claim.context)?;
        let RunEnd::Keep(outcome) = end.within_limits(&self.claim) else {
            self.undo(store, connection).await;
            self.ended = true;
            return Ok(());
        };
        if !failed && self.claim.past.has_steps {
            events::steps_not_asked_for(self.key(), self.claim.attempt);
        }
        let recorded = self.record(store, connection, &outcome, failed).await;
        if recorded.is_err() {
            self.undo(store, connection).await;
        }
        self.ended = true;
        recorded?;
        if failed {
            Scope::note_transaction(TransactionEnd::Recorded);
            watch_commit(Arc::clone(&self.claim));
        }
        Ok(())
    }

    /// Takes back body and claim. If this fails, the claim has no end, and the database refuses to commit.
    async fn undo(&self, store: &dyn Transactional, connection: Connection<'_>) {
        let _ = store.undo(connection, &self.savepoint).await;
    }

    async fn record(
        &self,
        store: &dyn Transactional,
        connection: Connection<'_>,
        outcome: &Outcome,
        failed: bool,
    ) -> StoreResult<()> {
        let context = &self.claim.context;
        if let Some(savepoint) = self.before_body.as_deref().filter(|_| failed) {
            store.undo(connection, savepoint).await?;
        }
        store.complete(connection, &context.key, &self.token, outcome, context.ttl).await?;
        store.keep(connection, &self.savepoint).await
    }
}

/// Tells the operator of a kept error that its caller did not commit: a `?` before the commit loses it without a word.
fn watch_commit(claim: Arc<Claim>) {
    let Ok(runtime) = Handle::try_current() else { return };
    drop(runtime.spawn(async move {
        let context = &claim.context;
        for pause in COMMIT_CHECKS {
            tokio::time::sleep(pause).await;
            // What the transaction has taken over is there again if it was rolled back.
            if let Ok(Some(record)) = context.store().inspect(&context.key).await
                && claim.token.is_some_and(|token| token.nonce == record.owner)
            {
                return;
            }
        }
        events::not_committed(&context.key, claim.attempt);
    }));
}

impl Drop for TransactionRun {
    fn drop(&mut self) {
        if !self.ended {
            events::abandoned(self.key(), self.claim.attempt);
        }
    }
}
