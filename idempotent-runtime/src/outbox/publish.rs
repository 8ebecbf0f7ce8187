//! The publishing side: messages into the caller's transaction, and what operators do with those that are parked.

use std::sync::Arc;
#[cfg(feature = "postgres")]
use std::time::Duration;

use sqlx::Pool;
use uuid::Uuid;

#[cfg(feature = "postgres")]
use super::rows::postgres::PostgresInsert;
#[cfg(feature = "sqlite")]
use super::rows::sqlite::SqliteInsert;
use super::{
    OutboxDatabase, Outgoing, Parked,
    id::{self, Place, Written},
    rows::Rows,
};
#[cfg(feature = "postgres")]
use crate::store::postgres::statements::Table;
#[cfg(feature = "sqlite")]
use crate::store::sqlite::statements::TableName;
use crate::{
    Error, SetupError,
    engine::{claim::Claim, scope::Scope},
    store::{
        StoreError, StoreErrorKind, StoreResult,
        transactional::{Connection, OpenTransaction},
    },
};

/// The most parked messages that are listed at once.
const MAX_PARKED: usize = 1_000;

/// The number of times, and the pause between two, that a transaction of the run's own is asked about that has not ended yet: its connection may be
/// about to roll it back.
#[cfg(feature = "postgres")]
const LOOKS: u32 = 10;
#[cfg(feature = "postgres")]
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Writes messages into transactions, from where a [`Relay`](super::Relay) hands them to a broker.
///
/// Cheap to clone. See the [module](super) for what is promised.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// Of the table, where it is not the usual one.
    name: Option<String>,
    // `None` where the table's name is none for that database.
    #[cfg(feature = "postgres")]
    postgres: Option<PostgresInsert>,
    #[cfg(feature = "sqlite")]
    sqlite: Option<SqliteInsert>,
}

impl Outbox {
    /// The outbox beside the table `idempotent_records`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            name: None,
            #[cfg(feature = "postgres")]
            postgres: Some(PostgresInsert::new(&Table::default())),
            #[cfg(feature = "sqlite")]
            sqlite: Some(SqliteInsert::new(&TableName::default())),
        }
    }

    /// The outbox beside a table of another name: that of the store, whose `migrate` makes both.
    ///
    /// # Errors
    ///
    /// [`SetupError::Setting`] for a name that the store refuses as well.
    pub fn table(self, name: &str) -> Result<Self, SetupError> {
        // The rules of the databases differ: one that takes the name is enough.
        let mut refused = Ok(());
        #[cfg(feature = "postgres")]
        let postgres = Table::parse(name).map_err(|error| refused = Err(error)).ok();
        #[cfg(feature = "sqlite")]
        let sqlite = TableName::new(name).map_err(|error| refused = Err(error)).ok();
        #[cfg(all(feature = "postgres", feature = "sqlite"))]
        if postgres.is_some() || sqlite.is_some() {
            refused = Ok(());
        }
        refused.map(|()| Self {
            name: Some(name.to_owned()),
            #[cfg(feature = "postgres")]
            postgres: postgres.as_ref().map(PostgresInsert::new),
            #[cfg(feature = "sqlite")]
            sqlite: sqlite.as_ref().map(SqliteInsert::new),
        })
    }

    /// Writes a message into an open transaction, and answers its id. It is published once the transaction is committed, and never
    /// if that is rolled back.
    ///
    /// Inside a run of an idempotent function or of an inbox's handler, the id is a hash of the record's key, its life, and the
    /// label. So another attempt that publishes under the label publishes the same message: there is one row, and if that was
    /// relayed already, the next inbox knows the id. Without a label the id comes from what the message says, and from which of
    /// several equal ones of the run it is. Outside of a run, also in a task that its body spawns, each message has an id of its own.
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")]
    /// # async fn example(pool: &sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// use idempotent_runtime::outbox::{Outbox, Outgoing};
    ///
    /// let outbox = Outbox::new();
    /// let mut tx = pool.begin().await?;
    /// sqlx::query("UPDATE orders SET paid = true WHERE id = 17").execute(&mut *tx).await?;
    /// let paid = Outgoing {
    ///     label: Some("order-paid"),
    ///     topic: "orders",
    ///     key: Some("order-17"),
    ///     payload: br#"{"paid":true}"#,
    ///     headers: &[],
    /// };
    /// outbox.publish(&mut tx, paid).await?;
    /// tx.commit().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// On a connection without an open transaction the message is committed at once.
    ///
    /// # Errors
    ///
    /// [`Error::Store`]: the database's fault; or, as [`Refused`](StoreErrorKind::Refused), a message that is too long, a
    /// connection of no database that can have an outbox, or a second message with the same id and other content: one label
    /// for two messages. The last one fails the transaction: PostgreSQL refuses to go on with it, SQLite to commit it, which
    /// needs `foreign_keys` (sqlx's default). Once a relay has removed the first message, a second one is not noticed: it goes to the
    /// broker under the same id.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the transaction may have the message or not: roll it back.
    pub async fn publish<T: OpenTransaction + ?Sized>(
        &self,
        transaction: &mut T,
        outgoing: Outgoing<'_>,
    ) -> Result<String, Error> {
        outgoing.check()?;
        let (connection, digest) = (transaction.connection(), outgoing.digest());
        let claim = Scope::claim();
        let publication = Publication { outbox: self, outgoing, digest };
        let id = match (&claim, outgoing.label) {
            (None, _) => publication.insert(connection, id::alone()).await?.0,
            (Some(claim), Some(label)) => {
                // Known from here on to have published: its commit wakes the relay.
                claim.publications();
                publication.insert(connection, id::labelled(claim, label)).await?.0
            }
            (Some(claim), None) => publication.insert_unlabelled(connection, claim).await?,
        };
        Ok(id.to_string())
    }

    /// The messages that a broker will never take, the oldest 1,000. For operators.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn parked<DB: OutboxDatabase>(&self, pool: &Pool<DB>) -> Result<Vec<Parked>, Error> {
        Ok(self.rows(pool)?.parked(MAX_PARKED).await?)
    }

    /// The oldest parked messages, up to so many.
    #[cfg(feature = "admin")]
    pub(crate) async fn first_parked<DB: OutboxDatabase>(
        &self,
        pool: &Pool<DB>,
        limit: usize,
    ) -> Result<Vec<Parked>, Error> {
        Ok(self.rows(pool)?.parked(limit).await?)
    }

    /// Has a parked message published again, in its old place before those that wait; false if there is none with this id. For
    /// operators.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been asked for.
    pub async fn replay<DB: OutboxDatabase>(&self, pool: &Pool<DB>, id: &str) -> Result<bool, Error> {
        let replayed = self.rows(pool)?.replay(id).await?;
        super::wake::committed();
        Ok(replayed)
    }

    /// Removes a parked message; false if there is none with this id. For operators.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been removed.
    pub async fn discard<DB: OutboxDatabase>(&self, pool: &Pool<DB>, id: &str) -> Result<bool, Error> {
        Ok(self.rows(pool)?.discard(id).await?)
    }

    fn rows<DB: OutboxDatabase>(&self, pool: &Pool<DB>) -> Result<Arc<dyn Rows>, StoreError> {
        let rows = DB::rows(pool.clone());
        self.name.as_deref().map_or(Ok(Arc::clone(&rows)), |name| rows.renamed(name)).map_err(|_| NO_NAME)
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

const NO_NAME: StoreError =
    StoreError::new(StoreErrorKind::Refused, "the outbox's table has a name that this database cannot have");
const NO_OUTBOX: StoreError =
    StoreError::new(StoreErrorKind::Refused, "the transaction is of a database that can have no outbox");

/// A message that is being published.
struct Publication<'a> {
    outbox: &'a Outbox,
    outgoing: Outgoing<'a>,
    digest: [u8; 32],
}

