//! The errors of calls and of set-up.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::{
    request::error::{ArgumentsError, KeyError},
    store::{NotKept, StoreError},
};

/// The answer of a call that does not return a result of its body.
///
/// The variants are by meaning; [`is_retryable`](Self::is_retryable), [`http_status`](Self::http_status) and
/// [`code`](Self::code) say what to do with them. No text contains keys, arguments or results. Cheap to clone: all
/// duplicates of a call get the same error. The faults of start-up are [`SetupError`].
///
/// ```
/// use idempotent_runtime::Error;
/// let refused = Error::mismatch(["amount_cents".to_owned()]);
/// assert!(!refused.is_retryable());
/// assert_eq!((refused.code(), refused.http_status()), ("mismatch", 422));
/// assert!(refused.to_string().ends_with("; these differ: amount_cents"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Another call with this key is running, and was not done within `wait`. The body did not run.
    #[non_exhaustive]
    InFlight {
        /// The rest of the running claim's lease: after that long the key is done, or can be taken over.
        retry_after: Duration,
    },
    /// The key was used before with other arguments. The body did not run and the record is unchanged.
    #[non_exhaustive]
    Mismatch {
        /// The names of arguments that differ, as far as they are known, never their values. Empty unless both calls
        /// [recorded](crate::IdempotencyBuilder::record_arguments) theirs.
        arguments: Arc<[String]>,
    },
    /// A run of this key ended without an outcome: its effects may or may not have happened. The body did not run again. Where
    /// the operation says `abandoned = refuse`, or allows no further run, an operator [resolves](crate::operator::Operator::resolve) it,
    /// or a call of the key with `reconcile` finds out. Where it says `abandoned = reconcile(…)`, a later call may find out what happened.
    #[non_exhaustive]
    Abandoned {
        /// The attempt that was abandoned.
        attempt: u32,
        /// True if the same call, made again later, may find out what happened.
        may_retry: bool,
    },
    /// The last run of this key has failed or was abandoned, and its operation's `retry_after` says that it is too early for the
    /// next. The body did not run.
    #[non_exhaustive]
    Suspended {
        /// The time until the next run may begin.
        retry_after: Duration,
        /// The attempt that has ended.
        attempt: u32,
    },
    /// This key was run as often as its operation allows, and each run failed. The body did not run again.
    Exhausted,
    /// The body ran, but its claim was lost to another run meanwhile, and that run has no result yet. The result is
    /// refused, since the other run's will be the key's answer: ask again.
    ClaimLost,
    /// The body ran for an earlier call, and what it returned could not be kept. It does not run again.
    ResultNotKept(NotKept),
    /// A record exists that cannot be read: not ours, damaged, or of another result type. The body did not run.
    Undecodable(Undecodable),
    /// The store failed before the body could run. The body did not run; in a transaction of the caller's it may have,
    /// and what it wrote there was taken back.
    Store(StoreError),
    /// The body ran, and the database did not say whether it has committed what the body did and its record. Neither is there
    /// without the other: the same call, made again, finds out. See [`Call::commit`](crate::Call::commit).
    CommitUnknown(StoreError),
    /// The key cannot be used. Nothing was claimed.
    Key(KeyError),
    /// An argument cannot be hashed, or not be recorded. Nothing was claimed.
    Arguments(ArgumentsError),
    /// More duplicates are waiting in this process than the limit allows. The body did not run.
    TooManyWaiters,
    /// No store is installed, and the function names none. The body did not run.
    NotInstalled,
    /// The operation's name or policies cannot work. Nothing was claimed.
    Operation(OperationError),
    /// There can be no [step](crate::step) here. Its body did not run.
    Step(StepError),
}

impl Error {
    /// [`InFlight`](Self::InFlight), for doubles of annotated functions in tests.
    #[must_use]
    pub const fn in_flight(retry_after: Duration) -> Self {
        Self::InFlight { retry_after }
    }

    /// [`Mismatch`](Self::Mismatch) in the arguments of these names, for doubles of annotated functions in tests.
    #[must_use]
    pub fn mismatch(arguments: impl IntoIterator<Item = String>) -> Self {
        Self::Mismatch { arguments: arguments.into_iter().collect() }
    }

