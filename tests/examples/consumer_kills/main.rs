//! Message consumers on RabbitMQ and Redis Streams, in processes of their own that are killed, stopped and cut off. Whatever
//! happens, each message has its effect in the database once, or is a dead letter.
//!
//! `CONSUMER_MESSAGES` and `CONSUMER_SECONDS` make the loop of `kill_loop` longer than its 2,000 messages, sent within 12 seconds;
//! `CONSUMER_PAUSE_MS` is the mean time between two disturbances, half a second unless said otherwise; `CONSUMER_SEED` repeats
//! one as far as processes allow.
//!
//! The workers are this program again: see [`worker`].

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_wrap,
    reason = "helpers of tests fail by panicking"
)]

mod attempts;
mod bench;
mod broker;
mod kill_loop;
mod kills;
mod once;
mod others;
mod outages;
mod plan;
mod worker;

use std::time::Duration;

/// A number from a variable, or the default one.
fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// As long as a test may take on a busy machine.
const fn deadline() -> Duration {
    Duration::from_mins(3)
}

/// Makes a test of each `async fn(Kind)` on each broker: `t02_…::rabbitmq`, `t02_…::redis`.
macro_rules! on_each_broker {
    (@ $name:ident $kind:ident $broker:ident $deadline:path) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $broker() {
            // Dropped in the panic, so that logs are printed.
            let mut test = std::pin::pin!(super::$name(crate::broker::Kind::$kind));
            tokio::time::timeout($deadline(), test.as_mut()).await.expect("the test ends");
        }
    };
    ($($name:ident),* $(,)?) => { $crate::on_each_broker! { crate::deadline; $($name),* } };
    ($deadline:path; $($name:ident),* $(,)?) => {$(
        mod $name {
            $crate::on_each_broker!(@ $name Rabbitmq rabbitmq $deadline);
            $crate::on_each_broker!(@ $name Redis redis $deadline);
        }
    )*};
}
use on_each_broker;
