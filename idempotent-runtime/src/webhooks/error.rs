//! The reasons for refusing a delivery.

use std::fmt;

/// The reason why a delivery was not verified. Answer `400 Bad Request`, and do nothing else with the delivery.
///
/// The texts contain no id, signature or secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// This header is missing.
    MissingHeader(&'static str),
    /// This header is given more than once, is too long, or does not follow the sender's scheme.
    MalformedHeader(&'static str),
    /// No signature matches: somebody else sent the delivery, it was signed with another secret, or it was changed on the way.
    /// A framework that parses the body and writes it again changes it.
    WrongSignature,
    /// The signature matches, but is older than the tolerance: somebody repeats an old delivery, or this machine's clock is ahead.
    TooOld,
    /// The signature matches, but its time is in the future: this machine's clock is behind.
    TooNew,
    /// The signature matches, but the body is not a JSON object with the id of an event.
    NoEventId,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingHeader(name) => write!(f, "the header `{name}` is missing"),
            Self::MalformedHeader(name) => write!(f, "the header `{name}` is malformed"),
            Self::WrongSignature => f.write_str("no signature matches the body and a secret"),
            Self::TooOld => f.write_str("the delivery was signed too long ago"),
            Self::TooNew => f.write_str("the delivery was signed at a time in the future"),
            Self::NoEventId => f.write_str("the body has no event id"),
        }
    }
}

impl std::error::Error for VerifyError {}
