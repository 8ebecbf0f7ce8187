//! The statements, built once for a table. They take values as parameters; only the table's name is in their text.

use std::{sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::parameters::lock_timeout;
use crate::error::SetupError;

/// The longest name of a table. It leaves room for the suffixes of the other objects within PostgreSQL's 63 bytes.
const MAX_TABLE_LEN: usize = 48;

/// The name of a table that needs no quoting care: `[a-z_][a-z0-9_]*`.
#[derive(Clone, Debug)]
pub(crate) struct Table(Arc<str>);

#[cfg(feature = "outbox")]
impl Default for Table {
    fn default() -> Self {
        Self("idempotent_records".into())
    }
}

impl Table {
    pub(crate) fn parse(name: &str) -> Result<Self, SetupError> {
        let is_word = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if name.is_empty() || name.len() > MAX_TABLE_LEN || name.starts_with(|c: char| c.is_ascii_digit()) || !is_word {
            return Err(SetupError::Setting(
                "the name of the PostgreSQL table has to be of up to 48 lower-case ASCII letters, digits and underscores",
            ));
        }
        Ok(Self(name.into()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Fills the name into a statement or a script.
    pub(crate) fn fill(&self, sql: &str) -> SqlStr {
        let text: Arc<str> = sql.replace("{table}", &self.0).into();
        AssertSqlSafe(text).into_sql_str()
    }

    /// A statement with the name and its own settings filled in.
    fn fill_with(&self, sql: &str, patience: Duration) -> SqlStr {
        let settings = include_str!("settings.sql").replace("{lock_timeout}", &lock_timeout(patience));
        self.fill(&sql.replace("{settings}", &settings))
    }
}

/// The time that a waiter may wait for the lock of a record, to be notified of its end. It can poll as well.
const AWAIT_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// The time that several ends of runs wait for the lock of one of the records, before each is asked alone.
const BATCH_LOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// The end of `claim.sql`. In a transaction of the caller's it puts the caller's own setting back, whether there is an answer or not.
const ANSWER: &str = "SELECT * FROM answer";
const ANSWER_IN_TRANSACTION: &str =
    "SELECT answer.*, set_config('lock_timeout', patience.callers, true) FROM patience LEFT JOIN answer ON true";

/// The statement of each file, whose top documents the parameters.
pub(super) struct Statements {
    pub(super) claim: SqlStr,
    pub(super) claim_all: SqlStr,
    pub(super) claim_in_transaction: SqlStr,
    pub(super) renew: SqlStr,
    pub(super) complete: SqlStr,
    pub(super) complete_all: SqlStr,
    /// In a transaction of the caller's, whose settings are its own.
    pub(super) complete_in_transaction: SqlStr,
    pub(super) end: SqlStr,
    pub(super) suspend: SqlStr,
    pub(super) append: SqlStr,
    pub(super) steps: SqlStr,
    pub(super) owner: SqlStr,
    pub(super) fence: SqlStr,
    pub(super) forget: SqlStr,
    pub(super) resolve: SqlStr,
    pub(super) inspect: SqlStr,
    pub(super) list: SqlStr,
    pub(super) purge: SqlStr,
    pub(super) wait: SqlStr,
    pub(super) bury: SqlStr,
    pub(super) letter: SqlStr,
    pub(super) letter_operations: SqlStr,
    pub(super) letters: SqlStr,
    pub(super) replay: SqlStr,
    pub(super) remove_letter: SqlStr,
    pub(super) dead_again: SqlStr,
}

impl Statements {
    /// `timeout` is the time after which nobody waits for an answer any more.
    pub(super) fn new(table: &Table, timeout: Duration) -> Self {
        let claim = |asked, answer| {
            table.fill(&include_str!("claim.sql").replace("{asked}", asked).replace("{answer}", answer))
        };
        let complete = include_str!("complete.sql");
        let one = complete.replace("{asked}", include_str!("asked/completion.sql"));
        Self {
            claim: claim(include_str!("asked/claim.sql"), ANSWER),
            claim_all: claim(include_str!("asked/claims.sql"), ANSWER),
            claim_in_transaction: claim(include_str!("asked/claim_in_transaction.sql"), ANSWER_IN_TRANSACTION),
            renew: table.fill_with(include_str!("renew.sql"), timeout),
            complete: table.fill_with(&one, timeout),
            complete_all: table
                .fill_with(&complete.replace("{asked}", include_str!("asked/completions.sql")), BATCH_LOCK_TIMEOUT),
            complete_in_transaction: table.fill(&one.replace("{settings}", "settings AS MATERIALIZED (SELECT)")),
            end: table.fill(include_str!("end.sql")),
            suspend: table.fill_with(include_str!("suspend.sql"), timeout),
            append: table.fill_with(include_str!("append.sql"), timeout),
            steps: table.fill(include_str!("steps.sql")),
            owner: table.fill(include_str!("owner.sql")),
            fence: table.fill_with(include_str!("fence.sql"), timeout),
            forget: table.fill_with(include_str!("forget.sql"), timeout),
            resolve: table.fill_with(include_str!("resolve.sql"), timeout),
            inspect: table.fill(include_str!("inspect.sql")),
            list: table.fill(include_str!("list.sql")),
            purge: table.fill(include_str!("purge.sql")),
            wait: table.fill_with(include_str!("await.sql"), AWAIT_LOCK_TIMEOUT),
            bury: table.fill_with(include_str!("bury.sql"), timeout),
            letter: table.fill_with(include_str!("letter.sql"), timeout),
            replay: table.fill_with(include_str!("replay.sql"), timeout),
            remove_letter: table.fill_with(include_str!("remove_letter.sql"), timeout),
            dead_again: table.fill_with(include_str!("dead_again.sql"), timeout),
            letter_operations: table.fill(include_str!("letter_operations.sql")),
            letters: table.fill(include_str!("letters.sql")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_tables() {
        for name in ["idempotent_records", "_", "t2", &"t".repeat(MAX_TABLE_LEN)] {
            assert!(Table::parse(name).is_ok(), "{name}");
        }
        for name in ["", "2t", "T", "a.b", "a-b", "a\"b", "a'b", "tä", "a b", &"t".repeat(MAX_TABLE_LEN + 1)] {
            assert!(Table::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_name_is_filled_in_everywhere() {
        let filled = Statements::new(&Table::parse("mine").expect("a name"), Duration::from_secs(1));
        assert!(filled.claim.as_str().contains("INSERT INTO \"mine\""));
        assert!(!filled.complete.as_str().contains('{'));
    }
}
