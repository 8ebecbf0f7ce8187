//! One call from its arguments to its answer.
//!
//! ```text
//!  new ──▶ peek ──▶ admission ─────────▶ run ────▶ record
//!           │        │ join a flight       │ lease    │ complete, release
//!           │        │ claim               │ renewed  │
//!           ▼        │ wait                ▼          ▼
//!         replay ◀───┘                   abandon    the body's value, or what superseded it
//! ```
//!
//! What is generic over the function's types is in this file and small; the rest works on bytes.

mod admission;
mod background;
mod call;
mod claim;
mod context;
#[cfg(feature = "tower")]
mod detached;
pub(crate) mod events;
mod heartbeat;
mod run;
mod scope;
mod single_flight;
mod transaction;

use std::{
    borrow::Cow,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;
use tracing::Instrument;

#[cfg(feature = "tower")]
pub(crate) use self::detached::ToAsk;
pub(crate) use self::{
    call::Encoded, heartbeat::Claim, scope::Surroundings, single_flight::Flights, transaction::Begun,
};
use self::{
    call::{Asked, AskedFor},
    context::Context,
    single_flight::Flight,
};
use crate::{
    codec,
    disposition::{Disposition, with_disposition},
    error::{ArgumentsError, Error, KeyError, OperationError},
    execution::Scope,
    idempotency::Idempotency,
    operation::{ErrorPolicy, OnAbandoned, Operation},
    request::{arguments::Request, fingerprint::Fingerprint, key, key::KeyWriter},
    store::{ClaimRequest, Nonce, NotKept, Outcome, RecordKey},
};

/// A call that is ready to be answered.
pub(crate) struct Call<P> {
    stage: Stage,
    errors: P,
}

enum Stage {
    /// The store had the result at hand.
    Replay(Outcome, Cow<'static, str>),
    /// The store is to be asked.
    Ask(Arc<Context>),
    /// It cannot be answered otherwise.
    Refused(Error),
}

impl<P> Call<P> {
    /// Hashes and encodes, and looks at what is at hand. Nothing is claimed yet, nothing is waited for.
    pub(crate) fn new(
        handle: Result<&Idempotency, Error>,
        operation: Operation<P>,
        request: Result<Request, ArgumentsError>,
        key: impl FnOnce(&mut KeyWriter, &Fingerprint) -> Result<(), KeyError>,
    ) -> Self {
        let Operation { name, ttl, lease, wait, abandoned, errors } = operation;
        let take_over = match abandoned {
            OnAbandoned::Rerun => true,
            OnAbandoned::Refuse => false,
        };
        let stage = prepare(handle, &name, request, key).and_then(|(handle, key, request)| {
            check_durations(lease, ttl)?;
            let Request { fingerprint, arguments } = request;
            match handle.inner.store.peek(&key) {
                Some(finished) if finished.fingerprint == fingerprint => {
                    Ok(Stage::Replay(finished.outcome, name.clone()))
                }
                Some(_) if arguments.is_none() => Err(Error::Mismatch { arguments: Arc::default() }),
                // Also where the record's arguments are to be asked for: nothing is waited for here.
                _ => {
                    let request = ClaimRequest::new(fingerprint, Nonce::random(), lease, ttl)
                        .with_take_over(take_over)
                        .with_arguments(arguments);
                    let handle = handle.clone();
                    Ok(Stage::Ask(Arc::new(Context { handle, key, request, wait, flight: Flight::new() })))
                }
            }
        });
        let stage = stage.unwrap_or_else(|error| {
            refuse(&name, &error);
            Stage::Refused(error)
        });
        Self { stage, errors }
    }

    /// Answers the call. The body is polled only if it is this call's to run.
    // Not an `async fn`, whose future would hold the call twice: as its argument and as what it was taken apart into.
    pub(crate) fn run<T, E, F>(self, body: Pin<&mut Option<F>>) -> impl Future<Output = Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
    {
        let Self { stage, errors } = self;
        async move {
            match stage {
                Stage::Replay(outcome, operation) => replay(&errors, &operation, outcome, Disposition::Replayed),
                Stage::Refused(error) => Err(error.into()),
                // Boxed: it is large, and would be part of the caller's future beside the body.
                Stage::Ask(context) => Box::pin(settle(Asked::new(context), errors, body)).await,
            }
        }
    }

    /// The same on a task of its own once the key is claimed, so that dropping this future does not stop the body.
    pub(crate) fn run_detached<T, E, F>(self, body: F) -> impl Future<Output = Result<T, E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<Error> + Send + 'static,
        P: ErrorPolicy<E>,
    {
        let Self { stage, errors } = self;
        async move {
            let context = match stage {
                Stage::Replay(outcome, operation) => {
                    return replay(&errors, &operation, outcome, Disposition::Replayed);
                }
                Stage::Refused(error) => return Err(error.into()),
                Stage::Ask(context) => context,
            };
            // Before anything is claimed: it panics where there is none.
            let runtime = Handle::current();
            let mut asked = Asked::new(context);
            if let Some((finished, disposition)) = asked.admit().await? {
                return replay(&errors, asked.operation(), finished.outcome, disposition);
            }
            let attempt = asked.attempt();
            let task = async move { with_disposition(settle(asked, errors, std::pin::pin!(Some(body)))).await };
            match runtime.spawn(task.in_current_span()).await {
                Ok((answer, disposition)) => {
                    Scope::note(disposition);
                    answer
                }
                Err(stopped) => match stopped.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Only a runtime that shuts down cancels the task.
                    Err(_) => Err(Error::Abandoned { attempt }.into()),
                },
            }
        }
    }
}

fn prepare<'h>(
    handle: Result<&'h Idempotency, Error>,
    operation: &str,
    request: Result<Request, ArgumentsError>,
    key: impl FnOnce(&mut KeyWriter, &Fingerprint) -> Result<(), KeyError>,
) -> Result<(&'h Idempotency, RecordKey, Request), Error> {
    let (handle, request) = (handle?, request?);
    let max = handle.inner.limits.max_key_len;
    let key = key::record_key(operation, max, |writer| key(writer, &request.fingerprint))?;
    Ok((handle, key, request))
}

