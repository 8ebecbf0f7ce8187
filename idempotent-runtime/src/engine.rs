//! One call from its arguments to its answer.
//!
//! ```text
//!  prepare ────▶ admit ────────────────▶ run ───────────▶ record ────▶ reply
//!     │ peek       │ join a single flight   │ lease renewed   │ complete,   ▲
//!     │            │ claim                  │ steps appended  │ release     │
//!     │            │ wait                   ▼                 │ or suspend  │
//!     │            │              dropped or panicked:        │             │
//!     │            │              abandoned, no reply         │             │
//!     └────────────┴──────────────────────────────────────────┴─────────────┘
//! ```
//!
//! Each stage has its file. `call` drives admit, run and record, and sees only bytes. This file, `detached` and
//! `transaction` hold the code that is generic over the function's types.

mod admit;
mod ask;
mod background;
#[cfg(feature = "consumer")]
mod bury;
mod call;
pub(crate) mod claim;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod commit;
mod context;
mod detached;
pub(crate) mod disposition;
pub(crate) mod events;
mod first_poll;
mod heartbeat;
pub(crate) mod journal;
mod prepare;
#[cfg(feature = "admin")]
pub(crate) mod recent;
mod record;
mod reply;
mod rest;
mod retry;
mod run;
mod runs;
pub(crate) mod scope;
pub(crate) mod shared;
mod single_flight;
mod transaction;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use std::ops::ControlFlow;
use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll, ready},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use self::commit::{RunTransaction, begin, begin_run};
#[cfg(feature = "tower")]
pub(crate) use self::detached::Unanswered;
#[cfg(any(feature = "consumer", all(feature = "outbox", any(feature = "postgres", feature = "sqlite"))))]
pub(crate) use self::prepare::LONGEST;
pub(crate) use self::prepare::Prepared;
#[cfg(feature = "tower")]
pub(crate) use self::prepare::check_durations;
#[cfg(not(any(feature = "consumer", feature = "tower")))]
use self::record::RunEnd;
#[cfg(any(feature = "consumer", feature = "tower"))]
pub(crate) use self::record::RunEnd;
#[cfg(feature = "consumer")]
use std::{future::poll_fn, sync::Arc};

#[cfg(feature = "consumer")]
use self::call::CallWithBody;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use self::events::About;
use self::{
    call::{CallMachine, poll_body},
    prepare::{Called, Preparation},
    reply::{Answer, Reply, decode},
};
pub use self::{prepare::Call, transaction::Begun};
use crate::{
    codec::{self, NotFaithful},
    error::Error,
    operation::ErrorPolicy,
    store::{NotKept, Outcome},
};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::{store::BoxFuture, transaction::InTransaction};

impl<P> Call<P> {
    /// Answers the call. The body is polled only if it is this call's to run.
    pub(crate) fn run<T, E, F>(self, body: Pin<&mut Option<F>>) -> impl Future<Output = Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
    {
        let Self { preparation, errors } = self;
        match preparation {
            Preparation::AtHand(answer, call) => Answering::AtHand(Some(AtHand { answer, call, errors })),
            Preparation::Ask(context) => Answering::Asked(Running::new(CallMachine::new(context), errors, body)),
        }
    }
}

/// The future of a call. What it does is in functions that know nothing of the body, so that each annotated function adds little
/// code.
enum Answering<'a, T, E, P, F> {
    AtHand(Option<AtHand<P>>),
    Asked(Running<'a, T, E, P, F>),
    Over,
}

impl<T, E, P, F> Future for Answering<'_, T, E, P, F>
where
    F: Future<Output = Result<T, E>>,
    T: Serialize + DeserializeOwned,
    E: From<Error>,
    P: ErrorPolicy<E>,
{
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Result<T, E>> {
        let reply = match &mut *self {
            Self::AtHand(at_hand) => at_hand.take().map(AtHand::reply),
            Self::Asked(running) => Some(ready!(Pin::new(running).poll(cx))),
            Self::Over => None,
        };
        let Some(reply) = reply else { return Poll::Pending };
        // Here, and not when the caller drops the future.
        *self = Self::Over;
        Poll::Ready(result(reply))
    }
}

/// An answer that is at hand.
struct AtHand<P> {
    answer: Result<Answer, Error>,
    call: Called,
    errors: P,
}

impl<P> AtHand<P> {
    #[inline(never)]
    fn reply<T: DeserializeOwned, E>(self) -> Reply<Result<T, E>>
    where
        P: ErrorPolicy<E>,
    {
        let Self { answer, call, errors } = self;
        Reply::new(call.about(), answer, None, |outcome| decode_result(&errors, outcome))
    }
}

