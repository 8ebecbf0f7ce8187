//! The statements, built once for a table. They take values as parameters; only the table's name is in their text.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::error::SetupError;

/// The longest name of a table. It leaves room for the suffixes of the other objects within PostgreSQL's 63 bytes.
const MAX_TABLE_LEN: usize = 48;

/// [`ClaimRequest::HELD`](crate::store::ClaimRequest::HELD).
const HELD: &str = "interval '1576800000 seconds'";

/// The name of a table that needs no quoting care: `[a-z_][a-z0-9_]*`.
#[derive(Clone, Debug)]
pub(super) struct Table(Arc<str>);

impl Table {
    pub(super) fn parse(name: &str) -> Result<Self, SetupError> {
        let is_word = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if name.is_empty() || name.len() > MAX_TABLE_LEN || name.starts_with(|c: char| c.is_ascii_digit()) || !is_word {
            return Err(SetupError::Setting(
                "the name of the PostgreSQL table has to be of up to 48 lower-case ASCII letters, digits and underscores",
            ));
        }
        Ok(Self(name.into()))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// Fills the name, and the limit of held records, into a statement or a script.
    pub(super) fn fill(&self, sql: &str) -> SqlStr {
        let text: Arc<str> = sql.replace("{table}", &self.0).replace("{held}", HELD).into();
        AssertSqlSafe(text).into_sql_str()
    }
}

macro_rules! statements {
    ($($name:ident = $file:literal),* $(,)?) => {
        /// The statement of each file, whose top documents the parameters.
        pub(super) struct Statements {
            $(pub(super) $name: SqlStr,)*
        }

        impl Statements {
            pub(super) fn new(table: &Table) -> Self {
                Self { $($name: table.fill(include_str!($file)),)* }
            }
        }
    };
}

statements! {
    claim = "claim.sql",
    renew = "renew.sql",
    end = "end.sql",
    release = "release.sql",
    owner = "owner.sql",
    fence = "fence.sql",
    forget = "forget.sql",
    inspect = "inspect.sql",
    list = "list.sql",
    purge = "purge.sql",
    wait = "await.sql",
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
        let filled = Statements::new(&Table::parse("mine").expect("a name"));
        assert!(filled.claim.as_str().contains("INSERT INTO \"mine\""));
        assert!(!filled.end.as_str().contains('{'));
    }
}
