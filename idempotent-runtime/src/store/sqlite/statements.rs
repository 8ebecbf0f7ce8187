//! The SQL, with the table's name filled in once.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::error::ConfigError;

/// The database's clock, in ms since 1970. It stands still within a statement; a Julian day is exact to 0.04 ms.
const NOW: &str = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)";

/// The longest name of a table.
const MAX_NAME_LEN: usize = 48;

/// The name of a table that can stand in SQL as it is.
#[derive(Clone, Debug)]
pub(super) struct TableName(Box<str>);

impl Default for TableName {
    fn default() -> Self {
        Self("idempotent_records".into())
    }
}

impl TableName {
    pub(super) fn new(name: &str) -> Result<Self, ConfigError> {
        let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let is_reserved = name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"));
        if starts_well && is_word && !is_reserved && name.len() <= MAX_NAME_LEN {
            return Ok(Self(name.into()));
        }
        Err(ConfigError::Setting("the table's name is not up to 48 letters, digits and underscores"))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// A statement on this table. Its inputs are bound, never written into it.
    pub(super) fn fill(&self, template: &str) -> SqlStr {
        let sql: Arc<str> = template.replace("{table}", &self.0).replace("{now}", NOW).into();
        AssertSqlSafe(sql).into_sql_str()
    }
}

/// What a store asks; each file says what is bound.
pub(super) struct Statements {
    pub(super) check: SqlStr,
    pub(super) look: SqlStr,
    pub(super) claim: SqlStr,
    pub(super) renew: SqlStr,
    pub(super) complete: SqlStr,
    pub(super) release: SqlStr,
    pub(super) abandon: SqlStr,
    pub(super) forget: SqlStr,
    pub(super) purge: SqlStr,
    pub(super) list: SqlStr,
    pub(super) ended: SqlStr,
}

impl Statements {
    pub(super) fn new(table: &TableName) -> Self {
        Self {
            check: table.fill(include_str!("check.sql")),
            look: table.fill(include_str!("look.sql")),
            claim: table.fill(include_str!("claim.sql")),
            renew: table.fill(include_str!("renew.sql")),
            complete: table.fill(include_str!("complete.sql")),
            release: table.fill(include_str!("release.sql")),
            abandon: table.fill(include_str!("abandon.sql")),
            forget: table.fill(include_str!("forget.sql")),
            purge: table.fill(include_str!("purge.sql")),
            list: table.fill(include_str!("list.sql")),
            ended: table.fill(include_str!("ended.sql")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words() {
        for name in ["idempotent_records", "_", "A1", &"a".repeat(MAX_NAME_LEN)] {
            assert_eq!(TableName::new(name).expect("a name").as_str(), name);
        }
        let long = "a".repeat(MAX_NAME_LEN + 1);
        for name in ["", "1a", "a b", "a;DROP TABLE b", "a\"", "a.b", "é", "sqlite_x", "SQLITE_master", &long] {
            assert!(TableName::new(name).is_err(), "{name}");
        }
    }
}
