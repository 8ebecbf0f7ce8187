//! Why a delivery is refused.

use std::fmt;

/// Why a delivery was not verified. Answer `400 Bad Request`, and do nothing else with it.
///
/// No text contains an id, a signature or a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// This header is missing.
    MissingHeader(&'static str),
    /// This header is there more than once, too long, or not as the scheme says.
    MalformedHeader(&'static str),
    /// No signature is one of a secret on these bytes: sent by somebody else, signed with another secret, or changed on
    /// the way. A framework that parses and writes the body anew changes it.
    WrongSignature,
    /// Signed rightly, but longer ago than is tolerated: a repeat by somebody else, or this machine's clock is ahead.
    TooOld,
    /// Signed rightly, but at a time that has not come: this machine's clock is behind.
    TooNew,
    /// Signed rightly, but the body is not a JSON object with the id of an event.
    NoEventId,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingHeader(name) => write!(f, "the header `{name}` is missing"),
            Self::MalformedHeader(name) => write!(f, "the header `{name}` cannot be read"),
            Self::WrongSignature => f.write_str("no signature fits"),
            Self::TooOld => f.write_str("it was signed too long ago"),
            Self::TooNew => f.write_str("it was signed at a time that has not come"),
            Self::NoEventId => f.write_str("the body has no event id"),
        }
    }
}

impl std::error::Error for VerifyError {}
