//! A consumer of the tests: its handler books a message in the database, and then does as the test says.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use idempotent_runtime::{
    Execution, Idempotency, InTransaction, Store,
    consumer::{Delivery, Inbox, InboxBuilder, Limits, Message, Settled, Summary},
    store::{postgres::PostgresStore, sqlite::SqliteStore},
    testing::{FaultyStore, ScriptedBroker, ScriptedMessage},
};
use idempotent_tests::database::Database;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, postgres::PgPoolOptions, sqlite::SqlitePoolOptions};

/// The error of a handler.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// Another run may succeed.
    Now,
    /// No other run would.
    ForEver,
    /// The database.
    #[expect(dead_code, reason = "shown by `Debug`")]
    Sql(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error.to_string())
    }
}

pub(crate) type Then = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>>;

/// A pool of the database.
#[derive(Clone)]
pub(crate) enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// A consumer, with its own connections.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) pool: Pool,
    pub(crate) store: FaultyStore<Arc<dyn Store>>,
    pub(crate) idempotency: Idempotency,
    pub(crate) inbox: Inbox<Failed>,
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS booked (message TEXT NOT NULL, attempt BIGINT NOT NULL)";

impl Desk {
    pub(crate) async fn open(database: &Database) -> Self {
        Self::open_with(database, |builder| builder).await
    }

    /// Its runs are renewed each 100 ms, and tried again at once.
    pub(crate) async fn open_with(
        database: &Database,
        change: impl FnOnce(InboxBuilder<Failed>) -> InboxBuilder<Failed>,
    ) -> Self {
        Self::open_at(database, &database.url(), change).await
    }

    /// One whose database is reached at another address.
    pub(crate) async fn open_at(
        database: &Database,
        url: &str,
        change: impl FnOnce(InboxBuilder<Failed>) -> InboxBuilder<Failed>,
    ) -> Self {
        let (store, pool): (Arc<dyn Store>, _) = match database {
            Database::Postgres(_) => {
                let store = PostgresStore::connect(url).await.unwrap();
                let pool = PgPoolOptions::new().max_connections(8).connect(url).await.unwrap();
                (Arc::new(store), Pool::Postgres(pool))
            }
            Database::Sqlite(file) => {
                let store = SqliteStore::connect(url).await.unwrap();
                let pool = SqlitePoolOptions::new().max_connections(8).connect_with(file.options()).await.unwrap();
                (Arc::new(store), Pool::Sqlite(pool))
            }
        };
        database.execute(TABLE).await;
        let store = FaultyStore::new(store);
        let idempotency = Idempotency::new(store.clone());
        let inbox = Inbox::builder(idempotency.clone(), "billing", "book")
            .backoff(Duration::ZERO)
            .permanent(|error| matches!(error, Failed::ForEver));
        Self { pool, store, idempotency, inbox: change(inbox).build().unwrap() }
    }

    /// Books a message in a transaction, then does as the test says.
    pub(crate) async fn handle<D: Delivery>(
        &self,
        delivery: D,
        then: impl FnOnce(Execution) -> Then + Send + 'static,
    ) -> Settled {
        match &self.pool {
            Pool::Postgres(pool) => {
                let handler = self.inbox.handle_in(pool, delivery, |tx, message, run| {
                    Box::pin(async move {
                        book_in_postgres(tx, message, &run).await?;
                        then(run).await
                    })
                });
                handler.await
            }
            Pool::Sqlite(pool) => {
                let handler = self.inbox.handle_in(pool, delivery, |tx, message, run| {
                    Box::pin(async move {
                        book_in_sqlite(tx, message, &run).await?;
                        then(run).await
                    })
                });
                handler.await
            }
        }
    }

    /// Books a message.
    pub(crate) async fn book<D: Delivery>(&self, delivery: D) -> Settled {
        self.handle(delivery, |_| Box::pin(async { Ok(()) })).await
    }

    /// Books the messages of a broker.
    pub(crate) async fn run(
        &self,
        broker: &ScriptedBroker,
        limits: Limits,
        shutdown: impl Future<Output = ()>,
        then: impl Fn(String, Execution) -> Then + Send + Sync + 'static,
    ) -> Summary {
        let then = Arc::new(then);
        match &self.pool {
            Pool::Postgres(pool) => {
                let handler =
                    self.inbox.run_in(pool, broker.deliveries(), limits, shutdown, move |tx, message, run| {
                        let then = Arc::clone(&then);
                        Box::pin(async move {
                            book_in_postgres(tx, message, &run).await?;
                            then(message.id.unwrap_or_default().to_owned(), run).await
                        })
                    });
                handler.await
            }
            Pool::Sqlite(pool) => {
                let handler =
                    self.inbox.run_in(pool, broker.deliveries(), limits, shutdown, move |tx, message, run| {
                        let then = Arc::clone(&then);
                        Box::pin(async move {
                            book_in_sqlite(tx, message, &run).await?;
                            then(message.id.unwrap_or_default().to_owned(), run).await
                        })
                    });
                handler.await
            }
        }
    }
}

const INSERT: &str = "INSERT INTO booked (message, attempt) VALUES ($1, $2)";

async fn book_in_postgres(
    tx: InTransaction<'_, '_, Postgres>,
    message: Message<'_>,
    run: &Execution,
) -> Result<(), Failed> {
    let attempt = i64::from(run.attempt());
    let insert = sqlx::query(INSERT).bind(message.id.unwrap_or_default()).bind(attempt);
    Ok(insert.execute(&mut **tx.0).await.map(drop)?)
}

async fn book_in_sqlite(
    tx: InTransaction<'_, '_, Sqlite>,
    message: Message<'_>,
    run: &Execution,
) -> Result<(), Failed> {
    let insert = sqlx::query(INSERT).bind(message.id.unwrap_or_default()).bind(run.attempt());
    Ok(insert.execute(&mut **tx.0).await.map(drop)?)
}

/// Counts the bookings of a message.
pub(crate) async fn booked(database: &Database, message: &str) -> i64 {
    database.number(&format!("SELECT count(*) FROM booked WHERE message = '{message}'")).await
}

/// A message whose payload says no more than its id.
pub(crate) fn message(id: impl fmt::Display) -> ScriptedMessage {
    ScriptedMessage::new(id.to_string(), format!("{{\"id\":\"{id}\"}}"))
}

/// A broker with one message, `m`.
pub(crate) fn broker() -> ScriptedBroker {
    let broker = ScriptedBroker::new();
    broker.send(message("m"));
    broker
}
