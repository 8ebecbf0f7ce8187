//! The network of the banks, far away: outside of the database and of its transactions.

use sha2::{Digest, Sha256};

use crate::stripe::{NewCharge, Refused};

/// Authorizes a charge. Like every system of its kind, it takes an idempotency key: asked again with the same one, it
/// gives the same authorization, and takes the money once. Another charge is never authorized by the code of the first.
pub(crate) async fn authorize(key: &str, charge: &NewCharge) -> Result<String, Refused> {
    tokio::task::yield_now().await; // where the request would be under way
    if charge.source == "tok_chargeDeclined" {
        return Err(Refused::Declined);
    }
    let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(format!("{key} {} {}", charge.amount, charge.currency)).into();
    Ok(format!("{:08X}", u32::from_be_bytes([a, b, c, d])))
}
