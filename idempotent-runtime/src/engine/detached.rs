//! A call whose body runs on a task of its own: its caller may go away, and the body runs on.

use std::{ops::ControlFlow, pin::pin};

use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;
use tracing::Instrument;

use super::{AtHand, Call, Preparation, Running, call::CallMachine, decode_result, reply::Reply, result};
use crate::{error::Error, install::handed_on, operation::ErrorPolicy};

impl<P> Call<P> {
    /// Answers the call. Once the key is claimed, the body runs on its own task: dropping this future does not stop it.
    pub(crate) fn run_detached<T, E, F>(self, body: F) -> impl Future<Output = Result<T, E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<Error> + Send + 'static,
        P: ErrorPolicy<E>,
    {
        let Self { preparation, errors } = self;
        async move {
            let context = match preparation {
                Preparation::AtHand(answer, call) => return result(AtHand { answer, call, errors }.reply()),
                Preparation::Ask(context) => context,
            };
            // Before anything is claimed: outside a runtime it panics.
            let runtime = Handle::current();
            // Boxed: the machine would be part of this future beside the body.
            let mut call = Box::new(CallMachine::new(context));
            if let ControlFlow::Break(answer) = call.admit().await {
                let reply = Reply::new(call.about(), answer, None, |outcome| decode_result(&errors, outcome));
                return result(reply);
            }
            let attempt = call.attempt();
            let reply =
                on_own_task(&runtime, attempt, async move { Running::new(*call, errors, pin!(Some(body))).await })
                    .await;
            reply.and_then(Reply::give).unwrap_or_else(|error| Err(error.into()))
        }
    }
}

/// Runs a call's future on a task of its own, and passes its panic on.
// Not an `async fn`: its future would hold the call, and the body with it, a second time. This one holds the task's handle.
fn on_own_task<R: Send + 'static, C: Future<Output = R> + Send + 'static>(
    runtime: &Handle,
    attempt: u32,
    call: C,
) -> impl Future<Output = Result<R, Error>> + use<R, C> {
    let task = runtime.spawn(handed_on(call.in_current_span()));
    async move {
        match task.await {
            Ok(reply) => Ok(reply),
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // A task that nobody aborts is cancelled only by a runtime that shuts down.
                Err(_) => Err(Error::abandoned(attempt)),
            },
        }
    }
}

#[cfg(feature = "tower")]
pub(crate) use self::encoded::Unanswered;

/// Bodies that encode their own outcome: the HTTP layer's.
#[cfg(feature = "tower")]
mod encoded {
    use std::{future::poll_fn, ops::ControlFlow, pin::pin, sync::Arc};

    use bytes::Bytes;
    use tokio::runtime::Handle;

    use super::on_own_task;
    use crate::{
        engine::{
            Call, Preparation,
            call::{CallMachine, CallWithBody},
            context::CallContext,
            events::About,
            record::RunEnd,
            reply::{Answer, Reply, decode},
        },
        error::{Error, Undecodable},
        operation::ReleaseErrors,
        store::{BoxFuture, Outcome},
    };

    /// A call that has no answer at hand: the store is to be asked.
    pub(crate) struct Unanswered<T> {
        context: Arc<CallContext>,
        decode: fn(&Bytes) -> Result<T, Error>,
    }

    impl Call<ReleaseErrors> {
        /// The answer that is at hand, decoded; otherwise the call goes on.
        pub(crate) fn at_hand<T>(
            self,
            decode: fn(&Bytes) -> Result<T, Error>,
        ) -> ControlFlow<Result<T, Error>, Unanswered<T>> {
            match self.preparation {
                Preparation::AtHand(answer, call) => {
                    let reply = Reply::new(call.about(), answer, None, |outcome| decoded(outcome, decode));
                    ControlFlow::Break(reply.give())
                }
                Preparation::Ask(context) => ControlFlow::Continue(Unanswered { context, decode }),
            }
        }
    }

    impl<T: Send + 'static> Unanswered<T> {
        /// Answers the call: with the decoded result of another run, or `None` when the body's own end is the answer.
        ///
        /// The body returns the end of its run and a rest. The rest goes to `recorded` once the end is on record, or
        /// cannot be. It is dropped if the key's result is another run's, or the task stops before that.
        ///
        /// # Cancel safety
        ///
        /// Dropped while the body runs, it runs on and its end is recorded.
        // The body comes boxed, and is moved as a pointer: into the task, and at its end out of the way of its output.
        pub(crate) async fn run<U: Send + 'static>(
            self,
            body: BoxFuture<'static, (RunEnd, U)>,
            recorded: fn(U),
        ) -> Result<Option<T>, Error> {
            let Self { context, decode } = self;
            // Before anything is claimed: outside a runtime it panics.
            let runtime = Handle::current();
            let mut call = CallMachine::new(context);
            let reply = if let ControlFlow::Break(answer) = call.admit().await {
                reply(call.about(), answer, false, decode)
            } else {
                on_own_task(&runtime, call.attempt(), drive(call, body, recorded, decode)).await?
            };
            reply.give()
        }
    }

    async fn drive<T, U>(
        call: CallMachine,
        body: BoxFuture<'static, (RunEnd, U)>,
        recorded: fn(U),
        decode: fn(&Bytes) -> Result<T, Error>,
    ) -> Reply<Option<T>> {
        let mut until_recorded = None;
        let mut call = CallWithBody { call, body: pin!(Some(body)) };
        let answer = poll_fn(|cx| {
            call.poll(cx, |(end, rest)| {
                until_recorded = Some(rest);
                end
            })
        })
        .await;
        let rest = until_recorded.filter(|_| matches!(answer, Ok(Answer::Own(_) | Answer::Told | Answer::Refused(_))));
        let reply = reply(call.call.about(), answer, true, decode);
        if let Some(rest) = rest {
            recorded(rest);
        }
        reply
    }

    fn reply<T>(
        about: About<'_>,
        answer: Result<Answer, Error>,
        has_run: bool,
        decode: fn(&Bytes) -> Result<T, Error>,
    ) -> Reply<Option<T>> {
        Reply::new(about, answer, has_run.then_some(None), |outcome| decoded(outcome, decode).map(Some))
    }

    fn decoded<T>(outcome: Outcome, ok: fn(&Bytes) -> Result<T, Error>) -> Result<T, Error> {
        decode(outcome, ok, |_| Err(Undecodable::StoredError.into()))
    }
}
