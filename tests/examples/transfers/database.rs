//! The database under the books, read with the test's own eyes.

use idempotent_tests::{postgres_server::PostgresServer, sqlite_file::SqliteFile};
use sqlx::query_scalar;

pub(crate) enum Database {
    Postgres(PostgresServer),
    Sqlite(SqliteFile),
}

impl Database {
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

    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        match self {
            Self::Postgres(server) => query_scalar(sql).fetch_one(&mut server.client().await).await.unwrap(),
            Self::Sqlite(file) => query_scalar(sql).fetch_one(&mut file.connection().await).await.unwrap(),
        }
    }

    pub(crate) async fn entries(&self) -> i64 {
        self.number("SELECT count(*) FROM ledger").await
    }

    pub(crate) async fn records(&self) -> i64 {
        self.number("SELECT count(*) FROM idempotent_records").await
    }

    /// That so many transfers were asked for, and so many of them made, each exactly once.
    pub(crate) async fn assert_exact(&self, transfers: i64, made: i64) {
        let total = self.number("SELECT CAST(sum(balance_cents) AS bigint) FROM accounts").await;
        assert_eq!(total, 20 * 100_000, "not a cent more or less");
        assert_eq!(self.number("SELECT count(DISTINCT transfer_id) FROM ledger").await, made);
        assert_eq!(self.entries().await, 2 * made);
        let pairs = "SELECT count(*) FROM ledger AS paid JOIN ledger AS got ON got.transfer_id = paid.transfer_id
                     AND got.cents = -paid.cents AND got.account_id <> paid.account_id WHERE paid.cents < 0";
        assert_eq!(self.number(pairs).await, made);
        assert_eq!(self.records().await, transfers);
        let accepted = "SELECT count(*) FROM idempotent_records WHERE state = 'ok' AND unended IS NULL AND key IN
                        (SELECT transfer_id FROM ledger)";
        assert_eq!(self.number(accepted).await, made);
        assert_eq!(
            self.number("SELECT count(*) FROM idempotent_records WHERE state LIKE 'err%'").await,
            transfers - made
        );
    }
}
