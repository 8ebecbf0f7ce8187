//! The network of the banks, far away: outside of the database and of its transactions.

use sha2::{Digest, Sha256};

use crate::stripe::{NewCharge, Refused};

/// Authorizes a charge. Like every system of its kind, it takes an idempotency key: asked again with the same one, it
/// gives the same authorization, and takes the money once.
pub(crate) async fn authorize(key: &str, charge: &NewCharge) -> Result<String, Refused> {
    tokio::task::yield_now().await; // where the request would be under way
    if charge.source == "tok_chargeDeclined" {
        return Err(Refused::Declined);
    }
    let code = Sha256::digest(key);
    Ok(code.iter().take(4).map(|byte| format!("{byte:02X}")).collect())
}