/// A hundred years: more is a mistake, and would overflow some store's clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

pub(crate) const fn check_durations(lease: Duration, ttl: Duration) -> Result<(), OperationError> {
    if lease.as_millis() < 10 {
        return Err(OperationError::LeaseTooShort);
    }
    if ttl.as_nanos() < lease.as_nanos() {
        return Err(OperationError::TtlBelowLease);
    }
    if ttl.as_nanos() > LONGEST.as_nanos() {
        return Err(OperationError::TtlTooLong);
    }
    Ok(())
}

fn refuse(operation: &str, error: &Error) {
    Scope::note(Disposition::Refused);
    events::refused(operation, error);
}

fn answer(operation: &str, disposition: Disposition) {
    Scope::note(disposition);
    events::answered(operation, disposition);
}

/// Answers a call that the store is asked about.
async fn settle<T, E, P, F>(asked: Asked, errors: P, body: Pin<&mut Option<F>>) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    T: Serialize + DeserializeOwned,
    E: From<Error>,
    P: ErrorPolicy<E>,
{
    let (mut asked, mut output) = (AskedFor { asked, body }, None);
    let answer = poll_fn(|cx| asked.poll(cx, |ended| encode_output(&errors, output.insert(ended)))).await?;
    match (answer, output) {
        (Some((finished, disposition)), _) => replay(&errors, asked.operation(), finished.outcome, disposition),
        (None, Some(output)) => output,
        // Without another answer, the body has ended.
        (None, None) => Err(Error::ClaimLost.into()),
    }
}

/// What an earlier run came to, as the function returns it.
fn replay<T, E, P>(errors: &P, operation: &str, outcome: Outcome, disposition: Disposition) -> Result<T, E>
where
    T: DeserializeOwned,
    E: From<Error>,
    P: ErrorPolicy<E>,
{
    let replayed = match outcome {
        Outcome::Ok(bytes) => codec::decode(&bytes).map(Ok),
        Outcome::Err(bytes) => errors.decode(&bytes).map(Err),
        Outcome::NotKept(why) => Err(Error::ResultNotKept(why)),
    };
    match replayed {
        Ok(result) => {
            answer(operation, disposition);
            result
        }
        Err(error) => {
            refuse(operation, &error);
            Err(error.into())
        }
    }
}

/// What is to be kept of an output.
fn encode_output<T, E, P>(errors: &P, output: &Result<T, E>) -> Encoded
where
    T: Serialize,
    P: ErrorPolicy<E>,
{
    match output {
        Ok(value) => Encoded::Keep(encode(|| codec::encode(value)).map(Outcome::Ok)),
        Err(error) if errors.keeps(error) => Encoded::Keep(encode(|| errors.encode(error)).map(Outcome::Err)),
        Err(_) => Encoded::Release,
    }
}

/// Serializes; a panic of the user's `Serialize` is a result that cannot be kept, not a run that did not happen.
fn encode(encode: impl FnOnce() -> Result<Vec<u8>, codec::NotFaithful>) -> Result<Bytes, NotKept> {
    match catch_unwind(AssertUnwindSafe(encode)) {
        Ok(Ok(bytes)) => Ok(Bytes::from(bytes)),
        Ok(Err(codec::NotFaithful)) | Err(_) => Err(NotKept::NotSerializable),
    }
}
