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

use std::{ops::ControlFlow, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Call, Context, LONGEST, Stage,
    admission::mismatch,
    answer,
    call::{Encoded, within_limits},
    encode_output,
    heartbeat::Claim,
    refuse, replay,
    scope::Surroundings,
};
use crate::{
    disposition::Disposition,
    engine::events,
    error::{Error, OperationError},
    execution::Scope,
    operation::ErrorPolicy,
    store::{
        ClaimOutcome, Finished, Outcome, StoreResult, Token,
        transactional::{Connection, Transactional},
    },
};

/// A body that may run in the transaction. Dropped before [`finish`](Self::finish), the transaction cannot be committed.
pub(crate) struct Begun<'t, X: ?Sized, T, E, P> {
    transaction: &'t mut X,
    run: Run,
    errors: P,
    // What is asked of the types, so that it is asked, and reported where it is not met, in one place: `begin`.
    connection: fn(&mut X) -> Connection<'_>,
    encode: fn(&P, &Result<T, E>) -> Encoded,
    error: fn(Error) -> E,
}

/// Answers at once, or lets the body run.
pub(crate) type Beginning<'t, X, T, E, P> = ControlFlow<Result<T, E>, Begun<'t, X, T, E, P>>;

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
        let Self { stage, errors } = self;
        let context = match stage {
            Stage::Replay(outcome, operation) => {
                return ControlFlow::Break(replay(&errors, &operation, outcome, Disposition::Replayed));
            }
            Stage::Refused(error) => return ControlFlow::Break(Err(error.into())),
            Stage::Ask(context) => context,
        };
        match enter(&context, connection(transaction), P::MAY_KEEP).await {
            Ok(Entry::Run(run)) => ControlFlow::Continue(Begun {
                transaction,
                run,
                errors,
                connection,
                encode: encode_output,
                error: E::from,
            }),
            Ok(Entry::Replay(finished)) => {
                let operation = context.key.operation();
                ControlFlow::Break(replay(&errors, operation, finished.outcome, Disposition::Replayed))
            }
            Err(error) => {
                refuse(context.key.operation(), &error);
                ControlFlow::Break(Err(error.into()))
            }
        }
    }
}

impl<X: ?Sized, T, E, P> Begun<'_, X, T, E, P> {
    /// What the body runs in, and the transaction for it.
    pub(crate) fn body(&mut self) -> (Surroundings, &mut X) {
        (Surroundings::of(&self.run.claim), self.transaction)
    }

    /// Writes how the body ended into the transaction, or takes back what it did.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the transaction has all of it or cannot be committed.
    pub(crate) async fn finish(self, output: Result<T, E>) -> Result<T, E> {
        let Self { transaction, mut run, errors, connection, encode, error: from_error } = self;
        let encoded = encode(&errors, &output);
        match run.end(connection(transaction), encoded, output.is_err()).await {
            Ok(()) => {
                answer(run.operation(), run.disposition());
                output
            }
            Err(error) => {
                refuse(run.operation(), &error);
                Err(from_error(error))
            }
        }
    }
}

enum Entry {
    Replay(Finished),
    Run(Run),
}

/// A claim in a transaction.
struct Run {
    claim: Arc<Claim>,
    token: Token,
    /// Before the claim.
    savepoint: String,
    /// Between the claim and the body, if a kept error is to take back only the body.
    before_body: Option<String>,
    ended: bool,
}

fn store_of(context: &Context) -> Result<&dyn Transactional, Error> {
    Ok(context.store().transactional().ok_or(OperationError::NoTransactions)?)
}

async fn enter(context: &Arc<Context>, connection: Connection<'_>, may_keep_errors: bool) -> Result<Entry, Error> {
    let store = store_of(context)?;
    let savepoint = format!("idempotent_{}", Scope::depth());
    store.savepoint(connection, &savepoint).await?;
    let claimed = store.claim(connection, &context.key, &context.request, context.wait.min(LONGEST)).await;
    let entry = match claimed {
        Ok(ClaimOutcome::Claimed { token, attempt }) => {
            let claim = Arc::new(Claim::in_transaction(Arc::clone(context), token, attempt));
            let before_body = may_keep_errors.then(|| format!("{savepoint}_body"));
            let mut run = Run { claim, token, savepoint, before_body, ended: false };
            return match run.mark(store, connection).await {
                Ok(()) => Ok(Entry::Run(run)),
                Err(error) => {
                    run.ended = true;
                    run.undo(store, connection).await;
                    Err(error.into())
                }
            };
        }
        Ok(ClaimOutcome::Done(finished)) => Ok(Entry::Replay(finished)),
        Ok(ClaimOutcome::InFlight { retry_after }) => {
            // A claim of this very transaction has no end that could be told.
            Err(Error::InFlight { retry_after: retry_after.min(context.request.lease) })
        }
        Ok(ClaimOutcome::Mismatch) => Err(mismatch(context, store.inspect(connection, &context.key)).await),
        Ok(ClaimOutcome::Abandoned { attempt }) => Err(Error::Abandoned { attempt }),
        Err(error) => Err(error.into()),
    };
    // Nothing was written, but what was waited for in vain has failed the transaction. If this fails, so will the
    // caller's next step.
    let _ = store.undo(connection, &savepoint).await;
    entry
}

impl Run {
    fn operation(&self) -> &str {
        self.claim.context.key.operation()
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

    async fn end(&mut self, connection: Connection<'_>, encoded: Encoded, failed: bool) -> Result<(), Error> {
        let store = store_of(&self.claim.context)?;
        let Encoded::Keep(outcome) = encoded else {
            self.undo(store, connection).await;
            self.ended = true;
            return Ok(());
        };
        let outcome = within_limits(&self.claim.context, self.claim.attempt, outcome);
        let recorded = self.record(store, connection, &outcome, failed).await;
        if recorded.is_err() {
            self.undo(store, connection).await;
        }
        self.ended = true;
        Ok(recorded?)
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
        store.complete(connection, &context.key, &self.token, outcome, context.request.ttl).await?;
        store.keep(connection, &self.savepoint).await
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.ended {
            events::abandoned(self.operation(), self.claim.attempt);
        }
    }
}