    /// [`Abandoned`](Self::Abandoned) by this attempt, for doubles of annotated functions in tests.
    #[must_use]
    pub const fn abandoned(attempt: u32) -> Self {
        Self::Abandoned { attempt, may_retry: false }
    }

    /// [`Abandoned`](Self::Abandoned) by this attempt, of which a later call may know more.
    pub(crate) const fn unresolved(attempt: u32) -> Self {
        Self::Abandoned { attempt, may_retry: true }
    }

    /// [`Suspended`](Self::Suspended) after this attempt, for doubles of annotated functions in tests.
    #[must_use]
    pub const fn suspended(retry_after: Duration, attempt: u32) -> Self {
        Self::Suspended { retry_after, attempt }
    }

    /// True if the same call, made again later, may succeed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::InFlight { .. }
            | Self::Suspended { .. }
            | Self::ClaimLost
            | Self::CommitUnknown(_)
            | Self::TooManyWaiters => true,
            Self::Abandoned { may_retry, .. } => *may_retry,
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// The time after which the same call may get on, where the error knows it: the rest of a lease or of a pause.
    ///
    /// The library calls nothing by itself: whoever makes the call makes it again, a queue, a client, or a loop as this one.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use idempotent_runtime::Error;
    /// # async fn charge() -> Result<u32, Error> { Ok(1) }
    /// # async fn until_it_is_charged() -> Result<u32, Error> {
    /// loop {
    ///     match charge().await {
    ///         Err(error) if error.is_retryable() => {
    ///             tokio::time::sleep(error.retry_after().unwrap_or(Duration::from_secs(1))).await;
    ///         }
    ///         answer => return answer,
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::InFlight { retry_after } | Self::Suspended { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// The HTTP status that says the same to a client.
    ///
    /// | status | error |
    /// |---|---|
    /// | 400 | [`Key`](Self::Key), [`Arguments`](Self::Arguments) |
    /// | 409 | [`InFlight`](Self::InFlight), [`Suspended`](Self::Suspended), [`ClaimLost`](Self::ClaimLost), [`Abandoned`](Self::Abandoned) |
    /// | 422 | [`Mismatch`](Self::Mismatch): the key was used before with another request |
    /// | 503 | [`TooManyWaiters`](Self::TooManyWaiters), [`CommitUnknown`](Self::CommitUnknown), [`Store`](Self::Store) if it may succeed later |
    /// | 500 | all others |
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::InFlight { .. } | Self::Suspended { .. } | Self::ClaimLost | Self::Abandoned { .. } => 409,
            Self::Mismatch { .. } => 422,
            Self::Key(_) | Self::Arguments(_) => 400,
            Self::Store(error) if error.is_retryable() => 503,
            Self::TooManyWaiters | Self::CommitUnknown(_) => 503,
            Self::Store(_)
            | Self::Exhausted
            | Self::ResultNotKept(_)
            | Self::Undecodable(_)
            | Self::NotInstalled
            | Self::Operation(_)
            | Self::Step(_) => 500,
        }
    }
}

/// The names of the errors, and the problem types that end with them.
macro_rules! codes {
    ($($variant:pat => $code:literal,)*) => {
        impl Error {
            /// A stable, machine-readable name: the last part of a problem type URI, a metric's label.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                match self {
                    $($variant => $code,)*
                }
            }

            /// The problem type (RFC 9457) of this error, a URI that identifies its meaning: `urn:idempotent:problem:`
            /// and the [`code`](Self::code).
            #[must_use]
            pub const fn problem_type(&self) -> &'static str {
                match self {
                    $($variant => concat!("urn:idempotent:problem:", $code),)*
                }
            }
        }
    };
}

