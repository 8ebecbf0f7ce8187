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

mod client;
mod database;
mod server;
mod stripe_client;
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
