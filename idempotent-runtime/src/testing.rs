//! For authors of stores, and for tests that need a store to misbehave (feature `testing`).
//!
//! - [`conformance`]: the rules of [`Store`](crate::Store) as tests
//! - [`FaultyStore`]: a store that fails, hangs and counts on demand
//! - [`ManualClock`]: time that passes when it is told to
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail so")]

mod clock;
pub mod conformance;
mod faulty;

pub use self::{
    clock::ManualClock,
    faulty::{Fault, FaultyStore, Gate, Method},
};
