//! The request of the next call, as far as an operator knows it, and its comparison with that of a record.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::{
    request::{
        arguments::{self, differing, surely_differing},
        error::ArgumentsError,
        fingerprint::Fingerprint,
    },
    store::Record,
};

/// The most bytes of JSON in which arguments are compared by name.
const MAX_ARGUMENTS_LEN: usize = 16 << 20;

/// The request of the next call, as far as an operator knows it.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum NextRequest {
    /// Nothing is known: the call is taken to be a repeat.
    #[default]
    Unknown,
    /// Its fingerprint, and its arguments as JSON where they can be written so.
    Known(Fingerprint, Option<Bytes>),
    /// Its arguments, as the JSON that serde writes of them. JSON does not tell all types apart, so a comparison may have
    /// no answer.
    Json(Bytes),
}

impl NextRequest {
    /// The request of a call with these arguments: of the same type as in
    /// [`Call::arguments`](crate::Call::arguments), or a struct of the arguments that an annotated function hashes.
    ///
    /// # Errors
    ///
    /// As [`Fingerprint::of`].
    pub fn of<A: Serialize + ?Sized>(arguments: &A) -> Result<Self, ArgumentsError> {
        let json = arguments::json(arguments, MAX_ARGUMENTS_LEN).ok();
        Ok(Self::Known(Fingerprint::of(arguments)?, json))
    }

    /// The comparison with the request of a record.
    pub(super) fn check(&self, record: &Record) -> RequestCheck {
        match self {
            Self::Unknown => RequestCheck::Unknown,
            Self::Known(fingerprint, _) if *fingerprint == record.fingerprint => RequestCheck::Same,
            Self::Known(_, json) => {
                let both = json.as_ref().zip(record.arguments.as_ref());
                let names = both.map(|(ours, recorded)| differing(ours, recorded).to_vec());
                RequestCheck::Differs { arguments: names.unwrap_or_default() }
            }
            Self::Json(json) => {
                let value = serde_json::from_slice::<Value>(json).ok();
                let fingerprint = value.and_then(|value| Fingerprint::of(&value).ok());
                if fingerprint == Some(record.fingerprint) {
                    return RequestCheck::Same;
                }
                match record.arguments.as_ref().and_then(|recorded| surely_differing(json, recorded)) {
                    Some(arguments) => RequestCheck::Differs { arguments },
                    None => RequestCheck::Unknown,
                }
            }
        }
    }
}

/// Arguments are not for logs.
impl fmt::Debug for NextRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "Unknown",
            Self::Known(..) => "Known(..)",
            Self::Json(_) => "Json(..)",
        })
    }
}

/// The request of the next call beside that of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestCheck {
    /// They are the same.
    Same,
    /// They differ.
    #[non_exhaustive]
    Differs {
        /// The arguments that differ, where both are known by name.
        arguments: Vec<String>,
    },
    /// Nobody can tell: the request is not known, or its JSON fits more than one.
    Unknown,
}
