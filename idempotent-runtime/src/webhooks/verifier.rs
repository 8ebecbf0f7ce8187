//! Verifies headers and bytes, and makes a delivery of them.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hmac::{
    Mac as _,
    digest::{CtOutput, array::Array},
};
use http::HeaderMap;
use serde::Deserialize;

use super::{
    VerifyError, header,
    schemes::{Scheme, Unverified},
    secret::{self, HmacKey},
};
use crate::error::SetupError;

/// The tolerance of the senders' own libraries.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Verifies the deliveries of one sender to one endpoint.
///
/// It takes all valid secrets: while one replaces another, a delivery may be signed with either.
///
/// ```
/// # use idempotent_runtime::SetupError;
/// use std::time::Duration;
/// use idempotent_runtime::webhooks::Verifier;
///
/// # fn main() -> Result<(), SetupError> {
/// let verifier = Verifier::standard(["whsec_bmV3IHNlY3JldA==", "whsec_b2xkIHNlY3JldA=="])?;
/// let patient = verifier.tolerance(Duration::from_secs(600))?;
/// assert!(Verifier::standard([""]).is_err());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Verifier {
    scheme: Scheme,
    keys: Vec<HmacKey>,
    tolerance: Duration,
}

impl Verifier {
    /// Verifies senders that follow [Standard Webhooks](https://www.standardwebhooks.com), with secrets like `whsec_…`.
    ///
    /// Reads the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`, or, of senders on
    /// [Svix](https://docs.svix.com/receiving/verifying-payloads/how-manual), `svix-id`, `svix-timestamp` and `svix-signature`. A
    /// delivery that has headers of both families is refused.
    ///
    /// Reads the symmetric signatures, `v1`, and ignores the asymmetric ones, `v1a`.
    ///
    /// # Errors
    ///
    /// There is no secret, or one that is empty, has white space around it, or is not base64.
    pub fn standard<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, SetupError> {
        Self::new(Scheme::Standard, secrets)
    }

    /// Verifies [Stripe](https://docs.stripe.com/webhooks), with an endpoint's secrets like `whsec_…`.
    ///
    /// # Errors
    ///
    /// There is no secret, or one that is empty or has white space around it.
    pub fn stripe<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, SetupError> {
        Self::new(Scheme::Stripe, secrets)
    }

    /// Verifies [GitHub](https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries), with the secrets that
    /// you chose.
    ///
    /// # Errors
    ///
    /// There is no secret, or one that is empty or has white space around it.
    pub fn github<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, SetupError> {
        Self::new(Scheme::GitHub, secrets)
    }

    /// Verifies [Shopify](https://shopify.dev/docs/apps/build/webhooks/subscribe/https), with an app's client secrets.
    ///
    /// # Errors
    ///
    /// There is no secret, or one that is empty or has white space around it.
    pub fn shopify<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, SetupError> {
        Self::new(Scheme::Shopify, secrets)
    }

    fn new<S: AsRef<str>>(scheme: Scheme, secrets: impl IntoIterator<Item = S>) -> Result<Self, SetupError> {
        let keys: Vec<_> =
            secrets.into_iter().map(|secret| secret::key(scheme, secret.as_ref())).collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(SetupError::Setting("no secret was given to verify webhooks with"));
        }
        Ok(Self { scheme, keys, tolerance: TOLERANCE })
    }

    /// Sets the largest difference between the time of an attempt and this machine's clock: 5 minutes by default.
    ///
    /// # Errors
    ///
    /// If it is zero, or if the sender does not sign a timestamp (GitHub, Shopify).
    pub fn tolerance(mut self, tolerance: Duration) -> Result<Self, SetupError> {
        if !self.scheme.has_timestamp() {
            return Err(SetupError::Setting("this sender does not sign a timestamp, so a tolerance cannot be set"));
        }
        if tolerance.is_zero() {
            return Err(SetupError::Setting("the tolerance for webhooks must not be zero"));
        }
        self.tolerance = tolerance;
        Ok(self)
    }

    /// Verifies that an owner of a secret sent the delivery, in time. `body` must be the body as it came over the wire, to the
    /// byte.
    ///
    /// Compares signatures in constant time, and parses nothing of the body before that.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]: answer `400 Bad Request`.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<Delivery, VerifyError> {
        #[expect(clippy::disallowed_methods, reason = "the sender's clock is compared with ours: no store is asked")]
        self.verify_at(headers, body, SystemTime::now())
    }

    /// Verifies a delivery as [`verify`](Self::verify) does, at another time: for tests with recorded deliveries.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    pub fn verify_at(&self, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Result<Delivery, VerifyError> {
        let unverified = self.scheme.read(headers)?;
        if !self.is_signed(&unverified, body) {
            return Err(VerifyError::WrongSignature);
        }
        let timestamp = unverified.timestamp.map(|seconds| self.in_time(seconds, now)).transpose()?;
        let id = match unverified.id {
            Some(id) => id.to_owned(),
            None => id_in(body)?,
        };
        Ok(Delivery { id, timestamp })
    }

    /// True if one of the signatures was made with one of the keys.
    fn is_signed(&self, unverified: &Unverified<'_>, body: &[u8]) -> bool {
        self.keys.iter().any(|key| {
            let right = key.clone().chain_update(&unverified.preamble).chain_update(body).finalize();
            // `CtOutput` compares in constant time.
            unverified.signatures.iter().any(|signature| right == CtOutput::new(Array::from(*signature)))
        })
    }

    fn in_time(&self, seconds: u64, now: SystemTime) -> Result<SystemTime, VerifyError> {
        let then = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(VerifyError::TooNew)?;
        match now.duration_since(then) {
            Ok(age) if age > self.tolerance => Err(VerifyError::TooOld),
            Err(ahead) if ahead.duration() > self.tolerance => Err(VerifyError::TooNew),
            _ => Ok(then),
        }
    }
}

/// Shows the number of secrets, not the secrets.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("scheme", &self.scheme)
            .field("secrets", &self.keys.len())
            .field("tolerance", &self.tolerance)
            .finish()
    }
}

/// Reads the event id in the body, for Stripe.
fn id_in(body: &[u8]) -> Result<String, VerifyError> {
    #[derive(Deserialize)]
    struct Event {
        id: String,
    }
    let event: Event = serde_json::from_slice(body).map_err(|_| VerifyError::NoEventId)?;
    if header::is_id(&event.id) { Ok(event.id) } else { Err(VerifyError::NoEventId) }
}

/// A delivery that its sender signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    id: String,
    timestamp: Option<SystemTime>,
}

impl Delivery {
    /// The event's id, the same for each attempt to deliver it: 1 to 255 characters of visible ASCII. The key is made from it,
    /// the sender and the endpoint.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The time at which this attempt was signed, if the sender signs one. It is not the time of the event.
    #[must_use]
    pub const fn timestamp(&self) -> Option<SystemTime> {
        self.timestamp
    }
}

/// Does not show the id, which does not belong into logs.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("timestamp", &self.timestamp).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
