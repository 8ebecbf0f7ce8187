//! A call on a task of its own whose body says itself what is kept of it.

use std::{future::poll_fn, ops::ControlFlow, pin::pin, sync::Arc};

use bytes::Bytes;
use tokio::runtime::Handle;
use tracing::Instrument;

use super::{Asked, AskedFor, Call, Context, Encoded, Stage, answer, call::Answer, refuse};
use crate::{
    disposition::Disposition,
    error::{Error, Undecodable},
    operation::ReleaseErrors,
    store::{BoxFuture, Outcome},
};

/// A call that the store is to be asked about.
pub(crate) struct ToAsk<T> {
    context: Arc<Context>,
    decode: fn(&Bytes) -> Result<T, Error>,
}

impl Call<ReleaseErrors> {
    /// The answer, if it is at hand: the decoded result of another run.
    pub(crate) fn at_hand<T>(self, decode: fn(&Bytes) -> Result<T, Error>) -> ControlFlow<Result<T, Error>, ToAsk<T>> {
        match self.stage {
            Stage::Replay(outcome, operation) => {
                ControlFlow::Break(decoded(&operation, outcome, Disposition::Replayed, decode))
            }
            Stage::Refused(error) => ControlFlow::Break(Err(error)),
            Stage::Ask(context) => ControlFlow::Continue(ToAsk { context, decode }),
        }
    }
}

impl<T> ToAsk<T> {
    /// Answers the call: the decoded result of another run, or `None` when the body's own end is the answer.
    ///
    /// What the body returns beside what is kept of it goes to `recorded` once that is on record, or cannot be. It is
    /// dropped if the key's result is another's, or the task stops before that.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the body runs, it runs on and its end is recorded.
    // The body comes boxed, and is moved as a pointer: into the task, and at its end out of the way of what it came to.
    pub(crate) async fn run<U>(
        self,
        body: BoxFuture<'static, (Encoded, U)>,
        recorded: fn(U),
    ) -> Result<Option<T>, Error>
    where
        U: Send + 'static,
    {
        let Self { context, decode } = self;
        // Before anything is claimed: it panics where there is none.
        let runtime = Handle::current();
        let mut asked = Asked::new(Arc::clone(&context));
        let operation = context.key.operation();
        if let Some((finished, disposition)) = asked.admit().await? {
            return decoded(operation, finished.outcome, disposition, decode).map(Some);
        }
        let attempt = asked.attempt();
        let ended = match runtime.spawn(settle(asked, body, recorded).in_current_span()).await {
            Ok(ended) => ended?,
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only a runtime that shuts down cancels the task.
                Err(_) => return Err(Error::Abandoned { attempt }),
            },
        };
        ended.map(|(finished, disposition)| decoded(operation, finished.outcome, disposition, decode)).transpose()
    }
}

async fn settle<U>(asked: Asked, body: BoxFuture<'static, (Encoded, U)>, recorded: fn(U)) -> Result<Answer, Error> {
    let mut until_recorded = None;
    let mut asked = AskedFor { asked, body: pin!(Some(body)) };
    let answer = poll_fn(|cx| {
        asked.poll(cx, |(encoded, rest)| {
            until_recorded = Some(rest);
            encoded
        })
    })
    .await;
    if let (Ok(None), Some(rest)) = (&answer, until_recorded) {
        recorded(rest);
    }
    answer
}

fn decoded<T>(
    operation: &str,
    outcome: Outcome,
    disposition: Disposition,
    decode: fn(&Bytes) -> Result<T, Error>,
) -> Result<T, Error> {
    let decoded = match outcome {
        Outcome::Ok(bytes) => decode(&bytes),
        Outcome::Err(_) => Err(Undecodable::StoredError.into()),
        Outcome::NotKept(why) => Err(Error::ResultNotKept(why)),
    };
    match &decoded {
        Ok(_) => answer(operation, disposition),
        Err(error) => refuse(operation, error),
    }
    decoded
}
