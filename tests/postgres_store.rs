//! The PostgreSQL store on real servers: schema, plans, privileges, settings, and what can happen to connections and
//! server.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test")]

use idempotent_tests::{
    postgres_server::PostgresServer,
    proxy::{Fault, Proxy},
    redis_server::wait_for,
};

#[path = "postgres_store/faults.rs"]
mod faults;
#[path = "postgres_store/plans.rs"]
mod plans;
#[path = "postgres_store/schema.rs"]
mod schema;
#[path = "postgres_store/support.rs"]
mod support;
#[path = "postgres_store/wakes.rs"]
mod wakes;
