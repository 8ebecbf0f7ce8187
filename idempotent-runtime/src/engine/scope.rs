//! The scope of a body: its span, and the task-local that says what is around the caller.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex},
    task,
};

use tracing::Span;

use super::{
    claim::{Claim, RunStage},
    disposition::{Disposition, DispositionCell},
    events,
};
use crate::{error::StepError, lock::lock};

tokio::task_local! {
    static SCOPE: Scope;
}

/// The surroundings of the calls and bodies inside a future.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    claim: Option<Arc<Claim>>,
    disposition: Option<DispositionCell>,
    /// Of the transaction that [`in_transaction`](crate::in_transaction) has begun around the caller.
    transaction: Option<TransactionEndCell>,
    /// The number of bodies that the caller is in.
    depth: u32,
    /// True inside a step of the body.
    in_step: bool,
}

impl Scope {
    /// Around a body: its own claim, and no disposition, since that one is of the call and not of the calls in its body.
    fn of_body(claim: Arc<Claim>) -> Self {
        let depth = Self::depth().saturating_add(1);
        Self { claim: Some(claim), disposition: None, transaction: None, depth, in_step: false }
    }

    /// Around the body of a step: what the caller has around it, and the step.
    pub(crate) fn of_step() -> Self {
        Self { in_step: true, ..Self::current() }
    }

    /// Around a call whose disposition is asked for.
    pub(crate) fn of_call(disposition: DispositionCell) -> Self {
        Self { disposition: Some(disposition), ..Self::current() }
    }

    /// Around a call in a transaction.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn in_transaction(end: TransactionEndCell) -> Self {
        Self { transaction: Some(end), ..Self::current() }
    }

    fn current() -> Self {
        SCOPE.try_with(Clone::clone).unwrap_or_default()
    }

    pub(crate) fn around<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        SCOPE.scope(self, future)
    }

    /// Around one poll of a future.
    fn enter<R>(&self, poll: impl FnOnce() -> R) -> R {
        SCOPE.sync_scope(self.clone(), poll)
    }

    /// The claim of the body that the caller is in.
    pub(crate) fn claim() -> Option<Arc<Claim>> {
        SCOPE.try_with(|scope| scope.claim.clone()).ok().flatten()
    }

    /// The claim of the body that the caller is in, if it may begin a step.
    pub(crate) fn claim_for_step() -> Result<Arc<Claim>, StepError> {
        let Self { claim, in_step, .. } = Self::current();
        let claim = claim.ok_or(StepError::Outside)?;
        if in_step {
            return Err(StepError::InStep);
        }
        if claim.is_in_transaction() {
            return Err(StepError::InTransaction);
        }
        if claim.stage() == RunStage::Asking {
            return Err(StepError::InReconcile);
        }
        Ok(claim)
    }

    /// The number of bodies that the caller is in.
    pub(crate) fn depth() -> u32 {
        SCOPE.try_with(|scope| scope.depth).unwrap_or_default()
    }

    /// Notes what the transaction around the caller has of its call, if somebody asked for that.
    pub(super) fn note_transaction(end: TransactionEnd) {
        let _ = SCOPE.try_with(|scope| {
            if let Some(cell) = &scope.transaction {
                *lock(&cell.0) = end;
            }
        });
    }

    /// Notes the disposition of a call, if it was asked for.
    pub(super) fn note(disposition: Disposition) {
        // An error means that the caller is in no scope.
        let _ = SCOPE.try_with(|scope| {
            if let Some(cell) = &scope.disposition {
                cell.set(disposition);
            }
        });
    }
}

/// The part of a call that its transaction holds, for the one who ends the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TransactionEnd {
    /// Nothing, or a result.
    #[default]
    Unknown,
    /// A record of how the body ended.
    Recorded,
    /// Nothing: the store failed, and a new transaction may do better.
    TryAgain,
}

/// The end of the call made directly inside [`in_transaction`](crate::in_transaction).
#[derive(Clone, Default)]
pub(crate) struct TransactionEndCell(Arc<Mutex<TransactionEnd>>);

impl TransactionEndCell {
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn get(&self) -> TransactionEnd {
        *lock(&self.0)
    }
}

/// A body's span and its scope.
pub struct BodyScope {
    span: Span,
    scope: Scope,
}

impl BodyScope {
    pub(super) fn of(claim: &Arc<Claim>) -> Self {
        let span = events::run_span(&claim.context.key, claim.attempt);
        Self { span, scope: Scope::of_body(Arc::clone(claim)) }
    }

    pub(super) fn enter<R>(&self, act: impl FnOnce() -> R) -> R {
        self.scope.enter(|| self.span.in_scope(act))
    }

    /// Runs a body that the engine does not poll itself. The body is dropped, and its destructors have run, when this
    /// future ends.
    pub async fn run<F: Future>(self, body: Pin<&mut Option<F>>) -> F::Output {
        let mut scoped = Scoped { scope: self, body };
        poll_fn(|cx| scoped.poll(cx)).await
    }
}

/// A body in its scope.
struct Scoped<'a, F> {
    scope: BodyScope,
    body: Pin<&'a mut Option<F>>,
}

impl<F: Future> Scoped<'_, F> {
    fn poll(&mut self, cx: &mut task::Context<'_>) -> task::Poll<F::Output> {
        let Self { scope, body } = self;
        scope.enter(|| match body.as_mut().as_pin_mut() {
            Some(body) => body.poll(cx),
            None => task::Poll::Pending,
        })
    }
}

impl<F> Drop for Scoped<'_, F> {
    fn drop(&mut self) {
        let Self { scope, body } = self;
        scope.enter(|| body.set(None));
    }
}
