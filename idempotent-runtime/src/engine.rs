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
mod background;
mod call;
pub(crate) mod claim;
mod context;
mod detached;
pub(crate) mod disposition;
pub(crate) mod events;
mod heartbeat;
pub(crate) mod journal;
mod prepare;
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

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::prepare::Prepared;
#[cfg(feature = "tower")]
pub(crate) use self::prepare::check_durations;
#[cfg(not(feature = "tower"))]
use self::record::RunEnd;
use self::{
    call::{CallMachine, CallWithBody},
    prepare::Preparation,
    reply::{Reply, decode},
};
#[cfg(feature = "tower")]
pub(crate) use self::{detached::Unanswered, record::RunEnd};
pub use self::{prepare::Call, transaction::Begun};
use crate::{
    codec::{self, NotFaithful},
    error::Error,
    operation::ErrorPolicy,
    store::{NotKept, Outcome},
};

impl<P> Call<P> {
    /// Answers the call. The body is polled only if it is this call's to run.
    // Not an `async fn`, whose future would hold the call twice: as its argument, and as the parts of it.
    pub(crate) fn run<T, E, F>(self, body: Pin<&mut Option<F>>) -> impl Future<Output = Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
    {
        let Self { preparation, errors } = self;
        async move {
            let reply = match preparation {
                Preparation::AtHand(answer, operation) => {
                    Reply::new(&operation, answer, None, |outcome| decode_result(&errors, outcome))
                }
                // Boxed: it is large, and would be part of the caller's future beside the body.
                Preparation::Ask(context) => Box::pin(drive(CallMachine::new(context), errors, body)).await,
            };
            reply.give().unwrap_or_else(|error| Err(error.into()))
        }
    }
}

/// Answers a call that the store is asked about.
async fn drive<T, E, P, F>(call: CallMachine, errors: P, body: Pin<&mut Option<F>>) -> Reply<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
    T: Serialize + DeserializeOwned,
    P: ErrorPolicy<E>,
{
    let (mut call, mut output) = (CallWithBody { call, body }, None);
    let answer = poll_fn(|cx| call.poll(cx, |ended| encode_output(&errors, output.insert(ended)))).await;
    Reply::new(call.operation(), answer, output, |outcome| decode_result(&errors, outcome))
}

/// Decodes the outcome of another run to what the function returns.
fn decode_result<T, E, P>(errors: &P, outcome: Outcome) -> Result<Result<T, E>, Error>
where
    T: DeserializeOwned,
    P: ErrorPolicy<E>,
{
    decode(outcome, |bytes| codec::decode(bytes).map(Ok), |bytes| errors.decode(bytes).map(Err))
}

/// Encodes an output for the record.
fn encode_output<T, E, P>(errors: &P, output: &Result<T, E>) -> RunEnd
where
    T: Serialize + DeserializeOwned,
    P: ErrorPolicy<E>,
{
    match output {
        Ok(value) => match encode(|| codec::encode(value)) {
            Ok(bytes) => RunEnd::Keep(Outcome::Ok(bytes)),
            Err(_) => NOT_SERIALIZABLE,
        },
        Err(error) if errors.keeps(error) => match encode(|| errors.encode(error)) {
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
pub(crate) fn encode(encode: impl FnOnce() -> Result<Vec<u8>, NotFaithful>) -> Result<Bytes, NotFaithful> {
    catch_unwind(AssertUnwindSafe(encode)).unwrap_or(Err(NotFaithful::Changed)).map(Bytes::from)
}