/// Gives a reply to the caller.
fn result<T, E: From<Error>>(reply: Reply<Result<T, E>>) -> Result<T, E> {
    reply.give().unwrap_or_else(|error| Err(error.into()))
}

/// A call that the store is asked about, and its body.
struct Running<'a, T, E, P, F> {
    // Boxed: it is large, and would be part of the caller's future beside the body.
    asked: Box<Asked<T, E, P>>,
    body: Pin<&'a mut Option<F>>,
}

/// A call that the store is asked about, without its body.
struct Asked<T, E, P> {
    call: CallMachine,
    errors: P,
    /// The output of the body.
    output: Option<Result<T, E>>,
}

impl<'a, T, E, P, F> Running<'a, T, E, P, F> {
    fn new(call: CallMachine, errors: P, body: Pin<&'a mut Option<F>>) -> Self {
        Self { asked: Box::new(Asked { call, errors, output: None }), body }
    }
}

impl<T, E, P, F> Future for Running<'_, T, E, P, F>
where
    F: Future<Output = Result<T, E>>,
    T: Serialize + DeserializeOwned,
    P: ErrorPolicy<E>,
{
    type Output = Reply<Result<T, E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Self { asked, body } = &mut *self;
        asked.poll(cx, &mut |cx| poll_body(body, cx))
    }
}

/// The body's destructors run while the key is still ours.
impl<T, E, P, F> Drop for Running<'_, T, E, P, F> {
    fn drop(&mut self) {
        let Self { asked, body } = self;
        asked.call.in_body_scope(&mut || body.set(None));
    }
}

impl<T, E, P> Asked<T, E, P>
where
    T: Serialize + DeserializeOwned,
    P: ErrorPolicy<E>,
{
    #[inline(never)]
    fn poll(
        &mut self,
        cx: &mut task::Context<'_>,
        body: &mut dyn FnMut(&mut task::Context<'_>) -> Poll<Result<T, E>>,
    ) -> Poll<Reply<Result<T, E>>> {
        let Self { call, errors, output } = self;
        let here = call.encodes_here();
        let answer = ready!(call.poll_with(cx, &mut |cx| {
            let ended = ready!(body(cx));
            Poll::Ready(encode_output(errors, output.insert(ended), here))
        }));
        Poll::Ready(Reply::new(call.about(), answer, output.take(), |outcome| decode_result(errors, outcome)))
    }
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl<P> Call<P> {
    /// Answers the call. The body runs in a transaction that is begun for it, if it is this call's to run, and is committed with
    /// its record.
    pub(crate) async fn commit<'a, DB, T, E>(
        self,
        pool: &sqlx::Pool<DB>,
        body: impl for<'t> FnOnce(InTransaction<'t, 'a, DB>) -> BoxFuture<'t, Result<T, E>>,
    ) -> Result<T, E>
    where
        DB: crate::transaction::TransactionDatabase,
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
    {
        let Self { preparation, errors } = self;
        let reply = match preparation {
            Preparation::AtHand(answer, call) => {
                Reply::new(call.about(), answer, None, |outcome| decode_result(&errors, outcome))
            }
            Preparation::Ask(context) => {
                let encode = |output: &Result<T, E>, transaction: Option<Box<dyn RunTransaction>>| {
                    RunEnd::in_transaction(encode_output(&errors, output, None), output.is_ok(), transaction)
                };
                let begin = async { Ok(ControlFlow::Continue(begin_run(pool).await?)) };
                let key = context.key.clone();
                // Boxed: it is large, and would be part of the caller's future beside the body.
                let ended = Box::pin(commit::in_own_transaction(context, begin, body, encode));
                let commit::Ended { answer, output } = ended.await;
                Reply::new(About::Record(&key), answer, output, |outcome| decode_result(&errors, outcome))
            }
        };
        reply.give().unwrap_or_else(|error| Err(error.into()))
    }
}

/// The answer to a message.
#[cfg(feature = "consumer")]
pub(crate) enum Worked<R> {
    /// This run has ended with this output.
    Ran(R),
    /// Another run has ended like this.
    Before(Outcome),
}

#[cfg(feature = "consumer")]
impl<P> Call<P> {
    /// Works a message off. Tells nobody: the inbox does.
    pub(crate) async fn work<R, F>(
        self,
        body: Pin<&mut Option<F>>,
        mut encode: impl FnMut(&R) -> RunEnd,
    ) -> Result<Worked<R>, Error>
    where
        F: Future<Output = Result<R, Error>>,
    {
        let context = match self.preparation {
            Preparation::AtHand(answer, _) => return worked(answer, None),
            Preparation::Ask(context) => of_message(context),
        };
        let mut call = CallWithBody { call: CallMachine::new(context), body };
        let (mut output, mut unstarted) = (None, None);
        let answer = poll_fn(|cx| {
            call.poll(cx, |ended| match ended {
                Ok(ended) => encode(output.insert(ended)),
                Err(error) => {
                    unstarted = Some(error);
                    RunEnd::Unstarted
                }
            })
        })
        .await;
        worked(unstarted.map_or(answer, Err), output)
    }

    /// Works a message off in a transaction of its run. `before` may end the run without one.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) async fn work_in<'a, DB, R>(
        self,
        begin: impl Future<Output = Result<ControlFlow<R, sqlx::Transaction<'static, DB>>, Error>>,
        body: impl for<'t> FnOnce(InTransaction<'t, 'a, DB>) -> BoxFuture<'t, R>,
        encode: impl FnMut(&R, Option<Box<dyn RunTransaction>>) -> RunEnd,
    ) -> Result<Worked<R>, Error>
    where
        DB: crate::transaction::TransactionDatabase,
    {
        let context = match self.preparation {
            Preparation::AtHand(answer, _) => return worked(answer, None),
            Preparation::Ask(context) => of_message(context),
        };
        let ended = Box::pin(commit::in_own_transaction(context, begin, body, encode)).await;
        worked(ended.answer, ended.output)
    }
}

