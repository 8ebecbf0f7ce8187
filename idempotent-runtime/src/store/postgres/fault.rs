//! Turns errors of the client and of the server into store errors, by meaning.

use std::{error::Error as StdError, fmt};

use sqlx::{
    Error,
    error::DatabaseError,
    postgres::{PgDatabaseError, PgSeverity},
};

use crate::store::{StoreError, StoreErrorKind, tls};

/// The server's code for what went wrong.
///
/// Its text stays out of our errors: messages and details quote keys and values.
#[derive(Debug)]
struct SqlState(String);

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered SQLSTATE {}", self.0)
    }
}

impl StdError for SqlState {}

/// The store error that means the same.
pub(crate) fn store_error(error: Error) -> StoreError {
    use StoreErrorKind::{Refused, Unavailable};
    match error {
        Error::Database(error) => server_error(&*error),
        Error::Io(error) if tls::is_fault(&error) => StoreError::new(Refused, tls::FAULT),
        Error::Io(error) => StoreError::new(Unavailable, "PostgreSQL cannot be reached").with_source(error),
        Error::PoolTimedOut => StoreError::new(Unavailable, "no connection to PostgreSQL became free in time"),
        Error::PoolClosed => StoreError::new(Unavailable, "the pool of PostgreSQL connections is closed"),
        Error::Tls(_) => StoreError::new(
            Refused,
            "the TLS connection to PostgreSQL could not be set up: the server has no TLS, a certificate or key is not \
             PEM, or the feature `postgres-tls` is missing",
        ),
        Error::Configuration(_) => StoreError::new(Refused, "the PostgreSQL client refused its settings"),
        Error::ColumnDecode { .. } | Error::Decode(_) => undecodable(),
        // The others may quote what they could not handle.
        _ => StoreError::new(Unavailable, "PostgreSQL cannot serve the request now"),
    }
}

/// The error for a row that this library has not written.
pub(super) fn undecodable() -> StoreError {
    StoreError::new(
        StoreErrorKind::Corrupt,
        "the row of this key is not a record that this version of the library wrote",
    )
}

/// The error for an answer that did not come.
pub(super) fn timed_out() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "PostgreSQL did not answer in time")
}

/// True if the same statement may succeed at once: the server chose it as the victim of a conflict.
pub(super) fn is_conflict(error: &Error) -> bool {
    code(error).is_some_and(|code| matches!(&*code, "40001" | "40P01"))
}

/// True if `end.sql` found nothing to end: it divides by the number of rows.
pub(super) fn is_gone(error: &Error) -> bool {
    code(error).is_some_and(|code| code == "22012")
}

/// True if another transaction held the lock for too long.
pub(super) fn is_lock_timeout(error: &Error) -> bool {
    code(error).is_some_and(|code| code == "55P03")
}

/// True if the connection can be used again: the server refused a statement, and did not end the session.
pub(super) fn leaves_session(error: &Error) -> bool {
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    error.is_some_and(|error| error.severity() == PgSeverity::Error)
}

/// True if a pooler refuses the parameters of a connection's start: `PgBouncer`, or Amazon's RDS Proxy.
pub(super) fn refuses_parameters(error: &Error) -> bool {
    error.as_database_error().is_some_and(|error| match error.code().as_deref() {
        Some("08P01") => error.message().starts_with("unsupported startup parameter"),
        Some("0A000") => true,
        _ => false,
    })
}

pub(super) fn is_undefined_table(error: &Error) -> bool {
    code(error).is_some_and(|code| code == "42P01")
}

fn code(error: &Error) -> Option<std::borrow::Cow<'_, str>> {
    error.as_database_error().and_then(DatabaseError::code)
}

fn server_error(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let (kind, what) = if is_poolers_own(error) {
        (StoreErrorKind::Unavailable, "a pooler has no connection to PostgreSQL now")
    } else {
        meaning(&code)
    };
    StoreError::new(kind, what).with_source(SqlState(code.into_owned()))
}

