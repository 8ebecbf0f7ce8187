//! The PostgreSQL store on real servers: schema, plans, privileges, settings, and what can happen to connections and
//! server.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test")]

use idempotent_tests::{
    postgres_database::PostgresDatabase,
    postgres_server::PostgresServer,
    proxy::{Fault, Proxy},
    wait::wait_for,
};

mod batches;
mod faults;
mod journal;
mod plans;
mod poolers;
mod pools;
mod reserve;
mod schema;
mod support;
mod tls;
mod version_2;
mod version_3;
mod version_5;
mod wakes;
