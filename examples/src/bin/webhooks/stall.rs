//! Points at which the program can be killed.

use std::future::pending;

use clap::ValueEnum;

use idempotent_examples::print;

/// A point in the life of a delivery.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stall {
    /// Everything is written, nothing is committed.
    BeforeCommit,
    /// Everything is committed, nothing is answered.
    AfterCommit,
    /// A worker has written everything and committed nothing.
    Worker,
}

impl Stall {
    /// Waits for ever, if this is the chosen point.
    pub(crate) async fn at(self, chosen: Option<Self>) {
        if chosen == Some(self) {
            let _ = print("stalled\n");
            pending::<()>().await;
        }
    }
}