/// True for the troubles of `PgBouncer` that pass: it has the same code for them (`query_wait_timeout`,
/// `server_login_retry`, a server that is down) as for those that do not.
fn is_poolers_own(error: &dyn DatabaseError) -> bool {
    const LASTING: [&str; 2] = ["unsupported", "no such"];
    let is_fatal =
        error.try_downcast_ref::<PgDatabaseError>().is_none_or(|error| error.severity() != PgSeverity::Error);
    let is_lasting = LASTING.iter().any(|start| error.message().starts_with(start));
    is_fatal && !is_lasting && error.code().is_some_and(|code| code == "08P01")
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn meaning(code: &str) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Full, Refused, Unavailable};
    match code {
        "42P01" => (Refused, "the PostgreSQL table is missing: call `migrate`"),
        "42703" | "42883" => (
            Refused,
            "the PostgreSQL table is of another version of this library (older: call `migrate`; newer: update this process), or not this library's",
        ),
        "42P07" | "42710" | "42723" | "42809" => (
            Refused,
            "something else in the PostgreSQL schema has the name of the store's table, or one that begins with it and that the \
             store needs: choose another name (`table`), or another schema",
        ),
        "42P16" | "42701" | "42804" => (
            Refused,
            "a PostgreSQL table or view with a name of this store is not this library's: choose another name (`table`), or \
             another schema",
        ),
        "23503" => {
            (Refused, "the transaction checks constraints at once: `SET CONSTRAINTS ALL DEFERRED` before the call")
        }
        "25P01" => (Refused, "the connection that `transaction` names is not in a transaction"),
        "25P02" => (
            Refused,
            "an error of the database in this transaction was not passed on: nothing of it can be committed, roll it back",
        ),
        "42501" => (
            Refused,
            "the PostgreSQL role lacks a privilege: grant it what the documentation of `store::postgres` lists",
        ),
        "54000" => (Refused, "the key is too long for PostgreSQL's index"),
        // It may be a standby that is about to be promoted. A role that is read-only is refused when it connects.
        "25006" => (Unavailable, "the PostgreSQL server, or the transaction, is read-only"),
        "08P01" => (
            Refused,
            "the server, or a pooler before it, refused a parameter or a message: PgBouncer needs \
             `ignore_startup_parameters = extra_float_digits`",
        ),
        "26000" | "42P05" => (
            Refused,
            "prepared statements are lost or met twice, as behind a pooler that shares sessions between clients: \
             connect to the server itself, or through a pool with `pool_mode = session`",
        ),
        "3F000" => (Refused, "the PostgreSQL schema does not exist: create it, or change `search_path`"),
        "42704" => {
            (Refused, "PostgreSQL has no object or parameter of a name that was given: check role and `options`")
        }
        "40001" | "40P01" => (Unavailable, "PostgreSQL gave up on conflicting transactions"),
        "55P03" | "57014" => (Unavailable, "PostgreSQL did not finish the statement in time"),
        "53300" => (Unavailable, "PostgreSQL has too many connections"),
        "53100" => (Full, "PostgreSQL's disk is full"),
        "53200" => (Full, "PostgreSQL is out of memory"),
        _ => match code.get(..2) {
            Some("28") => (Refused, "PostgreSQL refused the credentials"),
            Some("3D") => (Refused, "the PostgreSQL database does not exist"),
            Some("57") => (Unavailable, "PostgreSQL is shutting down or starting up"),
            Some("XX") => (Unavailable, "PostgreSQL reported an internal error or damaged data"),
            _ => (Unavailable, "PostgreSQL cannot serve the request now"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_errors_have_a_kind_each() {
        let cases = [
            ("42P01", StoreErrorKind::Refused),
            ("42P07", StoreErrorKind::Refused),
            ("42P16", StoreErrorKind::Refused),
            ("42710", StoreErrorKind::Refused),
            ("42723", StoreErrorKind::Refused),
            ("42809", StoreErrorKind::Refused),
            ("08P01", StoreErrorKind::Refused),
            ("26000", StoreErrorKind::Refused),
            ("3F000", StoreErrorKind::Refused),
            ("42704", StoreErrorKind::Refused),
            ("42P05", StoreErrorKind::Refused),
            ("42501", StoreErrorKind::Refused),
            ("28P01", StoreErrorKind::Refused),
            ("3D000", StoreErrorKind::Refused),
            ("25006", StoreErrorKind::Unavailable),
            ("40001", StoreErrorKind::Unavailable),
            ("40P01", StoreErrorKind::Unavailable),
            ("57014", StoreErrorKind::Unavailable),
            ("57P01", StoreErrorKind::Unavailable),
            ("57P03", StoreErrorKind::Unavailable),
            ("53300", StoreErrorKind::Unavailable),
            ("53100", StoreErrorKind::Full),
            ("", StoreErrorKind::Unavailable),
        ];
        for (code, kind) in cases {
            assert_eq!(meaning(code).0, kind, "{code}");
        }
    }

    #[test]
    fn what_a_client_quotes_stays_out() {
        for error in [Error::Protocol("canary".into()), Error::Decode("canary".into()), Error::Tls("canary".into())] {
            let error = store_error(error);
            assert!(!format!("{error:?} {error}").contains("canary"));
        }
    }
}
