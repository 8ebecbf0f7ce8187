//! Dead letters: rows beside the records, written in the statement that ends a run.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::postgres::PgRow;

use super::{
    PostgresShared,
    executor::{Bound, User},
    fault::undecodable,
    listener::payload,
    parameters::{micros, owned},
    row::{self, get},
};
use crate::{
    Fingerprint,
    store::{DeadLetter, DeadLetters, RecordKey, Replay, StoreResult, Token, Transition, sql::states},
};

/// The most letters of a page.
const MAX_PAGE_LEN: usize = 1_000;

/// The columns of a letter that describe its message.
fn letter<'q>(query: Bound<'q>, letter: &'q DeadLetter) -> Bound<'q> {
    query
        .bind(letter.fingerprint.as_bytes().as_slice())
        .bind(&letter.reason)
        .bind(i32::try_from(letter.attempts).unwrap_or(i32::MAX))
        .bind(&letter.error)
        .bind(&letter.message_id)
        .bind(&letter.kind)
        .bind(&letter.partition)
        .bind(&letter.headers)
        .bind(letter.payload.as_deref())
}

/// Reads a row of `letters.sql`.
fn decode(row: &PgRow) -> StoreResult<DeadLetter> {
    let fingerprint = <[u8; Fingerprint::LEN]>::try_from(get::<&[u8]>(row, 3)?).map_err(|_| undecodable())?;
    let mut letter = DeadLetter::new(get(row, 1)?, get(row, 2)?, Fingerprint::from_bytes(fingerprint), get(row, 5)?);
    letter.id = get(row, 0)?;
    letter.is_replaying = get(row, 4)?;
    letter.attempts = u32::try_from(get::<i32>(row, 6)?).unwrap_or_default();
    letter.error = get(row, 7)?;
    letter.message_id = get(row, 8)?;
    letter.kind = get(row, 9)?;
    letter.partition = get(row, 10)?;
    letter.headers = get(row, 11)?;
    letter.payload = get::<Option<Vec<u8>>>(row, 12)?.map(Bytes::from);
    letter.age = Duration::from_micros(u64::try_from(get::<i64>(row, 13)?).unwrap_or_default());
    Ok(letter)
}

impl PostgresShared {
    async fn page(&self, operation: &str, after: i64, limit: usize, replaying: bool) -> StoreResult<Vec<DeadLetter>> {
        let limit = i64::try_from(limit.clamp(1, MAX_PAGE_LEN)).unwrap_or(i64::MAX);
        let rows = self.executor.rows(User::Anybody, &self.statements.letters, |query| {
            query.bind(operation).bind(after).bind(limit).bind(replaying)
        });
        rows.await?.iter().map(decode).collect()
    }

    async fn remove_letter(&self, operation: &str, id: i64, state: Option<&'static str>) -> StoreResult<bool> {
        let removed = self
            .executor
            .row(User::Anybody, &self.statements.remove_letter, |query| query.bind(operation).bind(id).bind(state));
        Ok(removed.await?.is_some())
    }
}

#[async_trait]
impl DeadLetters for PostgresShared {
    async fn bury(&self, key: &RecordKey, token: &Token, dead: &DeadLetter, ttl: Duration) -> StoreResult<Transition> {
        let outcome = dead.outcome();
        let bind = |query| {
            let query = owned(query, key, token).bind(outcome.as_str()).bind(micros(ttl)).bind(payload(key));
            letter(query, dead)
        };
        let shows = |standing: Option<row::Standing>| {
            standing.is_some_and(|standing| standing.is_ours && standing.outcome.as_ref() == Some(&outcome))
        };
        self.transition(key, token, &self.statements.bury, bind, shows).await
    }

    async fn put(&self, dead: &DeadLetter) -> StoreResult<()> {
        let put = self.executor.rows(User::Anybody, &self.statements.letter, |query| {
            letter(query.bind(&dead.operation).bind(&dead.key), dead)
        });
        put.await.map(drop)
    }

    async fn operations(&self, after: &str, limit: usize) -> StoreResult<Vec<String>> {
        let limit = i64::try_from(limit.clamp(1, MAX_PAGE_LEN)).unwrap_or(i64::MAX);
        let rows = self
            .executor
            .rows(User::Anybody, &self.statements.letter_operations, |query| query.bind(after).bind(limit));
        rows.await?.iter().map(|row| get(row, 0)).collect()
    }

    async fn letters(&self, operation: &str, after: i64, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        self.page(operation, after, limit, false).await
    }

    async fn replaying(&self, operation: &str, after: i64, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        self.page(operation, after, limit, true).await
    }

    async fn replay(&self, operation: &str, id: i64) -> StoreResult<Replay> {
        let replay = self.executor.row(User::Anybody, &self.statements.replay, |query| query.bind(operation).bind(id));
        Ok(match replay.await? {
            None => Replay::NotDead,
            Some(row) if get(&row, 0)? => Replay::Asked,
            Some(_) => Replay::Taken,
        })
    }

    async fn worked_off(&self, operation: &str, id: i64) -> StoreResult<bool> {
        self.remove_letter(operation, id, Some(states::REPLAYING)).await
    }

    async fn dead_again(&self, operation: &str, id: i64) -> StoreResult<()> {
        let again =
            self.executor.rows(User::Anybody, &self.statements.dead_again, |query| query.bind(operation).bind(id));
        again.await.map(drop)
    }

    async fn discard(&self, operation: &str, id: i64) -> StoreResult<bool> {
        self.remove_letter(operation, id, None).await
    }
}
