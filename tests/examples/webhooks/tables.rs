//! The program's tables, read with the test's own eyes.

use idempotent_tests::database::Database;

pub(crate) trait Tables {
    /// Counts the effects.
    async fn done(&self) -> i64;

    async fn waiting(&self) -> i64;

    /// Counts what was done and what is accepted, in one statement, since a worker moves events from one to the other.
    async fn done_or_waiting(&self) -> i64;

    /// Checks the number of effects and of records so far.
    async fn assert(&self, done: i64, records: i64);

    /// Waits until the workers have worked off everything.
    async fn wait_until_worked_off(&self);

    /// Tells whether an object has this status, which its newest event gave it.
    async fn has_status(&self, object: &str, status: &str) -> bool;

    /// Makes the last thing that is written about an event fail, or lets it pass again.
    async fn fail_at_the_end(&self, fails: bool);
}

impl Tables for Database {
    async fn done(&self) -> i64 {
        self.number("SELECT count(*) FROM done").await
    }

    async fn waiting(&self) -> i64 {
        self.number("SELECT count(*) FROM inbox").await
    }

    async fn done_or_waiting(&self) -> i64 {
        self.number("SELECT (SELECT count(*) FROM done) + (SELECT count(*) FROM inbox)").await
    }

    async fn assert(&self, done: i64, records: i64) {
        assert_eq!((self.done().await, self.records().await), (done, records), "effects and records");
    }

    async fn wait_until_worked_off(&self) {
        self.wait_for("SELECT count(*) FROM inbox", 0).await;
    }

    async fn has_status(&self, object: &str, status: &str) -> bool {
        let query = format!("SELECT count(*) FROM objects WHERE id = '{object}' AND status = '{status}'");
        self.number(&query).await == 1
    }

    async fn fail_at_the_end(&self, fails: bool) {
        self.fail("objects", fails).await;
    }
}
