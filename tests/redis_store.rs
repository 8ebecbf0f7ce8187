//! The Redis store against real servers: every state and transition, and every fault between client and server.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail the test")]

use idempotent_tests::redis_server;

#[path = "redis_store/cost.rs"]
mod cost;
#[path = "redis_store/faults.rs"]
mod faults;
#[path = "redis_store/notifications.rs"]
mod notifications;
#[path = "redis_store/server.rs"]
mod server;
#[path = "redis_store/support.rs"]
mod support;
#[path = "redis_store/topology.rs"]
mod topology;
#[path = "redis_store/transitions.rs"]
mod transitions;
