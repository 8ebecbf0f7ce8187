//! The card network: a remote service, outside the database and its transactions.

use sha2::{Digest, Sha256};

use crate::stripe::{NewCharge, Refused};

/// Authorizes a charge. The network takes an idempotency key, as such services do: a repeat with the same key gets the same
/// authorization code, and the money is taken once. Another charge gets another code.
pub(crate) async fn authorize(key: &str, charge: &NewCharge) -> Result<String, Refused> {
    tokio::task::yield_now().await; // here, the request would travel to the network
    if charge.source == "tok_chargeDeclined" {
        return Err(Refused::Declined);
    }
    let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(format!("{key} {} {}", charge.amount, charge.currency)).into();
    Ok(format!("{:08X}", u32::from_be_bytes([a, b, c, d])))
}
