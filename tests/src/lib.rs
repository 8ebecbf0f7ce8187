//! Harness of the test suite: servers, proxies, counters, processes.

pub mod proxy;
pub mod redis_server;
pub mod sqlite_file;
pub mod worker;