/// The context of a message: what is not on record must not be acknowledged, and its turn is waited for.
#[cfg(feature = "consumer")]
fn of_message(mut context: Arc<context::CallContext>) -> Arc<context::CallContext> {
    // Nobody else has it yet.
    if let Some(context) = Arc::get_mut(&mut context) {
        context.is_of_message = true;
    }
    context
}

#[cfg(feature = "consumer")]
fn worked<R>(answer: Result<Answer, Error>, output: Option<R>) -> Result<Worked<R>, Error> {
    match answer? {
        Answer::Other(outcome, _) => Ok(Worked::Before(outcome)),
        Answer::Own(_) | Answer::Told | Answer::Refused(_) => output.map(Worked::Ran).ok_or(Error::ClaimLost),
    }
}

/// Decodes the outcome of another run to what the function returns.
fn decode_result<T, E, P>(errors: &P, outcome: Outcome) -> Result<Result<T, E>, Error>
where
    T: DeserializeOwned,
    P: ErrorPolicy<E>,
{
    decode(outcome, |bytes| codec::decode(bytes).map(Ok), |bytes| errors.decode(bytes).map(Err))
}

/// Encodes an output for the record. `here` is the most bytes of JSON, if only this process reads the record.
fn encode_output<T, E, P>(errors: &P, output: &Result<T, E>, here: Option<usize>) -> RunEnd
where
    T: Serialize + DeserializeOwned,
    P: ErrorPolicy<E>,
{
    match output {
        Ok(value) => match encode(|| match here {
            Some(max_len) => codec::encode_here(value, max_len),
            None => codec::encode(value).map(Bytes::from),
        }) {
            Ok(bytes) => RunEnd::Keep(Outcome::Ok(bytes)),
            Err(_) => NOT_SERIALIZABLE,
        },
        Err(error) if errors.keeps(error) => match encode(|| errors.encode(error).map(Bytes::from)) {
            Ok(bytes) => RunEnd::Keep(Outcome::Err(bytes)),
            // Such as the variant that carries this library's own errors.
            Err(NotFaithful::Skipped) => RunEnd::Release,
            Err(NotFaithful::Changed) => NOT_SERIALIZABLE,
        },
        Err(_) => RunEnd::Release,
    }
}

const NOT_SERIALIZABLE: RunEnd = RunEnd::Keep(Outcome::NotKept(NotKept::NotSerializable));

/// Encodes. A panic of the user's `Serialize` or `Deserialize` is a result that cannot be kept, not a run that did not
/// happen.
pub(crate) fn encode(encode: impl FnOnce() -> Result<Bytes, NotFaithful>) -> Result<Bytes, NotFaithful> {
    catch_unwind(AssertUnwindSafe(encode)).unwrap_or(Err(NotFaithful::Changed))
}
