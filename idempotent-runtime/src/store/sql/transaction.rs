//! The parts of a step in the caller's transaction that are the same on every SQL database.

use sqlx::Transaction;

use crate::store::{
    StoreError, StoreErrorKind, StoreResult,
    transactional::{Connection, OpenTransaction},
};

// Written out: a macro would be quoted in the compile error of every caller whose argument is no transaction.
#[cfg(feature = "postgres")]
impl OpenTransaction for Transaction<'_, sqlx::Postgres> {
    fn connection(&mut self) -> Connection<'_> {
        &mut **self
    }
}

#[cfg(feature = "postgres")]
impl OpenTransaction for sqlx::PgConnection {
    fn connection(&mut self) -> Connection<'_> {
        self
    }
}

#[cfg(feature = "sqlite")]
impl OpenTransaction for Transaction<'_, sqlx::Sqlite> {
    fn connection(&mut self) -> Connection<'_> {
        &mut **self
    }
}

#[cfg(feature = "sqlite")]
impl OpenTransaction for sqlx::SqliteConnection {
    fn connection(&mut self) -> Connection<'_> {
        self
    }
}

/// The caller's connection, if it is one of the store's database; else a refusal with this text.
pub(crate) fn connection_of<'c, C: 'static>(
    connection: Connection<'c>,
    other_database: &'static str,
) -> StoreResult<&'c mut C> {
    connection.downcast_mut().ok_or(StoreError::new(StoreErrorKind::Refused, other_database))
}

/// Sets a savepoint.
pub(crate) fn savepoint(name: &str) -> String {
    format!("SAVEPOINT {name}")
}

/// Goes back to a savepoint and releases it: `ROLLBACK TO` alone leaves it there.
pub(crate) fn undo(name: &str) -> String {
    format!("ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")
}

/// Releases a savepoint: what was done after it stays in the transaction.
pub(crate) fn keep(name: &str) -> String {
    format!("RELEASE SAVEPOINT {name}")
}

/// The refusal of a completion that finds its claim gone, as after a body that ran `ROLLBACK`.
pub(crate) const CLAIM_GONE: StoreError = StoreError::new(
    StoreErrorKind::Refused,
    "the claim is not in the transaction any more: the body ended the transaction that its record was to be written in",
);
