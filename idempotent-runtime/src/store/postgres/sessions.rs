//! Poolers that share sessions between their clients.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _, postgres::PgConnectOptions};
use tokio::time::timeout;

/// Tells whether a pooler gives the session of a connection to other clients between two transactions, as `PgBouncer`
/// does with `pool_mode = transaction`.
///
/// A session of our own is one process of the server, and no other connection's. Where sessions are shared, connections
/// that are used in turn get the same process one after the other, or one connection gets different ones.
pub(super) async fn are_shared(
    first: &mut PgConnection,
    options: &PgConnectOptions,
    patience: Duration,
) -> Result<bool, sqlx::Error> {
    // A pool without a place for a second connection has given the first one a session of its own.
    let Ok(Ok(mut second)) = timeout(patience, options.connect()).await else { return Ok(false) };
    let (ours, theirs) = (process(first).await?, process(&mut second).await?);
    let shared = ours == theirs || process(first).await? != ours || process(&mut second).await? != theirs;
    // Its end is not waited for longer than its answers.
    let _ = timeout(patience, second.close()).await;
    Ok(shared)
}

/// The process that serves a connection now. Not prepared: where sessions are shared, the statement may be gone by its
/// second use.
async fn process(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}
