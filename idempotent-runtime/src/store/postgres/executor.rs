//! Runs each statement on a connection of its own, within a time limit, and again after a conflict.

use std::time::Duration;

use sqlx::{
    Executor as _, PgConnection, Postgres, SqlStr,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::timeout;

use super::{
    fault::{is_conflict, leaves_session, store_error, timed_out},
    sessions,
};
use crate::store::{
    BoxFuture, StoreResult,
    sql::connections::{Connections, Lent},
};

/// The number of tries of a statement that loses against conflicting ones. Under READ COMMITTED none does.
const CONFLICT_TRIES: u32 = 6;

/// The user of a statement's connection.
#[derive(Clone, Copy)]
pub(super) enum User {
    Anybody,
    /// The owner of a run, who waits for nobody else: a lease that is not renewed in time lapses.
    Owner,
}

/// Runs statements: the connections, and the time that a statement may take on one.
pub(super) struct Executor {
    pub(super) connections: Connections<Postgres>,
    pub(super) timeout: Duration,
}

/// A statement with its parameters.
pub(super) type Bound<'q> = Query<'q, Postgres, PgArguments>;

/// Runs a statement, and reads its answer to the end.
type Fetch<T> = for<'c> fn(&'c mut PgConnection, Bound<'c>) -> BoxFuture<'c, Result<T, sqlx::Error>>;

impl Executor {
    /// The rows of a statement.
    pub(super) async fn rows<'q>(
        &self,
        user: User,
        statement: &SqlStr,
        bind: impl Fn(Bound<'q>) -> Bound<'q>,
    ) -> StoreResult<Vec<PgRow>> {
        self.try_rows(user, statement, bind).await?.map_err(store_error)
    }

    /// Runs a statement as `rows` does, and gives the server's own error.
    pub(super) async fn try_rows<'q>(
        &self,
        user: User,
        statement: &SqlStr,
        bind: impl Fn(Bound<'q>) -> Bound<'q>,
    ) -> StoreResult<Result<Vec<PgRow>, sqlx::Error>> {
        self.answer(user, statement, bind, |connection, query| connection.fetch_all(query)).await
    }

    /// The row of a statement that has one or none.
    pub(super) async fn row<'q>(
        &self,
        user: User,
        statement: &SqlStr,
        bind: impl Fn(Bound<'q>) -> Bound<'q>,
    ) -> StoreResult<Option<PgRow>> {
        self.try_row(user, statement, bind).await?.map_err(store_error)
    }

    /// Runs a statement as `row` does, and gives the server's own error.
    pub(super) async fn try_row<'q>(
        &self,
        user: User,
        statement: &SqlStr,
        bind: impl Fn(Bound<'q>) -> Bound<'q>,
    ) -> StoreResult<Result<Option<PgRow>, sqlx::Error>> {
        // Reads on to the end, and so past the commit.
        self.answer(user, statement, bind, |connection, query| connection.fetch_optional(query)).await
    }

    /// Tries again after a conflict, since nothing of the statement was applied. After any other error the caller asks
    /// again, with the same nonce.
    async fn answer<'q, T>(
        &self,
        user: User,
        statement: &SqlStr,
        bind: impl Fn(Bound<'q>) -> Bound<'q>,
        fetch: Fetch<T>,
    ) -> StoreResult<Result<T, sqlx::Error>> {
        let mut pause = Duration::from_millis(1);
        for _ in 1..CONFLICT_TRIES {
            match self.run(user, bind(sqlx::query(statement.clone())), fetch).await? {
                Err(error) if is_conflict(&error) => tokio::time::sleep(pause).await,
                answer => return Ok(answer),
            }
            pause *= 2;
        }
        self.run(user, bind(sqlx::query(statement.clone())), fetch).await
    }

    /// Tells whether a pooler shares the sessions of the connections with other clients.
    pub(super) async fn sessions_are_shared(&self) -> StoreResult<bool> {
        let mut first = self.connections.take().await.map_err(store_error)?;
        // Another one than the first, even if a pool has one only: then it is of the reserve.
        let mut second = self.connections.take_for_owner().await.map_err(store_error)?;
        let shared = sessions::are_shared(&mut first, &mut second, self.timeout).await.map_err(store_error)?;
        if !shared {
            first.give_back();
            // Of our own, one is enough until another is needed. That of the reserve may be hard to replace.
            if !matches!(second, Lent::Own { .. }) {
                second.give_back();
            }
        }
        Ok(shared)
    }

    async fn run<T>(&self, user: User, query: Bound<'_>, fetch: Fetch<T>) -> StoreResult<Result<T, sqlx::Error>> {
        let lent = match user {
            User::Anybody => self.connections.take().await,
            User::Owner => self.connections.take_for_owner().await,
        };
        let mut lent = lent.map_err(store_error)?;
        let answer = timeout(self.timeout, fetch(&mut lent, query)).await.map_err(|_| timed_out())?;
        if answer.as_ref().err().is_none_or(leaves_session) {
            lent.give_back();
        }
        Ok(answer)
    }
}
