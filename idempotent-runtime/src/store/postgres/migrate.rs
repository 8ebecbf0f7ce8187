//! Brings the schema up to date, version by version.

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, Row};
use tokio::time::{sleep, timeout};

use super::{
    PostgresShared,
    fault::{is_lock_timeout, is_undefined_table, store_error, timed_out},
    row,
};
use crate::{
    engine::events,
    store::{StoreError, StoreErrorKind, StoreResult},
};

/// The scripts that lead from each version to the next; an empty database is at version 0. Never changed, only added to.
const STEPS: [&str; 6] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
];

/// The oldest release that will do: from this one on `extract` returns exact numbers.
const OLDEST_SERVER: i32 = 140_000;

/// The migration waits this long for sessions that use the table, and blocks later ones for as long. Then it pauses.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '100ms'";
const PAUSE: Duration = Duration::from_millis(200);

const VERSION: &str = r#"SELECT version FROM "{table}_schema""#;

const START: &str = r#"
CREATE TABLE IF NOT EXISTS "{table}_schema" (version integer NOT NULL);
INSERT INTO "{table}_schema" (version) SELECT 0 WHERE NOT EXISTS (SELECT FROM "{table}_schema");
"#;

impl PostgresShared {
    /// Brings the schema up to date, whatever other processes do at the same time.
    pub(super) async fn migrate(&self) -> StoreResult<()> {
        self.check_sessions().await?;
        let mut lent = self.executor.connections.take().await.map_err(store_error)?;
        let migrated = async {
            check_server(&mut lent, self.allow_data_loss).await?;
            // A role that may not change the schema passes where there is nothing to change.
            while self.version(&mut lent).await? < STEPS.len() {
                // A session that waits for `ALTER TABLE` blocks every later session. So this waits for those that use the
                // table for a moment only, and lets others pass before it tries again.
                if !self.upgrade(&mut lent).await? {
                    sleep(PAUSE).await;
                }
            }
            Ok(())
        };
        timeout(self.executor.timeout * 10, migrated).await.map_err(|_| timed_out())??;
        lent.give_back();
        Ok(())
    }

    /// Refuses a schema of another version.
    pub(super) async fn check_schema(&self) -> StoreResult<()> {
        let mut lent = self.executor.connections.take().await.map_err(store_error)?;
        let version = timeout(self.executor.timeout, self.version(&mut lent)).await.map_err(|_| timed_out())??;
        lent.give_back();
        if version < STEPS.len() {
            let what = "the PostgreSQL schema is missing or older than this version of the library: migrate it";
            return Err(StoreError::new(StoreErrorKind::Refused, what));
        }
        Ok(())
    }

    /// Brings the schema to the next version, in one transaction: `false` where the table is in use.
    ///
    /// It takes one version at a time: a script may go through the whole table before it alters it, and must not do so under
    /// the lock that the script before has taken.
    async fn upgrade(&self, connection: &mut PgConnection) -> StoreResult<bool> {
        let mut transaction = connection.begin().await.map_err(store_error)?;
        // The wait for another process's migration may take longer than a statement may.
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
        // Several processes saw the same old version before they queued for the lock. This one has it now, and its next
        // statement sees the versions that those before it committed: it goes on from there, or has nothing to do.
        let version = self.version(&mut transaction).await?;
        if let Some(step) = STEPS.get(version) {
            transaction.execute(LOCK_TIMEOUT).await.map_err(store_error)?;
            match transaction.execute(sqlx::raw_sql(self.table.fill(step))).await {
                Err(error) if is_lock_timeout(&error) => {
                    return transaction.rollback().await.map_err(store_error).map(|()| false);
                }
                answer => answer.map_err(store_error)?,
            };
            let done = self.table.fill(r#"UPDATE "{table}_schema" SET version = version + 1"#);
            sqlx::query(done).execute(&mut *transaction).await.map_err(store_error)?;
        }
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
            let what = "the PostgreSQL schema is newer than this version of the library: update this process";
            return Err(StoreError::new(StoreErrorKind::Refused, what));
        }
        Ok(version)
    }
}

/// Refuses a server that cannot keep the promises.
async fn check_server(connection: &mut PgConnection, allow_data_loss: bool) -> StoreResult<()> {
    const SETTINGS: &str = "SELECT
        current_setting('server_version_num')::integer,
        pg_is_in_recovery(),
        current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
        EXISTS (
            SELECT FROM pg_settings
            WHERE name = 'default_transaction_read_only' AND setting = 'on' AND source IN ('user', 'database user', 'client')
        )";
    let row = sqlx::query(SETTINGS).fetch_one(connection).await.map_err(store_error)?;
    let (version, is_standby, is_durable, is_reader): (i32, bool, bool, bool) =
        (row::get(&row, 0)?, row::get(&row, 1)?, row::get(&row, 2)?, row::get(&row, 3)?);
    let refused = |what| Err(StoreError::new(StoreErrorKind::Refused, what));
    if version < OLDEST_SERVER {
        return refused("the server is older than PostgreSQL 14");
    }
    if is_standby {
        return refused("the server is a standby: what it shows may be gone or changed; connect to the primary");
    }
    // A server or a database may be set so for a while, a role is so for good.
    if is_reader {
        return refused(
            "the role is read-only (`default_transaction_read_only`): connect as one that may write, or change it",
        );
    }
    if !is_durable && !allow_data_loss {
        return refused(
            "the server runs with `fsync=off` or `full_page_writes=off`, so it may lose records of calls that ran; \
             change it, or accept that with `allow_data_loss(true)`",
        );
    }
    if !is_durable {
        events::forgetful(
            "the PostgreSQL server runs with `fsync=off` or `full_page_writes=off`: a crash of its machine may lose \
             everything, and all keys run again",
        );
    }
    Ok(())
}
