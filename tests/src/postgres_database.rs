//! PostgreSQL databases: on one server, which the tests of a process share, or on a server of their own.
//!
//! A server takes a second to start and to stop, a database a tenth of it. A database that a test is done with is given
//! to another, which takes less again.

#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a harness that cannot do its work fails the test")]

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::OnceCell;

use crate::postgres_server::PostgresServer;

static SHARED: OnceCell<(PostgresServer, Child)> = OnceCell::const_new();
static DATABASES: AtomicU64 = AtomicU64::new(0);
/// The names of those that no test uses any more.
static FREE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A static is not dropped: when its input ends, as it does with our process, this stops the server.
const STOP: &str = r#"
    read -r _
    kill -QUIT "$(head -n 1 "$0/data/postmaster.pid")"
    for _ in $(seq 100); do [ -e "$0/data/postmaster.pid" ] || break; sleep 0.1; done
    rm -rf "$0""#;

/// A database, empty.
#[derive(Debug)]
pub struct PostgresDatabase {
    name: String,
    address: String,
    own: Option<PostgresServer>,
}

impl PostgresDatabase {
    /// Creates it on the shared server, which is started if there is none yet.
    ///
    /// A test may use it that leaves the server, its settings and its roles alone, and looks at no other sessions than
    /// those of its database.
    ///
    /// # Panics
    ///
    /// Where the server does. So do all other functions here.
    pub async fn create() -> Self {
        let (server, _) = SHARED.get_or_init(start).await;
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let is_reused = match &free {
            Some(old) => empty(server, old, &name).await.is_ok(),
            None => false,
        };
        if !is_reused {
            server.execute(&format!("CREATE DATABASE {name}")).await;
        }
        Self { name, address: server.address(), own: None }
    }

    /// The database `postgres` of a server of its own, with the default settings.
    pub async fn on_its_own_server() -> Self {
        PostgresServer::start().await.into()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `host:port` of its server.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its URL, for the superuser.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(&self.address)
    }

    /// Its URL at another `host:port`, where a proxy is.
    #[must_use]
    pub fn url_at(&self, address: impl std::fmt::Display) -> String {
        format!("postgres://postgres@{address}/{}", self.name)
    }

    /// The server, if it is its own.
    pub fn server(&mut self) -> &mut PostgresServer {
        self.own.as_mut().expect("a server of its own")
    }

    /// A fresh connection, for the test's own statements.
    pub async fn client(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("a connection")
    }

    /// Runs statements on a fresh connection.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.client().await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("statements that can be run");
        connection.close().await.expect("the end of the connection");
    }

    /// Lets the time of the records in it pass.
    pub async fn advance(&self, by: Duration) {
        let by = by.as_micros();
        let sql = format!(
            "UPDATE idempotent_records SET
                lease_until = lease_until - {by} * interval '1 microsecond',
                expires_at = expires_at - {by} * interval '1 microsecond',
                since = since - {by} * interval '1 microsecond',
                not_before = not_before - {by} * interval '1 microsecond'"
        );
        self.execute(&sql).await;
    }
}

impl From<PostgresServer> for PostgresDatabase {
    fn from(server: PostgresServer) -> Self {
        Self { name: "postgres".to_owned(), address: server.address(), own: Some(server) }
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        if self.own.is_none() {
            FREE.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.name));
        }
    }
}

/// Empties a database that a test is done with, and gives it another name.
///
/// The test's runtime may still be at work. Its sessions are ended, and under the old name there is no database any more
/// that they could come back to.
async fn empty(server: &PostgresServer, old: &str, new: &str) -> sqlx::Result<()> {
    let mut client = server.client().await;
    for statement in [
        format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{old}'"),
        format!("ALTER DATABASE {old} RENAME TO {new}"),
        format!("ALTER DATABASE {new} RESET ALL"),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut client).await?;
    }
    let url = format!("postgres://postgres@{}/{new}", server.address());
    let mut client = PgConnection::connect(&url).await?;
    sqlx::raw_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public").execute(&mut client).await?;
    client.close().await
}

async fn start() -> (PostgresServer, Child) {
    let server = PostgresServer::start_with(&["max_connections=400"]).await;
    let mut stop = Command::new("sh");
    stop.args(["-c", STOP]).arg(server.folder()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // In a group of its own: what interrupts the tests is not for it.
    let stop = std::os::unix::process::CommandExt::process_group(&mut stop, 0).spawn().expect("sh");
    (server, stop)
}
