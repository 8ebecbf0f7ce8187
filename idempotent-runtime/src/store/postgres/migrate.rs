//! The schema, version by version.

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, Row};
use tokio::time::{sleep, timeout};

use super::{
    Shared,
    fault::{is_lock_timeout, is_undefined_table, store_error, timed_out},
    row,
};
use crate::store::{StoreError, StoreErrorKind, StoreResult};

/// What leads from each version to the next; an empty database is at version 0. Never changed, only added to.
const STEPS: [&str; 2] = [include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// `SELECT … FOR UPDATE SKIP LOCKED` and generated plans are older; exact intervals came with this release.
const OLDEST_SERVER: i32 = 140_000;

/// How long it waits for those who use the table, and they for it; and how long it lets them be.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '100ms'";
const PAUSE: Duration = Duration::from_millis(200);

const VERSION: &str = r#"SELECT version FROM "{table}_schema""#;

const START: &str = r#"
CREATE TABLE IF NOT EXISTS "{table}_schema" (version integer NOT NULL);
INSERT INTO "{table}_schema" (version) SELECT 0 WHERE NOT EXISTS (SELECT FROM "{table}_schema");
"#;

impl Shared {
    /// Brings the schema up to date, whatever other processes do at the same time.
    pub(super) async fn migrate(&self) -> StoreResult<()> {
        let mut lent = self.session.connections.take().await.map_err(store_error)?;
        let migrated = async {
            check_server(&mut lent, self.allow_data_loss).await?;
            // A role that may not change the schema gets by where there is nothing to change.
            if self.version(&mut lent).await? < STEPS.len() {
                // Whoever waits to alter the table keeps everybody else from it who comes later. So this waits for what is
                // under way for a moment only, and lets others pass before it tries again.
                while !self.upgrade(&mut lent).await? {
                    sleep(PAUSE).await;
                }
            }
            Ok(())
        };
        timeout(self.session.timeout * 10, migrated).await.map_err(|_| timed_out())??;
        lent.give_back();
        Ok(())
    }

    /// Whether it is up to date now: `false` where the table is in use.
    async fn upgrade(&self, connection: &mut PgConnection) -> StoreResult<bool> {
        let mut transaction = connection.begin().await.map_err(store_error)?;
        // Waiting for another process's migration is not waiting for a claim.
        transaction
            .execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            .await
            .map_err(store_error)?;
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("idempotent schema of {}", self.table.name()))
            .execute(&mut *transaction)
            .await
            .map_err(store_error)?;
        transaction.execute(sqlx::raw_sql(self.table.fill(START))).await.map_err(store_error)?;
        // The lock is ours, and this statement sees all that its former holder has committed.
        let version = self.version(&mut transaction).await?;
        transaction.execute(LOCK_TIMEOUT).await.map_err(store_error)?;
        for step in STEPS.iter().skip(version) {
            match transaction.execute(sqlx::raw_sql(self.table.fill(step))).await {
                Err(error) if is_lock_timeout(&error) => {
                    return transaction.rollback().await.map_err(store_error).map(|()| false);
                }
                answer => answer.map_err(store_error)?,
            };
        }
        let done = self.table.fill(r#"UPDATE "{table}_schema" SET version = $1"#);
        let newest = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
        sqlx::query(done).bind(newest).execute(&mut *transaction).await.map_err(store_error)?;
        transaction.commit().await.map_err(store_error)?;
        Ok(true)
    }

    /// The version of the schema that is there.
    async fn version(&self, connection: &mut PgConnection) -> StoreResult<usize> {
        let version = match sqlx::query(self.table.fill(VERSION)).fetch_optional(connection).await {
            Ok(Some(row)) => row.try_get::<i32, _>(0).map_err(store_error)?,
            Ok(None) => 0,
            Err(error) if is_undefined_table(&error) => 0,
            Err(error) => return Err(store_error(error)),
        };
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        if version > STEPS.len() {
            let what = "the PostgreSQL schema is newer than this version of the library";
            return Err(StoreError::new(StoreErrorKind::Refused, what));
        }
        Ok(version)
    }
}

/// Whether the server is fit to keep records.
async fn check_server(connection: &mut PgConnection, allow_data_loss: bool) -> StoreResult<()> {
    const SETTINGS: &str = "SELECT
        current_setting('server_version_num')::integer,
        pg_is_in_recovery(),
        current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'";
    let row = sqlx::query(SETTINGS).fetch_one(connection).await.map_err(store_error)?;
    let (version, is_standby, is_durable): (i32, bool, bool) =
        (row::get(&row, 0)?, row::get(&row, 1)?, row::get(&row, 2)?);
    let refused = |what| Err(StoreError::new(StoreErrorKind::Refused, what));
    if version < OLDEST_SERVER {
        return refused("the server is older than PostgreSQL 14");
    }
    if is_standby {
        return refused("the server is a standby: what it shows may be gone or changed; connect to the primary");
    }
    if !is_durable && !allow_data_loss {
        return refused(
            "the server runs with `fsync=off` or `full_page_writes=off`, so it may lose records of calls that ran; \
             change it, or accept that with `allow_data_loss(true)`",
        );
    }
    Ok(())
}
