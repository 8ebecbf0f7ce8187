//! Harness of the test suite: servers, proxies, counters, processes.

pub mod postgres_server;
pub mod proxy;
pub mod redis_server;
pub mod sqlite_file;
pub mod worker;
