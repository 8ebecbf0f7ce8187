//! Harness of the test suite: servers, proxies, counters.
