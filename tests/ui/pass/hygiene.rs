//! Names of the user that the expansion must not see, and names of the expansion that the user must not see.
#![deny(warnings)]

use hostile::*;
use idempotent_runtime::idempotent;

mod core {}
mod std {}

mod hostile {
    pub enum Outcome {
        Ok,
        Err,
        Some,
        None,
    }
    pub use Outcome::*;
    pub struct Result;
    pub struct Option;
    pub struct Duration;
    #[allow(non_camel_case_types)]
    pub struct usize;
    pub trait Methods {
        fn argument(&self) {}
        fn literal(&self) {}
        fn ttl(&self) {}
    }
    impl<T> Methods for T {}
    pub fn run() {}
    pub fn call() {}
    pub fn fail() {}
}

macro_rules! pin {
    () => {
        0
    };
}
macro_rules! concat {
    () => {
        0
    };
}
macro_rules! module_path {
    () => {
        0
    };
}

type Answer<T> = ::core::result::Result<T, ::idempotent_runtime::Error>;

#[idempotent(key = "{__idempotent_call}-{body}", ttl = "1h", skip(call), errors = release, abandoned = refuse)]
async fn charge(__idempotent_call: u64, __idempotent_arguments: u64, body: u64, call: Result, key: u8) -> Answer<u64> {
    let _ = (call, Ok, Err, Some, None, key, Option, Duration);
    let __idempotent_body = __idempotent_arguments;
    ::core::result::Result::Ok(__idempotent_call + __idempotent_body + body)
}

#[idempotent(skip(raw))]
async fn sometimes(#[cfg(all())] here: u8, #[cfg(any())] absent: u8, r#raw: usize) -> Answer<u8> {
    let _ = raw;
    ::core::result::Result::Ok(here)
}

fn main() {
    ::core::mem::drop(sometimes(1, usize));
    ::core::mem::drop(charge(1, 2, 3, Result, 4));
    (run(), call(), fail(), 1.argument(), 1.literal(), 1.ttl(), pin!(), concat!(), module_path!());
}
