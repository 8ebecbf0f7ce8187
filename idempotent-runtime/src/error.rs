//! What a call can answer instead of the body's own result.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::store::{NotKept, StoreError};

/// Why a call did not return a result of its body.
///
/// The variants are by meaning; [`is_retryable`](Self::is_retryable), [`http_status`](Self::http_status) and
/// [`code`](Self::code) say what to do with them. No text contains keys, arguments or results. Cheap to clone: all
/// duplicates of a call get the same error.
///
/// ```
/// use idempotent_runtime::Error;
/// let refused = Error::Mismatch { arguments: ["amount_cents".to_owned()].into() };
/// assert!(!refused.is_retryable());
/// assert_eq!(refused.http_status(), 422);
/// assert!(refused.to_string().ends_with("; these differ: amount_cents"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Another call with this key is running, and was not done within `wait`. The body did not run.
    InFlight {
        /// What was left of the running claim's lease: after that long the key is done, or can be taken over.
        retry_after: Duration,
    },
    /// The key was used before with other arguments. The body did not run and the record is unchanged.
    Mismatch {
        /// The names of arguments that differ, as far as they are known, never their values. Empty unless both calls
        /// [recorded](crate::IdempotencyBuilder::record_arguments) theirs.
        arguments: Arc<[String]>,
    },
    /// A run of this key ended without an outcome and the operation says `abandoned = refuse`: its effects may or may
    /// not have happened. The body did not run again; an operator resolves it with [`Idempotency::forget`].
    ///
    /// [`Idempotency::forget`]: crate::Idempotency::forget
    Abandoned {
        /// The attempt that was abandoned.
        attempt: u32,
    },
    /// The body ran, but its claim was lost to another run meanwhile, and that run has no result yet. The result is
    /// refused, since the other run's will be the key's answer: ask again.
    ClaimLost,
    /// The body ran for an earlier call, and what it returned could not be kept. It does not run again.
    ResultNotKept(NotKept),
    /// A record exists that cannot be read: not ours, damaged, or of another result type. The body did not run.
    Undecodable(Undecodable),
    /// The store failed before the body could run. The body did not run; in a transaction of the caller's it may have, and
    /// what it wrote there was taken back.
    Store(StoreError),
    /// The key cannot be used. Nothing was claimed.
    Key(KeyError),
    /// An argument cannot be hashed, or not be recorded. Nothing was claimed.
    Arguments(ArgumentsError),
    /// More duplicates are waiting in this process than the limit allows. The body did not run.
    TooManyWaiters,
    /// No store is installed, and the function names none. The body did not run.
    NotInstalled,
    /// A setting cannot work: a store URL that is not understood, a limit that contradicts another.
    Config(ConfigError),
}

impl Error {
    /// Whether the same call, made again later, may succeed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::InFlight { .. } | Self::ClaimLost | Self::TooManyWaiters => true,
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// The HTTP status that says the same to a client.
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::InFlight { .. } | Self::ClaimLost | Self::Abandoned { .. } => 409,
            Self::Mismatch { .. } => 422,
            Self::Key(_) | Self::Arguments(_) => 400,
            Self::Store(_) | Self::TooManyWaiters => 503,
            Self::ResultNotKept(_) | Self::Undecodable(_) | Self::NotInstalled | Self::Config(_) => 500,
        }
    }

    /// A stable, machine-readable name: the last part of a problem type URI, a metric's label.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InFlight { .. } => "in-flight",
            Self::Mismatch { .. } => "mismatch",
            Self::Abandoned { .. } => "abandoned",
            Self::ClaimLost => "claim-lost",
            Self::ResultNotKept(_) => "result-not-kept",
            Self::Undecodable(_) => "undecodable",
            Self::Store(_) => "store",
            Self::Key(_) => "key",
            Self::Arguments(_) => "arguments",
            Self::TooManyWaiters => "too-many-waiters",
            Self::NotInstalled => "not-installed",
            Self::Config(_) => "config",
        }
    }

    /// The problem type (RFC 9457) of this error, a URI that identifies its meaning.
    #[must_use]
    pub const fn problem_type(&self) -> &'static str {
        match self {
            Self::InFlight { .. } => "urn:idempotent:problem:in-flight",
            Self::Mismatch { .. } => "urn:idempotent:problem:mismatch",
            Self::Abandoned { .. } => "urn:idempotent:problem:abandoned",
            Self::ClaimLost => "urn:idempotent:problem:claim-lost",
            Self::ResultNotKept(_) => "urn:idempotent:problem:result-not-kept",
            Self::Undecodable(_) => "urn:idempotent:problem:undecodable",
            Self::Store(_) => "urn:idempotent:problem:store",
            Self::Key(_) => "urn:idempotent:problem:key",
            Self::Arguments(_) => "urn:idempotent:problem:arguments",
            Self::TooManyWaiters => "urn:idempotent:problem:too-many-waiters",
            Self::NotInstalled => "urn:idempotent:problem:not-installed",
            Self::Config(_) => "urn:idempotent:problem:config",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InFlight { retry_after } => write!(
                f,
                "a call with this idempotency key is still running; ask again, at the latest in {} ms",
                retry_after.as_millis()
            ),
            Self::Mismatch { arguments } => {
                f.write_str("this idempotency key was used before with other arguments")?;
                if arguments.is_empty() { Ok(()) } else { write!(f, "; these differ: {}", arguments.join(", ")) }
            }
            Self::Abandoned { attempt } => {
                write!(f, "run {attempt} of this idempotency key ended without an outcome, and it may not be run again")
            }
            Self::ClaimLost => {
                f.write_str("the claim on this idempotency key was lost to another run, whose result is not known yet")
            }
            Self::ResultNotKept(why) => {
                write!(f, "the call ran before and its result was not kept: {why}")
            }
            Self::Undecodable(_) => f.write_str("the record of this idempotency key cannot be decoded"),
            Self::Store(_) => f.write_str("the idempotency store failed"),
            Self::Key(error) => write!(f, "the idempotency key cannot be used: {error}"),
            Self::Arguments(error) => write!(f, "the arguments cannot be used: {error}"),
            Self::TooManyWaiters => f.write_str("too many calls are waiting for running duplicates"),
            Self::NotInstalled => f.write_str(
                "no idempotency store is installed: at start-up, write \
                     `idempotent_runtime::install(Idempotency::connect(\"…\").await?)?`, or name one with `store = …`",
            ),
            Self::Config(error) => write!(f, "wrong configuration: {error}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Undecodable(error) => Some(error),
            Self::Store(error) => Some(error),
            // What is wrong with a key, arguments or settings is in their own text.
            _ => None,
        }
    }
}

