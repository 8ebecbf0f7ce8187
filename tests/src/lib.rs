//! Harness of the test suite: servers, proxies, counters, processes, chaos.

pub mod backend;
pub mod caller;
pub mod captured_events;
pub mod certificates;
pub mod chaos;
pub mod database;
pub mod doomed;
#[cfg(test)]
mod lists;
pub mod mutants;
pub mod pgbouncer;
pub mod ports;
pub mod postgres_database;
pub mod postgres_server;
pub mod process;
pub mod proxy;
pub mod python;
pub mod rabbitmq_server;
pub mod redis_server;
pub mod sqlite_file;
pub mod store_fixture;
pub mod wait;
pub mod warnings;
pub mod worker;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
