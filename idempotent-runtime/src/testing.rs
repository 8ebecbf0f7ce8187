//! For tests of services, and for authors of stores (feature `testing`).
//!
//! For tests of services, of which the [guide](crate::guide::testing) shows more:
//!
//! - [`with`]: a handle for one test, in place of the installed one
//! - [`Idempotency::passthrough`](crate::Idempotency::passthrough): a handle that runs each body and keeps nothing
//! - [`Probe`]: what each call did
//! - `interrupt`, with the feature `memory`: a function that is killed, dropped and disturbed at each of its points
//! - [`assert_fingerprint!`](crate::assert_fingerprint), with the feature `memory`: a change of the request that retries would notice
//! - [`ManualClock`]: time that passes when it is told to
//! - [`FaultyStore`]: a store that fails, hangs and counts on demand
//! - `ScriptedBroker`, with the feature `consumer`: a message broker that fails on demand
//! - [`forget_function_names`]: a process in which no annotated function has been called yet
//!
//! For authors of stores: [`conformance`], the rules of [`Store`](crate::Store) as tests.
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail so")]

#[cfg(feature = "consumer")]
mod broker;
mod clock;
pub mod conformance;
mod faulty;
#[cfg(feature = "memory")]
pub(crate) mod fingerprint;
#[cfg(feature = "memory")]
pub(crate) mod interrupt;
pub(crate) mod passthrough;
pub(crate) mod probe;
pub(crate) mod surroundings;

/// Forgets which annotated function has which name: for tests that load functions anew, or define several with one default
/// name.
pub fn forget_function_names() {
    crate::functions::forget();
}

#[cfg(feature = "consumer")]
pub use self::broker::{
    ScriptedBroker, ScriptedDeliveries, ScriptedDelivery, ScriptedMessage, SettleFault, SettleKind,
};
pub use self::{
    clock::ManualClock,
    faulty::{Fault, FaultyStore, Gate, Method},
    probe::{Probe, ProbedCall},
    surroundings::{current_handle, with},
};
#[cfg(feature = "memory")]
pub use self::{
    fingerprint::check_fingerprint,
    interrupt::{Interrupted, interrupt},
};
