//! `migrate` and `purge`.

use idempotent_runtime::{
    Idempotency,
    store::{postgres::PostgresStore, sqlite::SqliteStore},
};
use serde_json::json;

use crate::{
    arguments::Arguments,
    connect::{self, Kind},
    failure::{Exit, Failure},
    output::Output,
};

const BATCH: usize = 1_000;

/// Brings the schema up to date.
pub(crate) async fn migrate(arguments: &Arguments, out: Output) -> Result<Exit, Failure> {
    let (url, kind) = connect::url(arguments)?;
    let text = match kind {
        Kind::Postgres => {
            PostgresStore::builder().table(&arguments.table).connect(url).await?;
            "the schema is up to date"
        }
        Kind::Sqlite => {
            SqliteStore::builder().table(&arguments.table).connect(url).await?;
            "the schema is up to date"
        }
        Kind::Redis => {
            connect::open(arguments).await?;
            "Redis needs no schema"
        }
    };
    out.say(&json!({ "migrated": kind != Kind::Redis }), text)?;
    Ok(Exit::Fine)
}

/// Removes what has expired.
pub(crate) async fn purge(idempotency: &Idempotency, out: Output) -> Result<Exit, Failure> {
    let mut removed = 0;
    loop {
        let batch = idempotency.purge_expired(BATCH).await?;
        removed += batch;
        if batch < BATCH {
            break;
        }
        out.progress(&format!("{removed} removed so far"));
    }
    out.progress("");
    out.say(&json!({ "removed": removed }), &format!("{removed} expired records removed"))?;
    Ok(Exit::Fine)
}
