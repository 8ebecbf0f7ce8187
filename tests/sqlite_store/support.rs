//! A store on a file, and keys that no error may tell.

use std::fmt::Display;

use idempotent_runtime::{RecordKey, store::sqlite::SqliteStore};
pub(crate) use idempotent_tests::store_fixture::*;

use crate::sqlite_file::SqliteFile;

pub(crate) async fn connect(file: &SqliteFile) -> SqliteStore {
    SqliteStore::connect(&file.url()).await.expect("a store")
}

pub(crate) fn key(name: impl Display) -> RecordKey {
    idempotent_tests::store_fixture::key(format_args!("canary-{name}"))
}

/// The schema of the release before, with records in it.
pub(crate) async fn version_1(file: &SqliteFile) {
    let schema = include_str!("../../idempotent-runtime/src/store/sqlite/schema_1.sql");
    file.execute(&schema.replace("{table}", "idempotent_records")).await;
    file.execute(&format!(
        "INSERT INTO idempotent_records
           (operation, key, state, fingerprint, nonce, fence, attempt, lease_until, expires_at, created_at, result)
         SELECT 'tests.operation', key, state, unhex(replace(hex(zeroblob(32)), '00', '07')),
           unhex(replace(hex(zeroblob(16)), '00', '01')), fence, 1, lease_until, 3000000000000, 0, result
         FROM (SELECT 'canary-done' AS key, 'ok' AS state, 5 AS fence, NULL AS lease_until,
                 CAST('{RESULT}' AS BLOB) AS result
           UNION ALL SELECT 'canary-abandoned', 'abandoned', 6, NULL, NULL
           UNION ALL SELECT 'canary-running', 'running', 7, 1 << 49, NULL
           UNION ALL SELECT 'canary-lapsed', 'running', 1 << 60, 1, NULL)",
    ))
    .await;
}
