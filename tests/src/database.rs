//! The databases of the examples: a test is written once, and runs on each of them.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::unused_async,
    reason = "a harness that cannot do its work fails the test; both databases are opened alike"
)]

use std::time::Duration;

use sqlx::{AssertSqlSafe, query_scalar};
use tokio::time::{Instant, sleep};

use crate::{postgres_database::PostgresDatabase, sqlite_file::SqliteFile};

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Makes a test of each `async fn(Database)` on each database: `c01_…::postgres`, `c01_…::sqlite`.
#[macro_export]
macro_rules! on_each_database {
    (@ $name:ident $database:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $database() {
            $crate::database::in_time(super::$name($crate::database::Database::$database().await)).await;
        }
    };
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            $crate::on_each_database!(@ $name postgres);
            $crate::on_each_database!(@ $name sqlite);
        }
    )*};
}

/// Fails a test that waits for what does not come, instead of letting it hang.
///
/// # Panics
///
/// After two minutes.
pub async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_mins(2), test).await.expect("the test ends");
}

/// A database under a program, read with the test's own eyes.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a test has one or two of them")]
pub enum Database {
    /// On the shared server, or on one of its own.
    Postgres(PostgresDatabase),
    /// A file.
    Sqlite(SqliteFile),
}

impl Database {
    /// PostgreSQL, on the shared server.
    pub async fn postgres() -> Self {
        Self::Postgres(PostgresDatabase::create().await)
    }

    /// SQLite.
    pub async fn sqlite() -> Self {
        Self::Sqlite(SqliteFile::new())
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Postgres(database) => database.url(),
            Self::Sqlite(file) => file.url(),
        }
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        match self {
            Self::Postgres(database) => database.execute(sql).await,
            Self::Sqlite(file) => file.execute(sql).await,
        }
    }

    /// The number that a query answers.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        let number = match self {
            Self::Postgres(database) => query_scalar(sql).fetch_one(&mut database.client().await).await,
            Self::Sqlite(file) => query_scalar(sql).fetch_one(&mut file.connection().await).await,
        };
        number.expect("a number")
    }

    /// Lets the time of its records pass.
    pub async fn advance(&self, by: Duration) {
        match self {
            Self::Postgres(database) => database.advance(by).await,
            Self::Sqlite(file) => file.advance(by).await,
        }
    }

    /// Counts the records.
    pub async fn records(&self) -> i64 {
        self.number("SELECT count(*) FROM idempotent_records").await
    }

    /// Waits until a query answers this number.
    pub async fn wait_for(&self, sql: &str, number: i64) {
        let deadline = Instant::now() + DEADLINE;
        while self.number(sql).await != number {
            assert!(Instant::now() < deadline, "{sql} is not {number}");
            sleep(POLL).await;
        }
    }

    /// Makes all inserts into a table fail, or lets them pass again.
    pub async fn fail(&self, table: &str, fails: bool) {
        let sql = match (self, fails) {
            (Self::Postgres(_), true) => format!(
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'as the test wants it'; END $$;
                 CREATE TRIGGER fails BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail()"
            ),
            (Self::Sqlite(_), true) => format!(
                "CREATE TRIGGER fails BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'as the test wants it'); END"
            ),
            (Self::Postgres(_), false) => format!("DROP TRIGGER fails ON {table}; DROP FUNCTION fail"),
            (Self::Sqlite(_), false) => "DROP TRIGGER fails".to_owned(),
        };
        self.execute(&sql).await;
    }
}
