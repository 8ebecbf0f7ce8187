//! Keys and arguments that cannot be used. Their texts never repeat a value.

use std::{error::Error as StdError, fmt};

/// A key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The key, or a part of it, is `None`, `()`, null or an empty string, or the whole key is an empty sequence or a struct
    /// without fields: calls without a key would all share one record.
    Missing,
    /// The encoded key is longer than the limit.
    #[non_exhaustive]
    TooLong {
        /// Its encoded length in bytes when the limit was exceeded: the whole key may be longer.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A part of the key is of a kind that does not identify anything: a float, a map.
    Unsupported(&'static str),
    /// The `Serialize` implementation of a part failed.
    Failed,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is missing: `None`, null, empty, or without fields"),
            Self::TooLong { len, max } => {
                write!(f, "it has at least {len} bytes, and the limit is {max} (`max_key_len`)")
            }
            Self::Unsupported(kind) => {
                write!(f, "a {kind} cannot be part of a key, since it does not identify anything")
            }
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
