//! Harness of the test suite: servers, proxies, counters.

pub mod proxy;
pub mod redis_server;
