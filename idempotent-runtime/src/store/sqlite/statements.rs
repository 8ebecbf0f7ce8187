//! The SQL, with the table's name filled in once.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::times;
use crate::error::SetupError;

/// The scripts that lead from each version of the schema to the next; an empty file is at version 0. Never changed, only
/// added to.
pub(super) const STEPS: [&str; 6] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
];

/// The longest name of a table.
const MAX_NAME_LEN: usize = 48;

/// The name of a table that can stand in SQL as it is.
#[derive(Clone, Debug)]
pub(crate) struct TableName(Box<str>);

impl Default for TableName {
    fn default() -> Self {
        Self("idempotent_records".into())
    }
}

impl TableName {
    pub(crate) fn new(name: &str) -> Result<Self, SetupError> {
        let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let is_reserved = name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"));
        if starts_well && is_word && !is_reserved && name.len() <= MAX_NAME_LEN {
            return Ok(Self(name.into()));
        }
        Err(SetupError::Setting(
            "the name of the SQLite table has to be of up to 48 ASCII letters, digits and underscores, and begin with a letter or `_`",
        ))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Fills the name and the clock into a statement. Inputs are bound, and never written into its text.
    pub(crate) fn fill(&self, template: &str) -> SqlStr {
        let sql: Arc<str> = times::fill(template).replace("{table}", &self.0).into();
        AssertSqlSafe(sql).into_sql_str()
    }
}

/// The statement of each file, whose top documents the inputs.
pub(super) struct Statements {
    pub(super) check: SqlStr,
    pub(super) look: SqlStr,
    pub(super) behind: SqlStr,
    pub(super) claim: SqlStr,
    pub(super) renew: SqlStr,
    pub(super) complete: SqlStr,
    pub(super) release: SqlStr,
    pub(super) suspend: SqlStr,
    pub(super) own: SqlStr,
    pub(super) append: SqlStr,
    pub(super) step: SqlStr,
    pub(super) steps: SqlStr,
    pub(super) forget: SqlStr,
    pub(super) resolve: SqlStr,
    pub(super) remove: SqlStr,
    pub(super) purge: SqlStr,
    pub(super) list: SqlStr,
    pub(super) ended: SqlStr,
    pub(super) letter: SqlStr,
    pub(super) bury: SqlStr,
    pub(super) letter_operations: SqlStr,
    pub(super) letters: SqlStr,
    pub(super) replaying: SqlStr,
    pub(super) reopen: SqlStr,
    pub(super) replay: SqlStr,
    pub(super) is_dead: SqlStr,
    pub(super) remove_letter: SqlStr,
    pub(super) die: SqlStr,
    pub(super) dead_again: SqlStr,
}

impl Statements {
    pub(super) fn new(table: &TableName) -> Self {
        Self {
            check: table.fill(include_str!("check.sql")),
            look: table.fill(include_str!("look.sql")),
            behind: table.fill(include_str!("behind.sql")),
            claim: table.fill(include_str!("claim.sql")),
            renew: table.fill(include_str!("renew.sql")),
            complete: table.fill(include_str!("complete.sql")),
            release: table.fill(include_str!("release.sql")),
            suspend: table.fill(include_str!("suspend.sql")),
            own: table.fill(include_str!("own.sql")),
            append: table.fill(include_str!("append.sql")),
            step: table.fill(include_str!("step.sql")),
            steps: table.fill(include_str!("steps.sql")),
            forget: table.fill(include_str!("forget.sql")),
            resolve: table.fill(include_str!("resolve.sql")),
            remove: table.fill(include_str!("remove.sql")),
            purge: table.fill(include_str!("purge.sql")),
            list: table.fill(include_str!("list.sql")),
            ended: table.fill(include_str!("ended.sql")),
            letter: table.fill(include_str!("letter.sql")),
            bury: table.fill(include_str!("bury.sql")),
            letter_operations: table.fill(include_str!("letter_operations.sql")),
            letters: table.fill(include_str!("letters.sql")),
            replaying: table.fill(include_str!("replaying.sql")),
            reopen: table.fill(include_str!("reopen.sql")),
            replay: table.fill(include_str!("replay.sql")),
            is_dead: table.fill(include_str!("is_dead.sql")),
            remove_letter: table.fill(include_str!("remove_letter.sql")),
            die: table.fill(include_str!("die.sql")),
            dead_again: table.fill(include_str!("dead_again.sql")),
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, Row as _, SqliteConnection};

    use super::*;

    #[tokio::test]
    async fn statements_use_the_indexes() {
        let table = TableName::default();
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.expect("a connection");
        for step in STEPS {
            sqlx::raw_sql(table.fill(step)).execute(&mut connection).await.expect("the schema");
        }
        let statements = Statements::new(&table);
        let by_key =
            "SEARCH idempotent_records USING INDEX sqlite_autoindex_idempotent_records_1 (operation=? AND key=?)";
        let of_life = "SEARCH step USING INDEX sqlite_autoindex_idempotent_records_steps_1 (generation=?)";
        let by_step = "SEARCH step USING INDEX sqlite_autoindex_idempotent_records_steps_1 (generation=? AND name=?)";
        let cases = [
            (&statements.look, by_key),
            (&statements.behind, by_key),
            (&statements.renew, by_key),
            (&statements.complete, by_key),
            (&statements.release, by_key),
            (&statements.suspend, by_key),
            (&statements.own, by_key),
            (&statements.append, by_key),
            (&statements.step, by_step),
            (&statements.steps, of_life),
            (&statements.forget, by_key),
            (&statements.resolve, by_key),
            (&statements.remove, by_key),
            (&statements.ended, by_key),
            (&statements.purge, "USING COVERING INDEX idempotent_records_expiry (expires_at<?)"),
            (&statements.list, "SEARCH idempotent_records USING INTEGER PRIMARY KEY (rowid>?)"),
        ];
        for (statement, expected) in cases {
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", statement.as_str()));
            let rows = sqlx::query(explain).fetch_all(&mut connection).await.expect("a plan");
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            assert!(plan.iter().any(|step| step.contains(expected)), "{plan:#?}");
            // What is scanned is the list of keys that was asked for.
            assert!(plan.iter().all(|step| !step.contains("SCAN") || step.contains("SCAN k ")), "{plan:#?}");
        }
    }

    /// A plan does not list what an upsert looks up, but the program does: the unique index is asked for the key, and
    /// nothing is read from beginning to end but the one row of the schema's table.
    #[tokio::test]
    async fn a_claim_finds_its_row_by_the_unique_index() {
        let table = TableName::default();
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.expect("a connection");
        for step in STEPS {
            sqlx::raw_sql(table.fill(step)).execute(&mut connection).await.expect("the schema");
        }
        let root = |name| {
            let sql = AssertSqlSafe(format!("SELECT rootpage FROM sqlite_schema WHERE name = '{name}'"));
            sqlx::query_scalar::<_, i64>(sql)
        };
        let index = root("sqlite_autoindex_idempotent_records_1").fetch_one(&mut connection).await.expect("an index");
        let schema = root("idempotent_records_schema").fetch_one(&mut connection).await.expect("a table");
        let explain = AssertSqlSafe(format!("EXPLAIN {}", Statements::new(&table).claim.as_str()));
        let rows = sqlx::query(explain).fetch_all(&mut connection).await.expect("a program");
        // The programs of triggers follow, each with addresses and cursors of its own.
        let own = (0_i64..).zip(&rows).take_while(|(address, row)| row.get::<i64, _>("addr") == *address);
        let steps: Vec<(String, i64, i64)> =
            own.map(|(_, row)| (row.get("opcode"), row.get("p1"), row.get("p2"))).collect();
        // Neither table nor index where it is the statement's own scratch space.
        let opened = |cursor: i64| {
            let is_open =
                |step: &&(String, i64, i64)| ["OpenRead", "OpenWrite"].contains(&&*step.0) && step.1 == cursor;
            steps.iter().find(is_open).map(|step| step.2)
        };
        let cursors = |opcodes: &[&str]| -> Vec<i64> {
            let of_these = steps.iter().filter(|step| opcodes.contains(&&*step.0));
            of_these.filter_map(|step| opened(step.1)).collect()
        };
        assert_eq!(cursors(&["NoConflict"]), [index], "{steps:#?}");
        assert!(cursors(&["Rewind", "Last", "Next", "Prev"]).iter().all(|root| *root == schema), "{steps:#?}");
    }

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
