//! Recovery points.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    bounds::{CarriesErrors, Stored},
    codec,
    engine::{
        claim::Claim,
        encode,
        journal::{Begun, StepRun, Value},
        scope::Scope,
    },
    error::{Error, StepError},
    request::key,
    store::NotKept,
};

/// Runs `body` once in the life of the key of the function around it: a later attempt gets the recorded value, and its `body`
/// is dropped without being polled.
///
/// A function that does several things to the outside world can be killed between them. Each thing in a step of its own, the
/// next attempt does not repeat those that are finished:
///
/// ```
/// use idempotent_runtime::{Error, Execution, Idempotency, idempotent, install, step};
///
/// #[idempotent(name = "orders.place", key = order_id)]
/// async fn place(order_id: &str, cents: u64) -> Result<String, Error> {
///     let charge = step("charge", charge(order_id, cents)).await?;
///     let parcel = step("ship", ship(order_id)).await?;
///     step("mail", mail(order_id, &charge, &parcel)).await?;
///     Ok(format!("{charge}, {parcel}"))
/// }
///
/// async fn charge(order_id: &str, cents: u64) -> Result<String, Error> {
///     let run = Execution::current().expect("inside an idempotent function");
///     let _key = run.child_key("charge"); // the same in every attempt: the bank's idempotency key
///     Ok(format!("charge of {cents}"))
/// }
/// # async fn ship(_: &str) -> Result<String, Error> { Ok("parcel 1".to_owned()) }
/// # async fn mail(_: &str, _: &str, _: &str) -> Result<(), Error> { Ok(()) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # install(Idempotency::memory())?;
/// assert_eq!(place("order-17", 4200).await?, "charge of 4200, parcel 1");
/// # Ok(()) }
/// ```
///
/// # Names
///
/// A step is found again by its name, never by its position: steps may be reordered, run at the same time
/// (`tokio::try_join!`), and be added by a later release. In a loop the name has the item in it: `step(("item", item.id), …)`.
/// A name is a string, an integer or a tuple of such, as a key is. It is used once in a run; after an `Err` it may be used again,
/// so that a step can be retried in a loop.
///
/// A step that is renamed is another step, and runs again. When a run ends with `Ok` and an earlier attempt had recorded steps
/// that it did not ask for, an error event and the counter `idempotent_steps_not_asked_for_total` say so.
///
/// In an `async` block, name the error: `step("mail", async { Ok::<_, Error>(send().await) })`.
///
/// # What is promised
///
/// - A recorded step is not run again in the life of the key: until the function returns a result, its record is forgotten, or no call has
///   come for the `ttl` after its last run. Choose the `ttl` longer than the longest retry.
/// - A step whose process dies before it is recorded runs again. What it did outside may have happened: pass a
///   [`child_key`](crate::Execution::child_key) on to systems that take one, or call a nested `#[idempotent]` function, which has
///   a claim of its own: `step("charge", charge(order_id, cents))` records its result here as well. Such a function has steps of its own.
/// - The body is not polled unless the claim is surely this run's at that moment.
/// - Once a step is recorded, an `Err` of the function does not free the key: the next call goes on after the last step, with the
///   same arguments. Other arguments are a mismatch.
/// - An `Err` of the function while a step is *in doubt* leaves the record abandoned, and `abandoned = …` decides. In doubt is a
///   step that was begun and neither recorded nor ended in `Err`: it was dropped by `select!`, `timeout` or `try_join!`, or the
///   store failed.
///
/// # No answer
///
/// An `Err` says that the step did not happen. Another system that did not answer in time has perhaps done what it was asked: returned as
/// an `Err`, it frees the key, and is asked a second time. Where that system knows a [`child_key`](crate::Execution::child_key), this does no
/// harm. Where it does not, let the step be dropped in the middle: the run is in doubt then, and `abandoned = reconcile(…)` asks before the
/// next one.
///
/// ```
/// # use std::time::Duration;
/// # use idempotent_runtime::{Error, Execution, Reconciled, idempotent, step};
/// # use tokio::time::timeout;
/// # mod mail {
/// #     pub async fn send(_: &str) -> u64 { 1 }
/// #     pub async fn find(_: &str) -> Option<u64> { None }
/// # }
/// # #[derive(Debug)] enum MailError { Late, Idempotency(Error) }
/// # impl From<tokio::time::error::Elapsed> for MailError { fn from(_: tokio::time::error::Elapsed) -> Self { Self::Late } }
/// # impl From<Error> for MailError { fn from(error: Error) -> Self { Self::Idempotency(error) } }
/// #[idempotent(name = "orders.mail", key = order_id, abandoned = reconcile(was_sent))]
/// async fn send_mail(order_id: &str) -> Result<u64, MailError> {
///     timeout(Duration::from_secs(5), step("hand over", async { Ok(mail::send(order_id).await) })).await?
/// }
///
/// async fn was_sent(_: &Execution, order_id: &str) -> Result<Reconciled<u64>, MailError> {
///     Ok(mail::find(order_id).await.map_or(Reconciled::NotDone, Reconciled::Done))
/// }
/// # fn main() {}
/// ```
///
/// # Cost
///
/// One round trip a step, which renews the lease as well; one more at the first step of a later attempt, which reads the steps
/// of the earlier ones. Up to 1,000 steps and 1 MiB a run
/// ([`max_steps`](crate::IdempotencyBuilder::max_steps), [`max_steps_len`](crate::IdempotencyBuilder::max_steps_len)).
///
/// # Errors
///
/// The body's own: it is not recorded, and passed on. And [`Error`] converted into it:
///
/// - [`Error::Step`] where there can be no step: outside the body of an idempotent function, in a task that the body has
///   spawned, in another step, in a function with `transaction`; for a name that is in use; above the limits.
/// - [`Error::Store`] if the store cannot record the step until shortly before the lease ends: return it, and do not go on.
/// - [`Error::ClaimLost`] if another run has the key.
/// - [`Error::ResultNotKept`] if an earlier attempt has done the step, and its value was too large or would not come back the same.
///   The body is not run again: the record is abandoned, and somebody has to look.
/// - [`Error::Undecodable`] if the recorded value is of another type. As above, the record is abandoned.
///
/// # Cancel safety
///
/// Dropped while the body runs, the step is in doubt. Dropped after the body has returned, its value is recorded all the same.
// Not an `async fn`, whose future would hold the body twice.
pub fn step<T, E, F>(name: impl Serialize, body: F) -> impl Future<Output = Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
    T: Stored,
    E: CarriesErrors,
{
    let (name, body) = (key::text(&name, MAX_NAME_LEN), Box::pin(body));
    async move {
        let claim = match Scope::claim_for_step() {
            Ok(claim) => claim,
            Err(error) => return Err(Error::from(error).into()),
        };
        let name = match name {
            Ok(name) => name,
            Err(error) => return Err(Error::from(StepError::Name(error)).into()),
        };
        let Some(token) = claim.token().copied() else {
            // The store does not know of this run: there is nothing to recover.
            return Scope::of_step().around(body).await;
        };
        let run = match StepRun::begin(Arc::clone(&claim), token, name).await {
            Ok(Begun::Run(run)) => run,
            Ok(Begun::Recorded(value)) => return Ok(decode(&claim, value)?),
            Err(error) => return Err(error.into()),
        };
        match Scope::of_step().around(body).await {
            Ok(value) => {
                let encoded = encode(|| codec::encode(&value).map(Bytes::from)).map_err(|_| NotKept::NotSerializable);
                // Polled first in the poll that ended the body: from here on it cannot be lost.
                match run.record(encoded).await? {
                    None => Ok(value),
                    Some(recorded) => Ok(decode(&claim, recorded)?),
                }
            }
            Err(error) => {
                run.failed();
                Err(error)
            }
        }
    }
}

