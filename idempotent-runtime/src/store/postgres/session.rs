//! One statement on one connection of the pool, within its time.

use std::time::Duration;

use sqlx::{
    PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::timeout;

use super::fault::{is_conflict, store_error, timed_out};
use crate::store::StoreResult;

/// How often a statement is tried that loses against conflicting ones. Under READ COMMITTED none does.
const CONFLICT_TRIES: u32 = 6;

/// A pool, and how long a statement may take.
pub(super) struct Session {
    pub(super) pool: PgPool,
    pub(super) timeout: Duration,
}

/// A statement with its parameters.
pub(super) type Bound<'q> = Query<'q, Postgres, PgArguments>;

impl Session {
    /// The rows of a statement.
    ///
    /// A conflict is tried again: nothing of it was applied. Any other error is the caller's, who asks again with the
    /// same nonce.
    pub(super) async fn rows<'q>(
        &self,
        statement: &SqlStr,
        bind: impl Fn(Bound<'q>) -> Bound<'q>,
    ) -> StoreResult<Vec<PgRow>> {
        let mut pause = Duration::from_millis(1);
        for _ in 1..CONFLICT_TRIES {
            match self.run(bind(sqlx::query(statement.clone()))).await? {
                Err(error) if is_conflict(&error) => tokio::time::sleep(pause).await,
                answer => return answer.map_err(store_error),
            }
            pause *= 2;
        }
        self.run(bind(sqlx::query(statement.clone()))).await?.map_err(store_error)
    }

    /// The row of a statement that has one or none.
    pub(super) async fn row<'q>(
        &self,
        statement: &SqlStr,
        bind: impl Fn(Bound<'q>) -> Bound<'q>,
    ) -> StoreResult<Option<PgRow>> {
        Ok(self.rows(statement, bind).await?.into_iter().next())
    }

    async fn run(&self, query: Bound<'_>) -> StoreResult<Result<Vec<PgRow>, sqlx::Error>> {
        let mut lease = Lease::take(self).await?;
        let answer = timeout(self.timeout, query.fetch_all(&mut *lease.connection)).await.map_err(|_| timed_out())?;
        lease.is_clean = !matches!(answer, Err(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)));
        Ok(answer)
    }
}

/// A connection that is closed unless its statement was answered: it may be half-open.
pub(super) struct Lease {
    pub(super) connection: PoolConnection<Postgres>,
    pub(super) is_clean: bool,
    timeout: Duration,
}

impl Lease {
    pub(super) async fn take(session: &Session) -> StoreResult<Self> {
        let acquired = timeout(session.timeout, session.pool.acquire()).await;
        let connection = acquired.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(store_error)?;
        Ok(Self { connection, is_clean: false, timeout: session.timeout })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_clean {
            self.connection.close_on_drop();
            return;
        }
        // The pool asks whether the connection is alive before it takes it back, and would wait for the answer for
        // ever: a few half-open connections, and it has none to lend.
        tokio::spawn(timeout(self.timeout, self.connection.return_to_pool()));
    }
}
