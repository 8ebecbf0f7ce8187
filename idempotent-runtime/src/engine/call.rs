//! The state machine of a call that the store is asked about: *admit*, *run*, *record*.
//!
//! It knows none of the function's types: the body is polled, and its output encoded, behind one closure that lives as
//! long as a poll. So an annotated function adds little code, and the future is `Send` exactly where the body is.

use std::{
    future::{Future, poll_fn},
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

use super::{
    admit::{Admission, admit, admit_at_once},
    background::FinishInBackground,
    claim::RunStage,
    context::CallContext,
    events::About,
    record::RunEnd,
    reply::Answer,
    run::Run,
    scope::BodyScope,
};
use crate::{error::Error, store::BoxFuture};

/// Polls the body, and encodes its output.
pub(super) type PollBody<'a> = dyn FnMut(&mut task::Context<'_>) -> Poll<RunEnd> + 'a;

/// `Break` with the answer of the call, `Continue` with its next stage.
pub(super) type OrAnswer = ControlFlow<Result<Answer, Error>>;

/// A call and its body.
#[cfg(any(feature = "consumer", feature = "postgres", feature = "sqlite", feature = "tower"))]
pub(super) struct CallWithBody<'a, F> {
    pub(super) call: CallMachine,
    /// Borrowed from the caller's frame. It is set to `None` before the claim is given up, so that the body's
    /// destructors run while the key is still ours.
    pub(super) body: Pin<&'a mut Option<F>>,
}

#[cfg(any(feature = "consumer", feature = "postgres", feature = "sqlite", feature = "tower"))]
impl<F: Future> CallWithBody<'_, F> {
    pub(super) fn poll(
        &mut self,
        cx: &mut task::Context<'_>,
        mut encode: impl FnMut(F::Output) -> RunEnd,
    ) -> Poll<Result<Answer, Error>> {
        let Self { call, body } = self;
        call.poll_with(cx, &mut |cx| Poll::Ready(encode(ready!(poll_body(body, cx)))))
    }
}

/// Polls a body, and drops it at its end.
pub(super) fn poll_body<F: Future>(body: &mut Pin<&mut Option<F>>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
    let Some(polled) = body.as_mut().as_pin_mut() else { return Poll::Pending };
    let output = ready!(polled.poll(cx));
    body.set(None);
    Poll::Ready(output)
}

#[cfg(any(feature = "consumer", feature = "postgres", feature = "sqlite", feature = "tower"))]
impl<F> Drop for CallWithBody<'_, F> {
    fn drop(&mut self) {
        let Self { call, body } = self;
        call.in_body_scope(&mut || body.set(None));
    }
}

/// A call without its body, which a detached call is admitted before.
pub(super) struct CallMachine {
    context: Arc<CallContext>,
    stage: Stage,
}

enum Stage {
    /// The store has not been asked yet.
    New,
    Admit(BoxFuture<'static, Result<Admission, Error>>),
    /// The body is this call's to run. It has a scope once it has started.
    Run(Run, Option<BodyScope>),
    /// The body has ended: its record is being written, or the answer is known at once.
    Record(FinishInBackground<Result<Answer, Error>>),
    Recorded(Option<Answer>),
}

impl CallMachine {
    pub(super) fn new(context: Arc<CallContext>) -> Self {
        Self { context, stage: Stage::New }
    }

    pub(super) fn about(&self) -> About<'_> {
        About::Record(&self.context.key)
    }

    /// The most bytes that the JSON of a result may have, if only this process reads the record.
    pub(super) fn encodes_here(&self) -> Option<usize> {
        self.context.store().immediate().map(|_| self.context.shared.limits.max_result_len)
    }

    /// The attempt that is under way.
    pub(super) fn attempt(&self) -> u32 {
        match &self.stage {
            Stage::Run(run, _) => run.attempt(),
            Stage::New | Stage::Admit(_) | Stage::Record(_) | Stage::Recorded(_) => 1,
        }
    }

    /// Waits until the call is answered, or its body is to run.
    pub(super) async fn admit(&mut self) -> OrAnswer {
        poll_fn(|cx| self.poll_admit(cx)).await
    }

    /// Admits the call, runs the body if it is this call's to run, and records how it ended.
    pub(super) fn poll_with(
        &mut self,
        cx: &mut task::Context<'_>,
        body: &mut PollBody<'_>,
    ) -> Poll<Result<Answer, Error>> {
        if let ControlFlow::Break(answer) = ready!(self.poll_admit(cx)) {
            return Poll::Ready(answer);
        }
        if let ControlFlow::Break(answer) = ready!(self.poll_run(cx, body)) {
            return Poll::Ready(answer);
        }
        self.poll_record(cx)
    }

    fn poll_admit(&mut self, cx: &mut task::Context<'_>) -> Poll<OrAnswer> {
        if let Stage::New = self.stage {
            if let Some(admission) = admit_at_once(&self.context) {
                return Poll::Ready(self.admitted(admission));
            }
            let context = Arc::clone(&self.context);
            self.stage = Stage::Admit(Box::pin(async move { admit(&context).await }));
        }
        let Stage::Admit(admission) = &mut self.stage else { return Poll::Ready(ControlFlow::Continue(())) };
        Poll::Ready(match ready!(admission.as_mut().poll(cx)) {
            Ok(admission) => self.admitted(admission),
            Err(error) => ControlFlow::Break(Err(error)),
        })
    }

    fn admitted(&mut self, admission: Admission) -> OrAnswer {
        match admission {
            Admission::Replay(outcome, disposition) => ControlFlow::Break(Ok(Answer::Other(outcome, disposition))),
            Admission::Run(run) => {
                self.stage = Stage::Run(run, None);
                ControlFlow::Continue(())
            }
        }
    }

    fn poll_run(&mut self, cx: &mut task::Context<'_>, body: &mut PollBody<'_>) -> Poll<OrAnswer> {
        let Stage::Run(run, scope) = &mut self.stage else { return Poll::Ready(ControlFlow::Continue(())) };
        let scope = match scope {
            Some(scope) => scope,
            // The task was not polled for most of a lease after the claim was granted: by now, another call may have
            // taken the key over.
            None if run.is_late() => return Poll::Ready(ControlFlow::Break(Err(run.give_back()))),
            None => {
                run.claim().set_stage(RunStage::Body);
                scope.insert(BodyScope::of(run.claim()))
            }
        };
        let watched = run.watch();
        let polled = scope.enter(|| {
            #[cfg(all(feature = "testing", feature = "memory"))]
            crate::testing::interrupt::before_body();
            body(cx)
        });
        if polled.is_pending() {
            run.keep_alive(watched);
        } else {
            drop(watched);
        }
        let end = ready!(polled);
        self.stage = match run.finish(end) {
            ControlFlow::Break(answer) => Stage::Recorded(Some(answer)),
            ControlFlow::Continue(record) => Stage::Record(record),
        };
        Poll::Ready(ControlFlow::Continue(()))
    }

    fn poll_record(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Answer, Error>> {
        match &mut self.stage {
            Stage::Record(record) => Pin::new(record).poll(cx),
            Stage::Recorded(answer) => answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer))),
            Stage::New | Stage::Admit(_) | Stage::Run(..) => Poll::Pending,
        }
    }

    /// Does something inside the scope of the body, where the body has one.
    pub(super) fn in_body_scope(&self, act: &mut dyn FnMut()) {
        match &self.stage {
            Stage::Run(_, Some(scope)) => scope.enter(act),
            _ => act(),
        }
    }
}
