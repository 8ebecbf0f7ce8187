//! Waiting for what comes at a time of its own.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// Asks until it is so.
///
/// # Panics
///
/// When it is not so after twenty seconds.
pub async fn wait_for(what: &str, so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !so().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(POLL).await;
    }
}