codes! {
    Self::InFlight { .. } => "in-flight",
    Self::Mismatch { .. } => "mismatch",
    Self::Abandoned { .. } => "abandoned",
    Self::Suspended { .. } => "suspended",
    Self::Exhausted => "exhausted",
    Self::ClaimLost => "claim-lost",
    Self::ResultNotKept(_) => "result-not-kept",
    Self::Undecodable(_) => "undecodable",
    Self::Store(_) => "store",
    Self::CommitUnknown(_) => "commit-unknown",
    Self::Key(_) => "key",
    Self::Arguments(_) => "arguments",
    Self::TooManyWaiters => "too-many-waiters",
    Self::NotInstalled => "not-installed",
    Self::Operation(_) => "operation",
    Self::Step(_) => "step",
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InFlight { retry_after } => write!(
                f,
                "another call with this idempotency key is still running; retry in at most {} ms",
                retry_after.as_millis()
            ),
            Self::Mismatch { arguments } => {
                f.write_str("this idempotency key was used before with other arguments")?;
                if arguments.is_empty() { Ok(()) } else { write!(f, "; these differ: {}", arguments.join(", ")) }
            }
            Self::Abandoned { attempt, may_retry: false } => {
                write!(
                    f,
                    "run {attempt} of this idempotency key ended without an outcome, and its operation allows no other \
                     run; an operator must find out whether it happened, and resolve its record"
                )
            }
            Self::Abandoned { attempt, may_retry: true } => {
                write!(
                    f,
                    "run {attempt} of this idempotency key ended without an outcome, and it could not be found out \
                     whether it happened; retry later"
                )
            }
            Self::Suspended { retry_after, attempt } => write!(
                f,
                "run {attempt} of this idempotency key did not succeed, and the next may begin in {} ms; retry then",
                retry_after.as_millis()
            ),
            Self::Exhausted => {
                f.write_str("this idempotency key was run as often as its operation allows, and each run failed")
            }
            Self::ClaimLost => f.write_str(
                "the claim on this idempotency key was lost to another run, whose result is not known yet; retry later",
            ),
            Self::ResultNotKept(why) => {
                write!(f, "an earlier call with this idempotency key ran, and its result was not kept: {why}")
            }
            Self::Undecodable(_) => f.write_str("the record of this idempotency key cannot be decoded"),
            Self::Store(_) => f.write_str("the idempotency store failed"),
            Self::CommitUnknown(_) => f.write_str(
                "the database did not say whether it has committed the run of this idempotency key; retry to find out",
            ),
            Self::Key(error) => write!(f, "the idempotency key cannot be used: {error}"),
            Self::Arguments(error) => write!(f, "the arguments cannot be used: {error}"),
            Self::TooManyWaiters => f.write_str("too many calls are waiting for running duplicates; retry later"),
            Self::NotInstalled => f.write_str(
                "no idempotency store is installed: at start-up, write \
                     `idempotent_runtime::install(Idempotency::connect(\"…\").await?)?`, or name one with `store = …`",
            ),
            Self::Operation(error) => write!(f, "the operation cannot be called: {error}"),
            Self::Step(error) => write!(f, "the step did not run: {error}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Undecodable(error) => Some(error),
            Self::Store(error) | Self::CommitUnknown(error) => Some(error),
            // The text of the error itself repeats that of a key's, the arguments' or the operation's error.
            _ => None,
        }
    }
}

/// A record that cannot be read.
#[derive(Clone)]
#[non_exhaustive]
pub enum Undecodable {
    /// The value that is stored under the key is not a record of this library, or is damaged.
    Record(StoreError),
    /// The record holds a result of another type than the function returns now.
    Result(Arc<serde_json::Error>),
    /// The record holds a stored error, but the operation stores none.
    StoredError,
}

/// Without what serde says: it can quote the result.
impl fmt::Debug for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(error) => f.debug_tuple("Record").field(error).finish(),
            Self::Result(error) => f.debug_tuple("Result").field(&error.classify()).finish(),
            Self::StoredError => f.write_str("StoredError"),
        }
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(error) => error.fmt(f),
            // serde_json's own text can quote the value; its category cannot.
            Self::Result(error) => write!(
                f,
                "the stored result is not of the type that the function returns ({:?} error at column {})",
                error.classify(),
                error.column()
            ),
            Self::StoredError => f.write_str("an error is stored, but this operation stores no errors"),
        }
    }
}

