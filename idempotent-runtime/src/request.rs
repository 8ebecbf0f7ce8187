//! The parts that identify a call: its key, the fingerprint of its arguments, and the arguments themselves.

pub(crate) mod arguments;
mod compound;
pub(crate) mod error;
pub(crate) mod fingerprint;
pub mod key;
mod number;
