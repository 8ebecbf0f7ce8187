//! The brokers themselves, before anything is built on them: what they keep, deliver again and count.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod rabbitmq;
mod redis_streams;
