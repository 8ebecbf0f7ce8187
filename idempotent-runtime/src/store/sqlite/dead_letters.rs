//! Dead letters: rows beside the records, written in the transaction that ends a run.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    SqliteStore,
    database::Bound,
    fault::{corrupt, store_error},
    inputs::{millis, owned, signed},
    row::SqliteState,
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
        .bind(i64::from(letter.attempts))
        .bind(&letter.error)
        .bind(&letter.message_id)
        .bind(&letter.kind)
        .bind(&letter.partition)
        .bind(&letter.headers)
        .bind(letter.payload.as_deref())
}

/// Reads a row of `letters.sql` or `replaying.sql`.
fn decode(row: &SqliteRow) -> StoreResult<DeadLetter> {
    let read = || -> sqlx::Result<Option<DeadLetter>> {
        let Ok(fingerprint) = <[u8; Fingerprint::LEN]>::try_from(row.try_get::<&[u8], _>(3)?) else { return Ok(None) };
        let fingerprint = Fingerprint::from_bytes(fingerprint);
        let mut letter = DeadLetter::new(row.try_get(1)?, row.try_get(2)?, fingerprint, row.try_get(5)?);
        letter.id = row.try_get(0)?;
        letter.is_replaying = row.try_get(4)?;
        letter.attempts = u32::try_from(row.try_get::<i64, _>(6)?).unwrap_or_default();
        letter.error = row.try_get(7)?;
        letter.message_id = row.try_get(8)?;
        letter.kind = row.try_get(9)?;
        letter.partition = row.try_get(10)?;
        letter.headers = row.try_get(11)?;
        letter.payload = row.try_get::<Option<Vec<u8>>, _>(12)?.map(Bytes::from);
        letter.age = Duration::from_millis(u64::try_from(row.try_get::<i64, _>(13)?).unwrap_or_default());
        Ok(Some(letter))
    };
    read().map_err(|error| store_error(&error))?.ok_or_else(corrupt)
}

impl SqliteStore {
    async fn remove_letter(&self, operation: &str, id: i64, state: Option<&'static str>) -> StoreResult<bool> {
        let query = sqlx::query(self.database.statements.remove_letter.clone());
        Ok(!self.database.write(query.bind(operation).bind(id).bind(state)).await?.is_empty())
    }
}

#[async_trait]
impl DeadLetters for SqliteStore {
    async fn bury(&self, key: &RecordKey, token: &Token, dead: &DeadLetter, ttl: Duration) -> StoreResult<Transition> {
        let statements = &self.database.statements;
        let outcome = dead.outcome();
        let die = owned(&statements.die, key, token);
        let bury = sqlx::query(statements.bury.clone()).bind(key.operation()).bind(key.key());
        let queries = vec![die.bind(outcome.as_str()).bind(millis(ttl)), letter(bury, dead)];
        let is_applied = self.end(key, queries).await?
            || self.look(key).await?.is_some_and(|stored| {
                let is_dead = matches!(&stored.state, SqliteState::Done(how) if *how == outcome);
                stored.nonce == token.nonce && is_dead
            });
        Ok(if is_applied { Transition::Applied } else { Transition::Lost })
    }

    async fn put(&self, dead: &DeadLetter) -> StoreResult<()> {
        let query = sqlx::query(self.database.statements.letter.clone());
        self.database.write(letter(query.bind(&dead.operation).bind(&dead.key), dead)).await.map(drop)
    }

    async fn operations(&self, after: &str, limit: usize) -> StoreResult<Vec<String>> {
        let query = sqlx::query(self.database.statements.letter_operations.clone());
        let limit = signed(limit.clamp(1, MAX_PAGE_LEN));
        self.database
            .read(query.bind(after).bind(limit))
            .await?
            .iter()
            .map(|row| row.try_get(0).map_err(|_| corrupt()))
            .collect()
    }

    async fn letters(&self, operation: &str, after: i64, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        let query = sqlx::query(self.database.statements.letters.clone());
        let limit = signed(limit.clamp(1, MAX_PAGE_LEN));
        self.database.read(query.bind(operation).bind(after).bind(limit)).await?.iter().map(decode).collect()
    }

    async fn replaying(&self, operation: &str, after: i64, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        let query = sqlx::query(self.database.statements.replaying.clone());
        let limit = signed(limit.clamp(1, MAX_PAGE_LEN));
        self.database.read(query.bind(operation).bind(after).bind(limit)).await?.iter().map(decode).collect()
    }

    async fn replay(&self, operation: &str, id: i64) -> StoreResult<Replay> {
        let statements = &self.database.statements;
        // In one transaction, which has the write lock from its start: of two operators, one finds it dead.
        let of = |statement: &sqlx::SqlStr| sqlx::query(statement.clone()).bind(operation).bind(id);
        let queries = vec![of(&statements.is_dead), of(&statements.reopen), of(&statements.replay)];
        let answers = self.database.write_all(queries).await?;
        let [is_dead, _, marked] = &answers[..] else { return Err(corrupt()) };
        Ok(match (is_dead.is_empty(), marked.is_empty()) {
            (true, _) => Replay::NotDead,
            (false, false) => Replay::Asked,
            (false, true) => Replay::Taken,
        })
    }

    async fn worked_off(&self, operation: &str, id: i64) -> StoreResult<bool> {
        self.remove_letter(operation, id, Some(states::REPLAYING)).await
    }

    async fn dead_again(&self, operation: &str, id: i64) -> StoreResult<()> {
        let query = sqlx::query(self.database.statements.dead_again.clone());
        self.database.write(query.bind(operation).bind(id)).await.map(drop)
    }

    async fn discard(&self, operation: &str, id: i64) -> StoreResult<bool> {
        self.remove_letter(operation, id, None).await
    }
}