/// The longest name, in bytes of its encoded form.
const MAX_NAME_LEN: usize = 255;

/// Decodes the value of a step that an earlier attempt has recorded. It has happened: if its value is gone, the run is in doubt.
fn decode<T: DeserializeOwned>(claim: &Claim, value: Value) -> Result<T, Error> {
    let value = value.map_err(Error::ResultNotKept).and_then(|bytes| codec::decode(&bytes));
    if value.is_err() {
        claim.lose_step();
    }
    value
}

#[cfg(all(test, feature = "memory"))]
#[expect(clippy::panic, reason = "a test fails so")]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::{Idempotency, State};

    fn at_once<F: Future>(future: F) -> F::Output {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it waits"),
        }
    }

    /// As calls of the embedded store that never wait do not.
    #[test]
    fn a_run_with_steps_ends_without_a_runtime() {
        let idempotency = Idempotency::memory();
        let charge = || step("charge", async { Ok::<_, Error>(1) });
        let fails = async {
            charge().await?;
            Err::<u8, _>(Error::TooManyWaiters)
        };
        assert!(matches!(at_once(idempotency.call("order").key("fails").run(fails)), Err(Error::TooManyWaiters)));
        let panics = async {
            charge().await?;
            if true { panic!("on purpose") } else { Ok::<u8, Error>(1) }
        };
        let run = idempotency.call("order").key("panics").run(panics);
        assert!(catch_unwind(AssertUnwindSafe(|| at_once(run))).is_err());
        for (key, expected) in [("fails", State::Failed), ("panics", State::Abandoned)] {
            let record = at_once(idempotency.inspect("order", key)).unwrap().unwrap();
            assert_eq!(record.state, expected, "{key}");
        }
    }
}
