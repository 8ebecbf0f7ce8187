//! For authors of stores, and for tests that need a store to misbehave (feature `testing`).
//!
//! - [`conformance`]: the rules of [`Store`](crate::Store) as tests
//! - [`FaultyStore`]: a store that fails, hangs and counts on demand
//! - [`ManualClock`]: time that passes when it is told to
//! - `ScriptedBroker`, with the feature `consumer`: a message broker that fails on demand
//! - [`with`]: a handle for one test, in place of the installed one
//! - [`forget_function_names`]: a process in which no annotated function has been called yet
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail so")]

#[cfg(feature = "consumer")]
mod broker;
mod clock;
pub mod conformance;
mod faulty;

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
};
pub use crate::install::scoped::with;
