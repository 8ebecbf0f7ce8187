//! What a body sees around it while it runs.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task,
};

use tracing::Span;

use super::heartbeat::Claim;
use crate::{
    engine::events,
    execution::{Execution, Scope},
};

/// A span, and the execution that `current` answers.
pub struct Surroundings {
    span: Span,
    scope: Scope,
}

impl Surroundings {
    pub(super) fn of(claim: &Arc<Claim>) -> Self {
        Self { span: events::run_span(claim), scope: Scope::run(Execution::new(Arc::clone(claim))) }
    }

    pub(super) fn enter<R>(&self, act: impl FnOnce() -> R) -> R {
        self.scope.enter(|| self.span.in_scope(act))
    }

    /// Runs a body that is not polled by the engine. It is gone, its destructors have run, when this ends.
    pub async fn run<F: Future>(self, body: Pin<&mut Option<F>>) -> F::Output {
        let mut within = Within { around: self, body };
        poll_fn(|cx| within.poll(cx)).await
    }
}

struct Within<'a, F> {
    around: Surroundings,
    body: Pin<&'a mut Option<F>>,
}

impl<F: Future> Within<'_, F> {
    fn poll(&mut self, cx: &mut task::Context<'_>) -> task::Poll<F::Output> {
        let Self { around, body } = self;
        around.enter(|| match body.as_mut().as_pin_mut() {
            Some(body) => body.poll(cx),
            None => task::Poll::Pending,
        })
    }
}

impl<F> Drop for Within<'_, F> {
    fn drop(&mut self) {
        let Self { around, body } = self;
        around.enter(|| body.set(None));
    }
}
