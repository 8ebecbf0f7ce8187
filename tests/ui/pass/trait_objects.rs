//! Objects as arguments, skipped, shared or boxed.
#![deny(warnings)]

use std::sync::Arc;

use idempotent_runtime::{Error, idempotent};

trait Gateway: Send + Sync {
    fn charge(&self, amount: u64) -> u64;
}

#[idempotent(skip(gateway), key = id)]
async fn borrowed(gateway: &dyn Gateway, id: u64) -> Result<u64, Error> {
    Ok(gateway.charge(id))
}

#[idempotent(skip(gateway), key = id, detach)]
async fn shared(gateway: Arc<dyn Gateway>, id: u64) -> Result<u64, Error> {
    Ok(gateway.charge(id))
}

#[idempotent(skip(gateway), key = id)]
async fn boxed(mut gateway: Box<dyn Gateway + '_>, id: u64) -> Result<u64, Error> {
    gateway = Box::new(Double(gateway));
    Ok(gateway.charge(id))
}

struct Double<'a>(Box<dyn Gateway + 'a>);

impl Gateway for Double<'_> {
    fn charge(&self, amount: u64) -> u64 {
        self.0.charge(amount * 2)
    }
}

fn main() {
    let _ = |gateway: Arc<dyn Gateway>| {
        drop(borrowed(&*gateway, 1));
        drop(shared(gateway, 1));
    };
    let _ = |gateway: Box<dyn Gateway>| drop(boxed(gateway, 1));
}
