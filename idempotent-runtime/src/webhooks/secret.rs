//! Reads the secrets that senders hand out.

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit as _};
use sha2::Sha256;

use super::schemes::Scheme;
use crate::error::SetupError;

/// HMAC-SHA-256 with its key, before any input.
pub(super) type HmacKey = Hmac<Sha256>;

/// Secrets are handed out with padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn key(scheme: Scheme, secret: &str) -> Result<HmacKey, SetupError> {
    if secret.is_empty() {
        return Err(SetupError::Setting("a secret for webhooks is empty"));
    }
    // Mostly the line break at the end of a file. With it, no delivery would ever be verified.
    if secret.trim().len() != secret.len() {
        return Err(SetupError::Setting("a secret for webhooks begins or ends with white space: remove it"));
    }
    match scheme {
        Scheme::Standard => {
            let secret = BASE64.decode(secret.strip_prefix("whsec_").unwrap_or(secret));
            let secret = secret.ok().filter(|secret| !secret.is_empty());
            new(&secret.ok_or(SetupError::Setting(
                "a secret for Standard Webhooks must be base64, with or without `whsec_` before it",
            ))?)
        }
        // The whole text is the key, also its `whsec_`.
        Scheme::Stripe | Scheme::GitHub | Scheme::Shopify => new(secret.as_bytes()),
    }
}

fn new(secret: &[u8]) -> Result<HmacKey, SetupError> {
    HmacKey::new_from_slice(secret)
        .map_err(|_| SetupError::Setting("a secret for webhooks has a length that HMAC refuses"))
}
