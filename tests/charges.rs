//! `charges`, as a user runs it: the official Stripe client against its process, with faults of every kind between them
//! and while it is killed. Every charge is made once.
//!
//! `CHARGES_SEED` repeats a run as far as processes allow.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

#[path = "charges/client.rs"]
mod client;
#[path = "charges/database.rs"]
mod database;
#[path = "charges/server.rs"]
mod server;
#[path = "charges/stripe_client.rs"]
mod stripe_client;
#[path = "charges/usage.rs"]
mod usage;

/// Makes a test of each on each database.
#[macro_export]
macro_rules! on_each_database {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use $crate::database::Database;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name(Database::postgres().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(Database::sqlite()).await;
            }
        }
    )*};
}
