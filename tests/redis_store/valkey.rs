//! The Redis store on Valkey: every state and transition, and every fault between client and server.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests fail the test")]

use idempotent_tests::{redis_server, wait::wait_for};

/// The program that the tests start.
const SERVER: redis_server::RedisProgram = redis_server::RedisProgram::Valkey;

mod cost;
mod faults;
mod journal;
mod lives;
mod native;
mod notifications;
mod server;
mod support;
mod topology;
mod transitions;
mod wrong_servers;
