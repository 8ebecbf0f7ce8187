//! Secrets, as senders hand them out.

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit as _};
use sha2::Sha256;

use super::schemes::Scheme;
use crate::error::SetupError;

/// HMAC-SHA-256 with its key, and nothing signed yet.
pub(super) type Key = Hmac<Sha256>;

/// Secrets are handed out with padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn key(scheme: Scheme, secret: &str) -> Result<Key, SetupError> {
    if secret.is_empty() {
        return Err(SetupError::Setting("a webhook's secret is empty"));
    }
    // A file's last line break, mostly: with it, nothing would ever be verified.
    if secret.trim().len() != secret.len() {
        return Err(SetupError::Setting("a webhook's secret begins or ends with white space"));
    }
    match scheme {
        Scheme::Standard => {
            let secret = BASE64.decode(secret.strip_prefix("whsec_").unwrap_or(secret));
            let secret = secret.ok().filter(|secret| !secret.is_empty());
            new(&secret.ok_or(SetupError::Setting("a Standard Webhooks secret is not `whsec_` and base64"))?)
        }
        // As it is, `whsec_` and all.
        Scheme::Stripe | Scheme::GitHub | Scheme::Shopify => new(secret.as_bytes()),
    }
}

fn new(secret: &[u8]) -> Result<Key, SetupError> {
    Key::new_from_slice(secret).map_err(|_| SetupError::Setting("a webhook's secret has a length that HMAC refuses"))
}