impl StdError for Undecodable {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Record(error) => error.source(),
            Self::Result(_) | Self::StoredError => None,
        }
    }
}

/// An operation that cannot be called with this name, these policies or this store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperationError {
    /// Its name is empty or longer than 255 bytes.
    Name,
    /// Its name is the default one of a function, and another function of this process has it too: each would get the
    /// other's results.
    NameTaken(NameConflict),
    /// Its name is the default one of a function in a generic `impl` or in a trait, at this file and line: the function of
    /// each type has it, and each would get the others' results.
    DefaultName(Arc<str>),
    /// Its `lease` is shorter than 10 ms.
    LeaseTooShort,
    /// Its `ttl` is shorter than its `lease`.
    TtlBelowLease,
    /// Its `ttl` is longer than 50 years.
    TtlTooLong,
    /// It names a transaction, and the store is neither PostgreSQL nor SQLite.
    NoTransactions,
    /// Its `max_attempts` is 0.
    NoAttempts,
    /// Its `retry_after` is longer than its `ttl`.
    RetryAfterAboveTtl,
    /// It counts, delays or reconciles its runs, and is called in a transaction, which may take a run back.
    AttemptsInTransaction,
}

impl OperationError {
    pub(crate) const fn text(&self) -> &'static str {
        match self {
            Self::Name => "its name is empty or longer than 255 bytes",
            Self::NameTaken(_) => "another function has its name",
            Self::DefaultName(_) => {
                "its function is in a generic `impl` or in a trait, and each type has one of its name"
            }
            Self::LeaseTooShort => "its `lease` is shorter than 10 ms",
            Self::TtlBelowLease => "its `ttl` is shorter than its `lease`",
            Self::TtlTooLong => "its `ttl` is longer than 50 years",
            Self::NoTransactions => "its `transaction` needs a store in PostgreSQL or SQLite",
            Self::NoAttempts => "its `max_attempts` is 0",
            Self::RetryAfterAboveTtl => "its `retry_after` is longer than its `ttl`",
            Self::AttemptsInTransaction => {
                "in a transaction, which may take a run back, there is no `max_attempts`, `retry_after` or `reconcile`"
            }
        }
    }
}

impl fmt::Display for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match self {
            Self::NameTaken(conflict) => write!(f, ": {conflict}"),
            Self::DefaultName(place) => write!(
                f,
                ": write `name = \"…\"` in the attribute at {place}, and put what tells the types apart into the `key`, or they \
                 answer for each other"
            ),
            _ => Ok(()),
        }
    }
}

impl StdError for OperationError {}

/// The reason why a step did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepError {
    /// It is outside the body of an idempotent function, or in a task that the body has spawned.
    Outside,
    /// It is inside another step.
    InStep,
    /// The function around it runs in a transaction of its caller.
    InTransaction,
    /// It is in the function that `abandoned = reconcile(…)` asks.
    InReconcile,
    /// A step of this name is under way, has ended in this run, could not be recorded, or has a value that cannot be read.
    NameInUse,
    /// The run has as many steps, or as many bytes of steps, as the limits allow.
    TooMany,
    /// Its name cannot be used.
    Name(KeyError),
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outside => {
                "it is outside the body of an idempotent function, or in a task that the body has spawned: await it in the \
                 body itself"
            }
            Self::InStep => "it is inside another step: begin it after that one, or make that one several",
            Self::InTransaction => {
                "the function around it runs in a transaction of its caller, which takes all of it back or none: leave \
                 `step` out"
            }
            Self::InReconcile => "it is in a function that only finds out what happened: leave `step` out",
            Self::NameInUse => {
                "a step of its name is under way or has ended in this run: give each step its own name, in a loop with the item \
                 in it, such as `(\"item\", id)`; but where that step failed with an error of this library, return that error, \
                 since under another name it may happen twice"
            }
            Self::TooMany => "the run has as many steps as `max_steps` and `max_steps_len` allow",
            Self::Name(error) => return write!(f, "its name cannot be used: {error}"),
        })
    }
}

