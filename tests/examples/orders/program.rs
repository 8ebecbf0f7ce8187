//! The program, what it says, and what it leaves behind.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use idempotent_tests::sqlite_file::SqliteFile;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection, query_scalar, sqlite::SqliteConnectOptions};

/// The program on a store, with an outside world of its own.
pub(crate) struct Program {
    url: String,
    folder: SqliteFile,
}

impl Program {
    pub(crate) fn on(url: String) -> Self {
        Self { url, folder: SqliteFile::new() }
    }

    /// On a SQLite file.
    pub(crate) fn on_sqlite() -> Self {
        let folder = SqliteFile::new();
        Self { url: folder.url(), folder }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
        command.args(["--store", &self.url]).arg("--world").arg(self.world()).args(arguments);
        if self.url.starts_with("redis:") {
            command.args(["--stock", &self.folder.url()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The file with the books of the outside world.
    fn world(&self) -> PathBuf {
        self.folder.path().with_extension("world")
    }

    async fn connection(&self) -> SqliteConnection {
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(self.world())).await.unwrap()
    }

    /// The number that a query of the outside world's books answers.
    pub(crate) async fn outside(&self, sql: &'static str) -> i64 {
        query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.connection().await).await.unwrap()
    }

    /// Changes the outside world's books.
    pub(crate) async fn tamper(&self, sql: &'static str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection().await).await.unwrap();
    }

    /// Changes the books of the stock, which are in a file.
    pub(crate) async fn tamper_with_stock(&self, sql: &str) {
        self.folder.execute(sql).await;
    }
}

/// Checks that a run ended with this code, and reads the summary that it printed.
#[track_caller]
pub(crate) fn summary(output: &Output, code: i32) -> Summary {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    let summary = Summary(serde_json::from_slice(&output.stdout).unwrap());
    assert_eq!(summary.0["ok"], code == 0, "{summary:?}");
    summary
}

#[derive(Debug)]
pub(crate) struct Summary(pub(crate) Value);

impl Summary {
    #[track_caller]
    pub(crate) fn get(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_else(|| panic!("{field} in {self:?}"))
    }

    /// Checks that each of so many orders was placed once.
    #[track_caller]
    pub(crate) fn assert_proven(&self, orders: u64) {
        for field in ["orders", "placed"] {
            assert_eq!(self.get(field), orders, "{field} in {self:?}");
        }
        for field in ["charged_twice", "mailed_twice", "stock_wrong", "lost", "changed_answers", "stuck"] {
            assert_eq!(self.get(field), 0, "{field} in {self:?}");
        }
        let books = ["charges", "reservations", "mails"].map(|field| self.get(field));
        assert_eq!(books, [orders; 3], "{self:?}");
    }
}
