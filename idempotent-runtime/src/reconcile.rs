//! Finding out what became of a run that vanished.

use crate::{
    engine::{claim::RunStage, scope::Scope},
    error::Error,
    execution::Execution,
};

/// The answer to the question what became of a run that vanished.
///
/// ```
/// use idempotent_runtime::{Error, Execution, Idempotency, Reconciled, idempotent, install};
///
/// #[idempotent(name = "payments.charge", key = order_id, abandoned = reconcile(find_charge))]
/// async fn charge(order_id: &str, cents: u64) -> Result<String, Error> {
///     let run = Execution::current().expect("inside an idempotent function");
///     Ok(bank::charge(&run.child_key("bank"), cents).await)
/// }
///
/// /// Called with the same arguments before the body, where an earlier run has vanished.
/// async fn find_charge(run: &Execution, order_id: &str, cents: u64) -> Result<Reconciled<String>, Error> {
///     match bank::find(&run.child_key("bank")).await {
///         Some(receipt) => Ok(Reconciled::Done(receipt)),
///         None => Ok(Reconciled::NotDone),
///     }
/// }
/// # mod bank {
/// #     pub async fn charge(_: &str, cents: u64) -> String { format!("charged {cents}") }
/// #     pub async fn find(_: &str) -> Option<String> { None }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # install(Idempotency::memory())?;
/// assert_eq!(charge("order-17", 4200).await?, "charged 4200");
/// # Ok(()) }
/// ```
///
/// An `Err` of the function counts as [`Unknown`](Self::Unknown) as well. The caller does not get it: log its cause where it arises.
///
/// It is asked for under the new claim, so that one call asks at a time, and never after a run that ended in an `Err`. Unless
/// the answer is `NotDone`, the body does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reconciled<T> {
    /// It happened: this is its result. It is recorded, and repeats get it.
    Done(T),
    /// It did not happen, and will not: the body runs now.
    ///
    /// The process of the earlier run may be alive still, and about to act. So this answer counts as
    /// [`Unknown`](Self::Unknown) until the run has been abandoned for the operation's
    /// [`settle_after`](crate::Operation::settle_after), by default one lease. Pass a
    /// [`child_key`](Execution::child_key) on to the other system, so that it refuses what comes later than that.
    NotDone,
    /// It cannot be said now. The call gets a retryable [`Error::Abandoned`], and the next call asks again.
    Unknown,
}

/// The run that has to find out first what became of the one before; `None` where the body may run at once.
pub(crate) fn begin() -> Option<Execution> {
    let claim = Scope::claim()?;
    claim.context().settle_after()?;
    claim.abandoned_for()?;
    // Until it is answered nothing has happened: a caller that goes away leaves the record as it was.
    claim.set_stage(RunStage::Asking);
    Some(Execution::of(claim))
}

/// The answer of the call, after what was found out; `None` if the body is to run.
pub(crate) fn end<T, E: From<Error>>(run: &Execution, found: Result<Reconciled<T>, E>) -> Option<Result<T, E>> {
    let claim = run.claim();
    let (stage, error) = match found {
        Ok(Reconciled::Done(value)) => {
            claim.set_stage(RunStage::Reconciled);
            return Some(Ok(value));
        }
        // The question may have taken so long that another call has the key, and runs it.
        Ok(Reconciled::NotDone) if claim.is_trusted() && claim.abandoned_for() >= claim.context().settle_after() => {
            if !claim.is_exhausted() {
                claim.set_stage(RunStage::Body);
                return None;
            }
            (RunStage::Exhausted, Error::Exhausted)
        }
        // Whatever the error is, the call's answer is that nobody knows.
        Ok(Reconciled::NotDone | Reconciled::Unknown) | Err(_) => (RunStage::Unresolved, claim.unresolved()),
    };
    // It is told with the answer of the call: the claim may be lost, and the answer be another.
    claim.set_stage(stage);
    Some(Err(error.into()))
}
