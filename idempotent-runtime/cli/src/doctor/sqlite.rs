//! SQLite: the file's journal, its soundness, clock. `synchronous` belongs to each connection: the store sets it.

use sqlx::AssertSqlSafe;

use super::Check;
use crate::{connect::sqlite_pool, failure::Failure};

pub(super) async fn checks(url: &str, table: &str) -> Result<Vec<Check>, Failure> {
    let pool = sqlite_pool(url).await?;
    let failed = |error: &sqlx::Error| Failure::store(error);
    let journal: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&pool).await.map_err(|error| failed(&error))?;
    let synchronous: i64 =
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&pool).await.map_err(|error| failed(&error))?;
    let sound: String =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&pool).await.map_err(|error| failed(&error))?;
    let mut checks = vec![
        Check::new(
            "journal_mode",
            journal.clone(),
            journal != "wal",
            "the store refuses the file: without a write-ahead log, hits wait for writers",
            "PRAGMA journal_mode = WAL",
        ),
        Check::new(
            "synchronous",
            match synchronous {
                0 => "off",
                1 => "normal",
                2 => "full",
                _ => "extra",
            },
            synchronous < 2,
            "a power cut loses acknowledged records",
            "PRAGMA synchronous = FULL on each connection of your own pools",
        ),
        Check::new(
            "quick_check",
            sound.clone(),
            sound != "ok",
            "the file is damaged, and records in it may be lost",
            "Restore a backup, or dump what can be read with `.recover`",
        ),
    ];
    // The name of a table that can stand in SQL as it is.
    if table.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        const AHEAD: &str =
            "SELECT coalesce(max(completed_at) - CAST(strftime('%s', 'now') AS INTEGER) * 1000, 0) FROM ";
        let ahead: i64 = sqlx::query_scalar(AssertSqlSafe(format!("{AHEAD}{table}")))
            .fetch_one(&pool)
            .await
            .map_err(|error| failed(&error))?;
        checks.push(Check::new(
            "clock behind the newest record",
            format!("{} s", ahead.max(0) / 1000),
            ahead > 5_000,
            "the machine's clock went back: leases and results last longer by as much",
            "Set the clock, and slew it rather than step it",
        ));
    }
    Ok(checks)
}