/// A record that cannot be read.
#[derive(Clone)]
#[non_exhaustive]
pub enum Undecodable {
    /// What is stored under the key is not a record of this library, or is damaged.
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

/// A key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The key, or a part of it, is `None`, `()` or null: calls without a key would all share one record.
    Missing,
    /// The encoded key is longer than the limit.
    TooLong {
        /// Its length in bytes, encoded, as far as it was: it may be longer.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The operation's name is empty or too long.
    Operation,
    /// A part of the key is of a kind that does not identify anything: a float, a map.
    Unsupported(&'static str),
    /// The `Serialize` implementation of a part failed.
    Failed,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is missing (`None` or null)"),
            Self::TooLong { len, max } => write!(f, "it has at least {len} bytes, the limit is {max}"),
            Self::Operation => f.write_str("the operation's name is empty or longer than 255 bytes"),
            Self::Unsupported(kind) => write!(f, "a {kind} does not identify anything"),
            Self::Failed => f.write_str("a part of it failed to serialize"),
        }
    }
}

impl StdError for KeyError {}

/// An argument that cannot be hashed, or not be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentsError {
    pub(crate) argument: &'static str,
    pub(crate) reason: &'static str,
}

impl ArgumentsError {
    /// The argument's name, empty where the arguments have none.
    #[must_use]
    pub const fn argument(&self) -> &'static str {
        self.argument
    }
}

impl fmt::Display for ArgumentsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.argument.is_empty() {
            f.write_str(self.reason)
        } else {
            write!(f, "`{}`: {}", self.argument, self.reason)
        }
    }
}

impl StdError for ArgumentsError {}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL's scheme names no store that is compiled in.
    Scheme {
        /// The feature that would bring it, where there is one.
        feature: Option<&'static str>,
    },
    /// The rest of the URL is not understood. Credentials are never repeated.
    Url(&'static str),
    /// A handle was installed before, or the embedded one is in use already.
    AlreadyInstalled,
    /// Two settings, or a setting and its range, contradict.
    Setting(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme { feature: Some(feature) } => {
                write!(f, "the URL's store needs the feature `{feature}` of idempotent-runtime")
            }
            Self::Scheme { feature: None } => f.write_str(
                "the URL's scheme is none of memory:, redis://, rediss://, redis+cluster://, redis+sentinel://, \
                 postgres://, sqlite://",
            ),
            Self::Url(what) => write!(f, "the store URL is not understood: {what}"),
            Self::AlreadyInstalled => f.write_str(
                "a store is installed already, or calls have used the embedded one: install at start-up, once",
            ),
            Self::Setting(what) => f.write_str(what),
        }
    }
}

impl StdError for ConfigError {}

macro_rules! from {
    ($($source:ty => $variant:ident),* $(,)?) => {$(
        impl From<$source> for Error {
            fn from(error: $source) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from!(KeyError => Key, ArgumentsError => Arguments, ConfigError => Config, Undecodable => Undecodable);

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
    fn who_prints_an_error_with_its_causes_says_nothing_twice() {
        let arguments = ArgumentsError { argument: "a", reason: "why" };
        for error in [Error::from(KeyError::Missing), arguments.into(), ConfigError::Url("what").into()] {
            let text = error.to_string();
            let cause = error.source().map(ToString::to_string);
            assert!(cause.is_none_or(|cause| !text.contains(&cause)), "{text}");
        }
    }
}
