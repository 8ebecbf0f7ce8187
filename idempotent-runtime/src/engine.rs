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
pub(crate) mod shared;
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
pub use self::transaction::Begun;
pub(crate) use self::{call::Encoded, heartbeat::Claim};
use self::{
    call::{Asked, AskedFor},
    context::Context,
    shared::Shared,
    single_flight::Flight,
};
use crate::{
    codec,
    disposition::{Disposition, with_disposition},
    error::{ConfigError, Error},
    execution::Scope,
    operation::{ErrorPolicy, OnAbandoned, Operation},
    request::arguments::Request,
    store::{ClaimRequest, Nonce, NotKept, Outcome, RecordKey},
};

/// A call that is ready to be answered.
pub struct Call<P> {
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

/// A call that is identified: its key, and what it asks for.
pub(crate) struct Prepared<'h> {
    pub(crate) shared: &'h Arc<Shared>,
    pub(crate) key: RecordKey,
    pub(crate) request: Request,
}

impl<P> Call<P> {
    /// Looks at what is at hand. Nothing is claimed yet, nothing is waited for.
    pub(crate) fn new(operation: Operation<P>, prepared: Result<Prepared<'_>, Error>) -> Self {
        let Operation { name, ttl, lease, wait, abandoned, errors } = operation;
        let take_over = match abandoned {
            OnAbandoned::Rerun => true,
            OnAbandoned::Refuse => false,
        };
        let stage = prepared.and_then(|Prepared { shared, key, request }| {
            check_durations(lease, ttl)?;
            let Request { fingerprint, arguments } = request;
            match shared.store.peek(&key) {
                Some(finished) if finished.fingerprint == fingerprint => {
                    Ok(Stage::Replay(finished.outcome, name.clone()))
                }
                Some(_) if arguments.is_none() => Err(Error::Mismatch { arguments: Arc::default() }),
                // Also where the record's arguments are to be asked for: nothing is waited for here.
                _ => {
                    let request =
                        ClaimRequest { fingerprint, nonce: Nonce::random(), lease, ttl, take_over, arguments };
                    let shared = Arc::clone(shared);
                    Ok(Stage::Ask(Arc::new(Context { shared, key, request, wait, flight: Flight::new() })))
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

/// A hundred years: more is a mistake, and would overflow some store's clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

pub(crate) const fn check_durations(lease: Duration, ttl: Duration) -> Result<(), ConfigError> {
    if lease.as_millis() < 10 {
        return Err(ConfigError::Setting("`lease` is shorter than 10 ms"));
    }
    if ttl.as_nanos() < lease.as_nanos() {
        return Err(ConfigError::Setting("`ttl` is shorter than `lease`"));
    }
    if ttl.as_nanos() > LONGEST.as_nanos() {
        return Err(ConfigError::Setting("`ttl` is longer than 100 years"));
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
