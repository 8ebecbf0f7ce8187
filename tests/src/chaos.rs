//! Chaos: many callers, few keys, and everything that can go wrong, on record and judged afterwards.
//!
//! Callers ([`calls`]) use a store through a [`Recorder`](recorder::Recorder), so that the [`history`] holds what each
//! call asked of the store and was told, when bodies began, and what callers got. The [`checker`] decides from it
//! whether the promises were kept. Time is the machine's monotonic clock, which all processes share, or tokio's
//! where one process simulates all ([`network`]).

pub mod calls;
pub mod checker;
pub mod history;
pub mod network;
pub mod recorder;
