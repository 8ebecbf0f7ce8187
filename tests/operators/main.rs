//! What operators are told: explanations beside real calls, and the command `idempotent` as a user runs it.

mod command;
mod explained;
mod fixture;
mod listed;