impl StdError for StepError {}

/// Two functions with one name, of which at least one is a default name. Its text says where they are, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameConflict {
    name: Arc<str>,
    places: [Arc<str>; 2],
}

impl NameConflict {
    pub(crate) fn new(name: &str, first: &str, second: &str) -> Self {
        Self { name: name.into(), places: [first.into(), second.into()] }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file and line of the function that was called first, and of the one that is refused.
    #[must_use]
    pub fn places(&self) -> [&str; 2] {
        self.places.each_ref().map(|place| &**place)
    }
}

impl fmt::Display for NameConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, places: [first, second] } = self;
        write!(
            f,
            "`{name}` names two functions, at {first} and at {second}: write `name = \"…\"` in the attribute of each"
        )
    }
}

/// A fault of start-up: of a builder, a store's connection or schema, or [`install`](crate::install).
///
/// No call answers it, and there is no conversion into [`Error`]: a program that has both returns `Box<dyn Error>`,
/// or an error type with a variant for each.
///
/// ```
/// use idempotent_runtime::{Idempotency, SetupError};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
///
/// let unknown = Idempotency::connect("http://localhost").await.unwrap_err();
/// assert!(matches!(unknown, SetupError::Scheme { feature: None, .. }));
/// # });
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// The URL's scheme names no store that is compiled in.
    #[non_exhaustive]
    Scheme {
        /// The feature that brings the store, where there is one.
        feature: Option<&'static str>,
    },
    /// The rest of the URL is not understood. The text never repeats credentials.
    Url(&'static str),
    /// A setting is out of its range, or contradicts another.
    Setting(&'static str),
    /// A handle is installed already, or a call has used the embedded store.
    AlreadyInstalled,
    /// The store cannot be reached, refuses us, or does not allow the promises.
    Store(StoreError),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme { feature: Some(feature) } => write!(
                f,
                "the store that the URL names is not compiled in: enable the feature `{feature}` of idempotent-runtime"
            ),
            Self::Scheme { feature: None } => f.write_str(
                "the URL's scheme names no store: expected memory:, redis://, rediss://, redis+cluster://, \
                 redis+sentinel://, postgres:// or sqlite://",
            ),
            Self::Url(what) => write!(f, "the store's URL is not understood: {what}"),
            Self::Setting(what) => f.write_str(what),
            Self::AlreadyInstalled => f.write_str(
                "a handle is installed already, or a call has used the embedded store: call `install` once, at \
                 start-up, before any other call",
            ),
            Self::Store(_) => f.write_str("the idempotency store cannot be set up"),
        }
    }
}

impl StdError for SetupError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StoreError> for SetupError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

macro_rules! from {
    ($($source:ty => $variant:ident),* $(,)?) => {$(
        impl From<$source> for Error {
            fn from(error: $source) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from!(
    KeyError => Key,
    ArgumentsError => Arguments,
    OperationError => Operation,
    StepError => Step,
    Undecodable => Undecodable,
);

/// A corrupt record is undecodable; every other fault is the store's.
impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            crate::StoreErrorKind::Corrupt => Self::Undecodable(Undecodable::Record(error)),
            _ => Self::Store(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_printed_with_its_causes_says_nothing_twice() {
        let arguments = ArgumentsError { argument: "a", reason: "why" };
        let store = || StoreError::new(crate::StoreErrorKind::Refused, "refused");
        let calls = [Error::from(KeyError::Missing), arguments.into(), OperationError::Name.into(), store().into()];
        let calls = calls.into_iter().map(|error| Box::new(error) as Box<dyn StdError>);
        let setup = [SetupError::Url("what"), SetupError::Setting("why"), SetupError::Store(store())];
        for error in calls.chain(setup.map(|error| Box::new(error) as Box<dyn StdError>)) {
            let text = error.to_string();
            let cause = error.source().map(ToString::to_string);
            assert!(cause.is_none_or(|cause| !text.contains(&cause)), "{text}");
        }
    }
}
