//! The database under the charges, read with the test's own eyes.

use std::time::Duration;

use idempotent_tests::{postgres_server::PostgresServer, sqlite_file::SqliteFile};
use sqlx::{query_as, query_scalar};
use tokio::time::{Instant, sleep};

pub(crate) enum Database {
    Postgres(PostgresServer),
    Sqlite(SqliteFile),
}

/// A row of the charges.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow, serde::Deserialize)]
pub(crate) struct Row {
    pub(crate) description: String,
    pub(crate) amount: i64,
    pub(crate) id: String,
}

const ROWS: &str = "SELECT description, amount, id FROM charges";
const COUNT: &str = "SELECT count(*) FROM charges";
const RUNNING: &str = "SELECT count(*) FROM idempotent_records WHERE operation = 'http' AND state = 'running'";

impl Database {
    pub(crate) async fn postgres() -> Self {
        Self::Postgres(PostgresServer::start().await)
    }

    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(SqliteFile::new())
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Postgres(server) => server.url(),
            Self::Sqlite(file) => file.url(),
        }
    }

    /// How many charges there are.
    pub(crate) async fn count(&self) -> i64 {
        self.number(COUNT).await
    }

    /// How many handlers run, or were running when their server was killed.
    pub(crate) async fn running(&self) -> i64 {
        self.number(RUNNING).await
    }

    async fn number(&self, sql: &'static str) -> i64 {
        match self {
            Self::Postgres(server) => query_scalar(sql).fetch_one(&mut server.client().await).await.unwrap(),
            Self::Sqlite(file) => query_scalar(sql).fetch_one(&mut file.connection().await).await.unwrap(),
        }
    }

    /// Waits until a charge is being entered, and is kept from it.
    pub(crate) async fn wait_until_entering(&self) {
        const BLOCKED: &str =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INTO charges%'";
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.number(BLOCKED).await != 1 {
            assert!(Instant::now() < deadline, "a charge is being entered");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// From now on, or no longer, no charge can be entered.
    pub(crate) async fn fail(&self, fails: bool) {
        match (self, fails) {
            (Self::Postgres(server), true) => {
                let fail = "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'as the test wants it'; END $$";
                server.execute(fail).await;
                server
                    .execute("CREATE TRIGGER fails BEFORE INSERT ON charges FOR EACH ROW EXECUTE FUNCTION fail()")
                    .await;
            }
            (Self::Sqlite(file), true) => {
                let fail = "CREATE TRIGGER fails BEFORE INSERT ON charges BEGIN SELECT RAISE(ABORT, 'as the test wants it'); END";
                file.execute(fail).await;
            }
            (Self::Postgres(server), false) => server.execute("DROP TRIGGER fails ON charges").await,
            (Self::Sqlite(file), false) => file.execute("DROP TRIGGER fails").await,
        }
    }

    /// All charges, in the order of their descriptions.
    pub(crate) async fn charges(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = match self {
            Self::Postgres(server) => query_as(ROWS).fetch_all(&mut server.client().await).await.unwrap(),
            Self::Sqlite(file) => query_as(ROWS).fetch_all(&mut file.connection().await).await.unwrap(),
        };
        rows.sort();
        rows
    }
}
