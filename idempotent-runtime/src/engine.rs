//! One call from its arguments to its answer.
//!
//! ```text
//!  new ──▶ peek ──▶ enter ─────────────▶ drive ──▶ finish
//!           │        │ join a flight       │ lease    │ complete, release
//!           │        │ claim               │ renewed  │
//!           ▼        │ wait                ▼          ▼
//!         replay ◀───┘                   abandon    the body's value, or what superseded it
//! ```
//!
//! What is generic over the function's types is in this file and small; the rest works on bytes.

mod background;
mod claim;
mod context;
mod enter;
mod flight;
mod lease;
mod run;

use std::{
    borrow::Cow,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;
use tracing::Instrument;

use self::{
    context::Context,
    enter::{Entry, enter},
    flight::Flight,
    run::{Ended, Ending, Run},
};
pub(crate) use self::{flight::Flights, lease::Claim};
use crate::{
    codec,
    error::{ArgumentsError, ConfigError, Error, KeyError},
    events,
    execution::Scope,
    fingerprint::Fingerprint,
    idempotency::Idempotency,
    key::{self, KeyWriter},
    observe::{Disposition, observe},
    operation::{Abandoned, ErrorPolicy, Operation},
    record::{Finished, Outcome, Unavailable},
    store::ClaimRequest,
    token::Nonce,
};

/// A call that is ready to be answered.
pub(crate) struct Call<P> {
    stage: Stage,
    errors: P,
}

enum Stage {
    /// The store had the result at hand.
    Replay(Finished, Cow<'static, str>),
    /// The store is to be asked.
    Ask(Arc<Context>),
}

impl<P> Call<P> {
    /// Hashes and encodes. Nothing is claimed yet, nothing is waited for.
    pub(crate) fn new(
        handle: &Idempotency,
        operation: Operation<P>,
        fingerprint: Result<Fingerprint, ArgumentsError>,
        key: impl FnOnce(&mut KeyWriter, &Fingerprint) -> Result<(), KeyError>,
    ) -> Result<Self, Error> {
        let prepared = prepare(handle, &operation, fingerprint, key);
        let (key, fingerprint) = prepared.inspect_err(|error| refuse(&operation.name, error))?;
        let Operation { name, ttl, lease, wait, abandoned, errors } = operation;
        let stage = match handle.inner.store.peek(&key) {
            Some(finished) if finished.fingerprint != fingerprint => {
                refuse(&name, &Error::Mismatch);
                return Err(Error::Mismatch);
            }
            Some(finished) => Stage::Replay(finished, name),
            None => {
                let take_over = match abandoned {
                    Abandoned::Rerun => true,
                    Abandoned::Refuse => false,
                };
                let request = ClaimRequest { fingerprint, nonce: Nonce::random(), lease, ttl, take_over };
                let handle = handle.clone();
                Stage::Ask(Arc::new(Context { handle, key, request, wait, flight: Flight::new() }))
            }
        };
        Ok(Self { stage, errors })
    }

    /// Answers the call. The body is polled only if it is this call's to run.
    pub(crate) async fn run<T, E, F>(self, body: Pin<&mut Option<F>>) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
    {
        let errors = self.errors;
        match admit(self.stage).await? {
            Admitted::Replay(answer) => answer.replay(&errors),
            Admitted::Run(mut run, context) => match run.drive(body).await {
                Some(output) => conclude(run, context, errors, output).await,
                None => Err(late(run, &context).into()),
            },
        }
    }

    /// The same on a task of its own once the key is claimed, so that dropping this future does not stop the body.
    pub(crate) async fn run_detached<T, E, F>(self, body: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<Error> + Send + 'static,
        P: ErrorPolicy<E>,
    {
        let errors = self.errors;
        // Before anything is claimed: it panics where there is none.
        let runtime = Handle::current();
        let (mut run, context) = match admit(self.stage).await? {
            Admitted::Replay(answer) => return answer.replay(&errors),
            Admitted::Run(run, context) => (run, context),
        };
        let attempt = run.attempt();
        let task = async move {
            match run.drive(std::pin::pin!(Some(body))).await {
                Some(output) => observe(conclude(run, context, errors, output)).await,
                None => (Err(late(run, &context).into()), Disposition::Refused),
            }
        };
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

fn prepare<P>(
    handle: &Idempotency,
    operation: &Operation<P>,
    fingerprint: Result<Fingerprint, ArgumentsError>,
    key: impl FnOnce(&mut KeyWriter, &Fingerprint) -> Result<(), KeyError>,
) -> Result<(crate::record::RecordKey, Fingerprint), Error> {
    check_durations(operation.lease, operation.ttl)?;
    let fingerprint = fingerprint?;
    let max = handle.inner.limits.max_key_len;
    let key = key::record_key(&operation.name, max, |writer| key(writer, &fingerprint))?;
    Ok((key, fingerprint))
}

/// A hundred years: more is a mistake, and would overflow some store's clock.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

const fn check_durations(lease: Duration, ttl: Duration) -> Result<(), ConfigError> {
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

enum Admitted {
    Replay(Answer),
    Run(Run, Arc<Context>),
}

/// The result of an earlier run, and how this call came to it.
struct Answer {
    operation: Cow<'static, str>,
    finished: Finished,
    disposition: Disposition,
}

impl Answer {
    /// The result as the function returns it. One that cannot be returned is a refusal.
    fn replay<T, E, P>(self, errors: &P) -> Result<T, E>
    where
        T: DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
    {
        let output = match self.finished.outcome {
            Outcome::Ok(bytes) => codec::decode(&bytes).map(Ok),
            Outcome::Err(bytes) => errors.decode(&bytes).map(Err),
            Outcome::Unavailable(why) => Err(Error::ResultUnavailable(why)),
        };
        match output {
            Ok(output) => {
                answer(&self.operation, self.disposition);
                output
            }
            Err(error) => {
                refuse(&self.operation, &error);
                Err(error.into())
            }
        }
    }
}

async fn admit(stage: Stage) -> Result<Admitted, Error> {
    let context = match stage {
        Stage::Replay(finished, operation) => {
            return Ok(Admitted::Replay(Answer { operation, finished, disposition: Disposition::Replayed }));
        }
        Stage::Ask(context) => context,
    };
    let operation = context.key.operation();
    match Box::pin(enter(Arc::clone(&context))).await {
        Ok(Entry::Replay(finished, disposition)) => {
            Ok(Admitted::Replay(Answer { operation: operation.to_owned().into(), finished, disposition }))
        }
        Ok(Entry::Run(run)) => Ok(Admitted::Run(run, context)),
        Err(error) => {
            refuse(operation, &error);
            Err(error)
        }
    }
}

fn late(run: Run, context: &Context) -> Error {
    let error = run.give_back();
    refuse(context.key.operation(), &error);
    error
}

/// Records what the body returned, and answers with it or with what superseded it.
async fn conclude<T, E, P>(run: Run, context: Arc<Context>, errors: P, output: Result<T, E>) -> Result<T, E>
where
    T: Serialize + DeserializeOwned,
    E: From<Error>,
    P: ErrorPolicy<E>,
{
    let encoded = match &output {
        Ok(value) => Some(encode(|| codec::encode(value)).map(Outcome::Ok)),
        Err(error) if errors.keeps(error) => Some(encode(|| errors.encode(error)).map(Outcome::Err)),
        Err(_) => None,
    };
    match record(run, context, encoded).await? {
        None => output,
        Some(answer) => answer.replay(&errors),
    }
}

/// Serializes; a panic of the user's `Serialize` is a result that cannot be kept, not a run that did not happen.
fn encode(encode: impl FnOnce() -> Result<Vec<u8>, codec::NotFaithful>) -> Result<Bytes, Unavailable> {
    match catch_unwind(AssertUnwindSafe(encode)) {
        Ok(Ok(bytes)) => Ok(Bytes::from(bytes)),
        Ok(Err(codec::NotFaithful)) | Err(_) => Err(Unavailable::NotSerializable),
    }
}

/// Ends the run with what is to be kept of it; `Some` is the result of another run to answer with.
async fn record(
    run: Run,
    context: Arc<Context>,
    encoded: Option<Result<Outcome, Unavailable>>,
) -> Result<Option<Answer>, Error> {
    let operation = context.key.operation();
    let attempt = run.attempt();
    let disposition = match attempt {
        _ if !run.is_protected() => Disposition::Unprotected,
        1 => Disposition::Executed,
        _ => Disposition::TookOver,
    };
    let ending = match encoded {
        None => Ending::Release,
        Some(outcome) => {
            let max = context.handle.inner.limits.max_result_len;
            let outcome =
                outcome.and_then(|outcome| if outcome.len() <= max { Ok(outcome) } else { Err(Unavailable::TooLarge) });
            Ending::Keep(outcome.unwrap_or_else(|why| {
                events::not_kept(operation, attempt, why);
                Outcome::Unavailable(why)
            }))
        }
    };
    match run.finish(ending).await {
        Ended::Own => {
            answer(operation, disposition);
            Ok(None)
        }
        Ended::Superseded(finished) => {
            let operation = operation.to_owned().into();
            Ok(Some(Answer { operation, finished, disposition: Disposition::Waited }))
        }
        Ended::Lost => {
            refuse(operation, &Error::ClaimLost);
            Err(Error::ClaimLost)
        }
    }
}
