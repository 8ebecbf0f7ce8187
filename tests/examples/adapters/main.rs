//! The adapters of the examples: each delivery is settled as it says, whatever happens to the broker and to connections.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::{future::Future, time::Duration};

use tokio::time::timeout;

mod rabbitmq;
mod redis_streams;

/// As long as a busy machine may need.
const DEADLINE: Duration = Duration::from_mins(1);

async fn in_time<T>(delivery: impl Future<Output = T>) -> T {
    timeout(DEADLINE, delivery).await.expect("a delivery in time")
}

/// Waits for what does not come.
async fn nothing<T>(within: Duration, delivery: impl Future<Output = T>) {
    assert!(timeout(within, delivery).await.is_err(), "a delivery that was not to come");
}
