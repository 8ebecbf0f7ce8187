//! A call that the store is asked about, from its claim to its record.
//!
//! It knows none of the function's types: the body is polled, and its output encoded, behind one closure that lives as
//! long as a poll. So an annotated function adds little code, and the future is `Send` exactly where the body is.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

use super::{
    Context,
    admission::{Entry, enter, enter_at_once},
    answer,
    background::Settled,
    refuse,
    run::{Ended, Ending, Run},
    scope::Surroundings,
};
use crate::{
    disposition::Disposition,
    engine::events,
    error::Error,
    store::{BoxFuture, Finished, NotKept, Outcome},
};

/// What becomes of the record, given the body's output.
pub(crate) enum Encoded {
    /// It is done, with this result or without one.
    Keep(Result<Outcome, NotKept>),
    /// The key is free again.
    Release,
    /// The run ended without an outcome.
    #[cfg_attr(
        not(feature = "tower"),
        expect(dead_code, reason = "other bodies say so by a panic or by being dropped")
    )]
    Abandon,
}

/// Polls the body, and encodes its output.
type PollBody<'a> = dyn FnMut(&mut task::Context<'_>) -> Poll<Encoded> + 'a;

/// The result of another run to answer with; `None` is the output of the body that was polled.
pub(super) type Answer = Option<(Finished, Disposition)>;

/// A call and its body.
pub(super) struct AskedFor<'a, F> {
    pub(super) asked: Asked,
    /// In its caller's frame, but gone, its destructors have run, before the key can be another's.
    pub(super) body: Pin<&'a mut Option<F>>,
}

impl<F: Future> AskedFor<'_, F> {
    pub(super) fn operation(&self) -> &str {
        self.asked.operation()
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut task::Context<'_>,
        mut encode: impl FnMut(F::Output) -> Encoded,
    ) -> Poll<Result<Answer, Error>> {
        let Self { asked, body } = self;
        asked.poll(cx, &mut |cx| {
            let Some(polled) = body.as_mut().as_pin_mut() else { return Poll::Pending };
            let output = ready!(polled.poll(cx));
            body.set(None);
            Poll::Ready(encode(output))
        })
    }
}

impl<F> Drop for AskedFor<'_, F> {
    fn drop(&mut self) {
        let Self { asked, body } = self;
        asked.within(&mut || body.set(None));
    }
}

pub(super) struct Asked {
    context: Arc<Context>,
    phase: Phase,
}

enum Phase {
    /// Nothing was asked yet.
    Start,
    Admission(BoxFuture<'static, Result<Entry, Error>>),
    /// The body is this call's to run; it has started once there is something around it.
    Run(Run, Option<Surroundings>),
    /// The body has ended; `None` if that is on record.
    Record(Option<Settled<Ended>>, Disposition),
}

impl Asked {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, phase: Phase::Start }
    }

    pub(super) fn operation(&self) -> &str {
        self.context.key.operation()
    }

    /// Which attempt is under way.
    pub(super) fn attempt(&self) -> u32 {
        match &self.phase {
            Phase::Run(run, _) => run.attempt(),
            Phase::Start | Phase::Admission(_) | Phase::Record(..) => 1,
        }
    }

    /// Waits until it is known whether the body is this call's to run: `None` if so.
    pub(super) async fn admit(&mut self) -> Result<Answer, Error> {
        poll_fn(|cx| self.poll_admission(cx)).await
    }

    fn poll_admission(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Answer, Error>> {
        if let Phase::Start = self.phase {
            if let Some(entry) = enter_at_once(&self.context) {
                return Poll::Ready(Ok(self.entered(entry)));
            }
            let context = Arc::clone(&self.context);
            self.phase = Phase::Admission(Box::pin(async move { enter(&context).await }));
        }
        let Phase::Admission(admission) = &mut self.phase else { return Poll::Ready(Ok(None)) };
        Poll::Ready(match ready!(admission.as_mut().poll(cx)) {
            Ok(entry) => Ok(self.entered(entry)),
            Err(error) => {
                refuse(self.operation(), &error);
                Err(error)
            }
        })
    }

    fn entered(&mut self, entry: Entry) -> Answer {
        match entry {
            Entry::Replay(finished, disposition) => Some((finished, disposition)),
            Entry::Run(run) => {
                self.phase = Phase::Run(run, None);
                None
            }
        }
    }

    /// Does something where the body is.
    fn within(&self, act: &mut dyn FnMut()) {
        match &self.phase {
            Phase::Run(_, Some(around)) => around.enter(act),
            _ => act(),
        }
    }

    /// Claims, runs the body if it is this call's to run, and records how it ended.
    fn poll(&mut self, cx: &mut task::Context<'_>, body: &mut PollBody<'_>) -> Poll<Result<Answer, Error>> {
        if let Some(answer) = ready!(self.poll_admission(cx))? {
            return Poll::Ready(Ok(Some(answer)));
        }
        ready!(self.poll_run(cx, body))?;
        self.poll_record(cx)
    }

    fn poll_run(&mut self, cx: &mut task::Context<'_>, body: &mut PollBody<'_>) -> Poll<Result<(), Error>> {
        let Phase::Run(run, surroundings) = &mut self.phase else { return Poll::Ready(Ok(())) };
        let around = match surroundings {
            Some(around) => around,
            // Between the claim and now, another may have got the key.
            None if run.is_late() => {
                let error = run.give_back();
                refuse(self.operation(), &error);
                return Poll::Ready(Err(error));
            }
            None => surroundings.insert(Surroundings::of(run.claim())),
        };
        let polled = around.enter(|| body(cx));
        if polled.is_pending() {
            run.keep_alive();
        }
        let encoded = ready!(polled);
        let (disposition, ending) = (run.disposition(), ending(&self.context, run.attempt(), encoded));
        self.phase = Phase::Record(run.finish(ending), disposition);
        Poll::Ready(Ok(()))
    }

    fn poll_record(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Answer, Error>> {
        let Phase::Record(record, disposition) = &mut self.phase else { return Poll::Pending };
        let disposition = *disposition;
        let ended = match record {
            Some(record) => ready!(Pin::new(record).poll(cx)),
            None => Ended::Own,
        };
        Poll::Ready(match ended {
            Ended::Own => {
                answer(self.operation(), disposition);
                Ok(None)
            }
            Ended::Abandoned => Ok(None),
            Ended::Superseded(finished) => Ok(Some((finished, Disposition::Waited))),
            Ended::Lost => {
                refuse(self.operation(), &Error::ClaimLost);
                Err(Error::ClaimLost)
            }
        })
    }
}

fn ending(context: &Context, attempt: u32, encoded: Encoded) -> Ending {
    match encoded {
        Encoded::Keep(outcome) => Ending::Keep(within_limits(context, attempt, outcome)),
        Encoded::Release => Ending::Release,
        Encoded::Abandon => Ending::Abandon,
    }
}

/// The outcome that is kept: of what is too large, or cannot be encoded, only the fact.
pub(super) fn within_limits(context: &Context, attempt: u32, outcome: Result<Outcome, NotKept>) -> Outcome {
    let max = context.shared.limits.max_result_len;
    let outcome = outcome.and_then(|outcome| if outcome.len() <= max { Ok(outcome) } else { Err(NotKept::TooLarge) });
    outcome.unwrap_or_else(|why| {
        events::not_kept(context.key.operation(), attempt, why);
        Outcome::NotKept(why)
    })
}
