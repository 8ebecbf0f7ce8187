//! The database under the program.

use std::time::Duration;

use idempotent_tests::{postgres_server::PostgresServer, sqlite_file::SqliteFile};
use sqlx::{AssertSqlSafe, query_scalar};
use tokio::time::{Instant, sleep};

/// Makes a test of each line on each database: `c01_…::sqlite`, `c01_…::postgres`.
#[macro_export]
macro_rules! lines {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use $crate::database::{Database, in_time};

            #[tokio::test]
            async fn sqlite() {
                in_time(super::$name(Database::sqlite())).await;
            }

            #[tokio::test]
            async fn postgres() {
                in_time(super::$name(Database::postgres().await)).await;
            }
        }
    )*};
}

/// A test that waits for what does not come fails, instead of hanging.
pub(crate) async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_mins(2), test).await.expect("the test ends");
}

pub(crate) enum Database {
    Postgres(PostgresServer),
    Sqlite(SqliteFile),
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(SqliteFile::new())
    }

    pub(crate) async fn postgres() -> Self {
        Self::Postgres(PostgresServer::start().await)
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Postgres(server) => server.url(),
            Self::Sqlite(file) => file.url(),
        }
    }

    pub(crate) async fn execute(&self, sql: &str) {
        match self {
            Self::Postgres(server) => server.execute(sql).await,
            Self::Sqlite(file) => file.execute(sql).await,
        }
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(server) => query_scalar(sql).fetch_one(&mut server.client().await).await.unwrap(),
            Self::Sqlite(file) => query_scalar(sql).fetch_one(&mut file.connection().await).await.unwrap(),
        }
    }

    /// How often something was done.
    pub(crate) async fn done(&self) -> i64 {
        self.number("SELECT count(*) FROM done").await
    }

    pub(crate) async fn records(&self) -> i64 {
        self.number("SELECT count(*) FROM idempotent_records").await
    }

    pub(crate) async fn waiting(&self) -> i64 {
        self.number("SELECT count(*) FROM inbox").await
    }

    /// What was done, and what is accepted: at one moment, since a worker moves one to the other.
    pub(crate) async fn done_or_waiting(&self) -> i64 {
        self.number("SELECT (SELECT count(*) FROM done) + (SELECT count(*) FROM inbox)").await
    }

    /// Effects and records, so far.
    pub(crate) async fn assert(&self, done: i64, records: i64) {
        assert_eq!((self.done().await, self.records().await), (done, records), "effects and records");
    }

    /// Waits until a query has this answer.
    pub(crate) async fn wait_for(&self, sql: &str, number: i64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.number(sql).await != number {
            assert!(Instant::now() < deadline, "{sql} is not {number}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the workers have worked off everything.
    pub(crate) async fn wait_until_worked_off(&self) {
        self.wait_for("SELECT count(*) FROM inbox", 0).await;
    }

    /// How an object is, by the newest event.
    pub(crate) async fn has_status(&self, object: &str, status: &str) -> bool {
        let query = format!("SELECT count(*) FROM objects WHERE id = '{object}' AND status = '{status}'");
        self.number(&query).await == 1
    }

    /// From now on, or no longer, the last thing that is written about an event fails.
    pub(crate) async fn fail(&self, fails: bool) {
        self.execute(match (self, fails) {
            (Self::Postgres(_), true) => {
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'as the test wants it'; END $$;
                 CREATE TRIGGER fails BEFORE INSERT ON objects FOR EACH ROW EXECUTE FUNCTION fail()"
            }
            (Self::Sqlite(_), true) => {
                "CREATE TRIGGER fails BEFORE INSERT ON objects BEGIN SELECT RAISE(ABORT, 'as the test wants it'); END"
            }
            (Self::Postgres(_), false) => "DROP TRIGGER fails ON objects; DROP FUNCTION fail",
            (Self::Sqlite(_), false) => "DROP TRIGGER fails",
        })
        .await;
    }
}
