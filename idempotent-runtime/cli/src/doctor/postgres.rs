//! PostgreSQL: durability, isolation, recovery, clock.

use super::Check;
use crate::{connect::postgres_pool, failure::Failure};

pub(super) async fn checks(url: &str) -> Result<Vec<Check>, Failure> {
    const LOOK: &str = "SELECT current_setting('fsync'), current_setting('full_page_writes'), \
        current_setting('synchronous_commit'), current_setting('default_transaction_isolation'), \
        pg_is_in_recovery()::text, extract(epoch FROM clock_timestamp())::bigint";
    let pool = postgres_pool(url).await?;
    let (fsync, pages, commit, isolation, recovery, now): (String, String, String, String, String, i64) =
        sqlx::query_as(LOOK).fetch_one(&pool).await.map_err(|error| Failure::store(&error))?;
    Ok(vec![
        Check::new(
            "fsync",
            fsync.clone(),
            fsync != "on",
            "a crash of the machine loses acknowledged records, or the whole database",
            "Set fsync = on",
        ),
        Check::new(
            "full_page_writes",
            pages.clone(),
            pages != "on",
            "a crash in the middle of a page can damage it, unless the file system writes pages whole",
            "Set full_page_writes = on",
        ),
        Check::new(
            "synchronous_commit",
            commit.clone(),
            commit == "off",
            "a crash loses the last commits of your own transactions; the store's own statements turn it on for themselves",
            "Set synchronous_commit = on",
        ),
        Check::new(
            "default_transaction_isolation",
            isolation.clone(),
            isolation != "read committed",
            "calls in a transaction of yours fail with serialization errors when they meet duplicates, and have to be tried again",
            "Set default_transaction_isolation = 'read committed', or retry such transactions",
        ),
        Check::new(
            "in recovery",
            recovery.clone(),
            recovery != "false",
            "a standby takes no claims, and what it shows may be old",
            "Connect to the primary",
        ),
        super::clock(now),
    ])
}
