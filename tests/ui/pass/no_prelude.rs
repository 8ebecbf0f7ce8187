//! Without the prelude, and without a warning about anything that the macro writes.
#![no_implicit_prelude]
#![deny(warnings, let_underscore_drop, unused_results, unused_qualifications)]

use ::core::{
    convert::From,
    result::Result::{self, Ok},
};
use ::idempotent_runtime::{Error, idempotent};

#[derive(::serde::Serialize, ::serde::Deserialize)]
struct Failure;

impl From<Error> for Failure {
    fn from(_: Error) -> Failure {
        Failure
    }
}

fn is_final(_: &Failure) -> bool {
    true
}

#[idempotent(key = id, ttl = "1h", lease = "1m", wait = "0s", skip(x), errors = keep, abandoned = refuse)]
async fn options(id: u64, x: u64) -> Result<u64, Failure> {
    Ok(id + x)
}

#[idempotent(key = "{id}-{x}", errors = is_final)]
async fn template(id: u64, x: u64) -> Result<u64, Failure> {
    Ok(id + x)
}

#[idempotent(detach)]
async fn detached(id: u64, #[cfg(all())] x: u64) -> Result<u64, Error> {
    Ok(id + x)
}

fn main() {
    ::core::mem::drop((options(1, 2), template(1, 2), detached(1, 2)));
}
