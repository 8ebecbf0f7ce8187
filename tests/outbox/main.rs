//! The outbox: what is committed reaches the broker, with a stable id and in order, whatever is killed.

#![allow(clippy::duplicate_mod, reason = "the same tests on each database")]

mod broker;
mod postgres;
mod sqlite;