impl Publication<'_> {
    async fn insert(&self, connection: Connection<'_>, id: Uuid) -> StoreResult<(Uuid, Written)> {
        #[cfg(feature = "postgres")]
        if let Some(connection) = connection.downcast_mut::<sqlx::PgConnection>() {
            let insert = self.outbox.postgres.as_ref().ok_or(NO_NAME)?;
            let transaction = insert.publish(connection, id, &self.outgoing, &self.digest).await?;
            return Ok((id, Written::Transaction(transaction)));
        }
        #[cfg(feature = "sqlite")]
        if let Some(connection) = connection.downcast_mut::<sqlx::SqliteConnection>() {
            let insert = self.outbox.sqlite.as_ref().ok_or(NO_NAME)?;
            let row = insert.publish(connection, id, &self.outgoing, &self.digest).await?;
            return Ok((id, Written::Row(row)));
        }
        Err(NO_OUTBOX)
    }

    /// Inserts a message by what it says, and which of several equal ones of the run it is.
    async fn insert_unlabelled(&self, connection: Connection<'_>, claim: &Claim) -> StoreResult<Uuid> {
        let publications = claim.publications();
        let seen = publications.places(&self.digest);
        let taken_back = self.taken_back(connection, claim, &seen).await?;
        let at = publications.take(&self.digest, &seen, taken_back);
        match self.insert(connection, id::unlabelled(claim, &self.digest, at)).await {
            Ok((id, written)) => {
                publications.set(&self.digest, at, Place::Published(written));
                Ok(id)
            }
            Err(error) => {
                publications.set(&self.digest, at, Place::Free);
                Err(error)
            }
        }
    }

    /// Finds an equal message of this run that its transaction has taken back.
    async fn taken_back(
        &self,
        connection: Connection<'_>,
        claim: &Claim,
        seen: &[Place],
    ) -> StoreResult<Option<usize>> {
        let written = seen.iter().enumerate().filter_map(|(at, place)| match place {
            Place::Published(written) => Some((at, id::unlabelled(claim, &self.digest, at).to_string(), written)),
            Place::Taken | Place::Free => None,
        });
        let written: Vec<_> = written.collect();
        if written.is_empty() {
            return Ok(None);
        }
        let place = |found: Option<usize>| found.and_then(|found| written.get(found)).map(|(at, ..)| *at);
        #[cfg(feature = "postgres")]
        if let (Some(connection), Some(insert)) =
            (connection.downcast_mut::<sqlx::PgConnection>(), &self.outbox.postgres)
        {
            let (mut ids, mut transactions) = (Vec::new(), Vec::new());
            for (_, id, written) in &written {
                #[allow(irrefutable_let_patterns, reason = "without the other database")]
                if let Written::Transaction(transaction) = written {
                    ids.push(id.clone());
                    transactions.push(transaction.clone());
                }
            }
            for _ in 0..LOOKS {
                match insert.taken_back(&mut *connection, &ids, &transactions).await? {
                    Some(None) => tokio::time::sleep(LOOK_AGAIN).await,
                    found => return Ok(place(found.flatten())),
                }
            }
            return Ok(None);
        }
        #[cfg(feature = "sqlite")]
        if let (Some(connection), Some(insert)) =
            (connection.downcast_mut::<sqlx::SqliteConnection>(), &self.outbox.sqlite)
        {
            let mut rows = Vec::new();
            for (_, id, written) in &written {
                #[allow(irrefutable_let_patterns, reason = "without the other database")]
                if let Written::Row(row) = written {
                    rows.push((*row, id.clone()));
                }
            }
            return Ok(place(insert.taken_back(connection, &rows).await?));
        }
        Ok(None)
    }
}
