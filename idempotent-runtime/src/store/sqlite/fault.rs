//! Turns errors of SQLite and of its client into store errors, by meaning.

use std::{error::Error as StdError, fmt};

use crate::store::{StoreError, StoreErrorKind};

/// SQLite's extended result code.
///
/// The message stays out of our errors: some messages quote what the statement or the row says.
#[derive(Debug)]
struct ResultCode(i32);

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQLite answered with result code {}", self.0)
    }
}

impl StdError for ResultCode {}

/// The store error that means the same.
pub(crate) fn store_error(error: &sqlx::Error) -> StoreError {
    use StoreErrorKind::{Refused, Unavailable};
    if let Some(code) = result_code(error) {
        let (kind, what) = meaning(code);
        return StoreError::new(kind, what).with_source(ResultCode(code));
    }
    match error {
        sqlx::Error::PoolTimedOut => StoreError::new(Unavailable, "no SQLite connection was free in time"),
        sqlx::Error::PoolClosed => StoreError::new(Unavailable, "the pool of SQLite connections is closed"),
        sqlx::Error::WorkerCrashed => StoreError::new(Unavailable, "a SQLite connection has ended"),
        sqlx::Error::Configuration(_) => StoreError::new(Refused, "SQLite refused the settings of its connection"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => corrupt(),
        _ => StoreError::new(Unavailable, "SQLite cannot serve the request now"),
    }
}

/// The error for a row that is not a record.
pub(super) const fn corrupt() -> StoreError {
    StoreError::new(
        StoreErrorKind::Corrupt,
        "the row of this key is not a record that this version of the library wrote",
    )
}

/// True if another connection had the lock, and nothing was done.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    result_code(error).is_some_and(|code| matches!(code & 0xFF, BUSY | LOCKED | PROTOCOL))
}

/// True if the transaction read what has changed since: it cannot write any more, however long it waits.
/// <https://www.sqlite.org/rescode.html#busy_snapshot>
pub(super) fn is_outdated(error: &sqlx::Error) -> bool {
    result_code(error) == Some(BUSY_SNAPSHOT)
}

fn result_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

const BUSY: i32 = 5;
const BUSY_SNAPSHOT: i32 = 517;
const LOCKED: i32 = 6;
/// The code for processes that open the file at the same time and get into each other's way.
const PROTOCOL: i32 = 15;

/// The meaning of a result code, by its primary code, which is the low byte.
const fn meaning(code: i32) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Corrupt, Full, Refused, Unavailable};
    match code & 0xFF {
        1 => (
            Refused,
            "SQLite refused a statement: the schema is missing (call `migrate`), or of another version of this library",
        ),
        3 | 8 | 23 => {
            (Refused, "the SQLite file may not be written: the process needs to write the file and its folder")
        }
        _ if code == BUSY_SNAPSHOT => (Unavailable, "the transaction read what another has changed: begin it anew"),
        BUSY | LOCKED | PROTOCOL => (Unavailable, "the SQLite file was locked for too long"),
        11 | 26 => (Corrupt, "the SQLite file is damaged, or is none"),
        13 => (Full, "the disk is full, or the SQLite file has its largest size"),
        14 => (
            Refused,
            "the SQLite file cannot be opened: its folder has to exist, and the process to read and write both",
        ),
        18 => (Refused, "the result is larger than SQLite takes"),
        19 | 20 => (Refused, "the schema in the SQLite file is not as this library made it"),
        _ => (Unavailable, "SQLite cannot serve the request now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_codes_have_a_kind_each() {
        let cases = [
            (1, StoreErrorKind::Refused),
            (5, StoreErrorKind::Unavailable),
            (517, StoreErrorKind::Unavailable), // BUSY_SNAPSHOT
            (8, StoreErrorKind::Refused),
            (10, StoreErrorKind::Unavailable), // IOERR
            (11, StoreErrorKind::Corrupt),
            (13, StoreErrorKind::Full),
            (14, StoreErrorKind::Refused),
            (26, StoreErrorKind::Corrupt),
        ];
        for (code, kind) in cases {
            assert_eq!(meaning(code).0, kind, "{code}");
        }
    }

    #[test]
    fn what_an_error_of_the_client_quotes_stays_out() {
        let quoting = [
            sqlx::Error::Configuration("canary".into()),
            sqlx::Error::ColumnNotFound("canary".to_owned()),
            sqlx::Error::Decode("canary".into()),
            sqlx::Error::Protocol("canary".to_owned()),
        ];
        for error in quoting {
            let error = store_error(&error);
            assert!(!format!("{error:?} {error}").contains("canary"));
            assert!(error.source().is_none());
        }
    }
}
