//! The program's tables, read with the test's own eyes.

use idempotent_tests::database::Database;
use sqlx::query_as;

/// A row of the charges.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow, serde::Deserialize)]
pub(crate) struct Row {
    pub(crate) description: String,
    pub(crate) amount: i64,
    pub(crate) id: String,
}

const ROWS: &str = "SELECT description, amount, id FROM charges";

pub(crate) trait Tables {
    /// Counts the charges.
    async fn count(&self) -> i64;

    /// Counts the handlers that run, or were running when their server was killed.
    async fn running(&self) -> i64;

    /// Waits until a charge is being entered, and is kept from it.
    async fn wait_until_entering(&self);

    /// All charges, in the order of their descriptions.
    async fn charges(&self) -> Vec<Row>;
}

impl Tables for Database {
    async fn count(&self) -> i64 {
        self.number("SELECT count(*) FROM charges").await
    }

    async fn running(&self) -> i64 {
        self.number("SELECT count(*) FROM idempotent_records WHERE operation = 'http' AND state = 'running'").await
    }

    async fn wait_until_entering(&self) {
        let blocked = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INTO charges%'";
        self.wait_for(blocked, 1).await;
    }

    async fn charges(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = match self {
            Self::Postgres(database) => query_as(ROWS).fetch_all(&mut database.client().await).await.unwrap(),
            Self::Sqlite(file) => query_as(ROWS).fetch_all(&mut file.connection().await).await.unwrap(),
        };
        rows.sort();
        rows
    }
}
