//! Claims, and ends of runs, that travel together: several keys in one statement.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use sqlx::postgres::PgRow;

use super::{
    PostgresShared,
    executor::{Bound, User},
    fault::store_error,
    listener::payload,
    parameters::{longest_rest_micros, micros},
    row,
};
use crate::store::{
    ClaimOutcome, ClaimRequest, Outcome, RecordKey, StoreError, StoreResult, Token,
    batcher::{Answers, Batcher, Limits, Request},
    sql::states::EndColumns,
};

/// With twice as many lanes, batches were half as long, and 64 callers at once a third slower.
const LIMITS: Limits = Limits { lanes: 4, requests: 16, weight: 1 << 20, patience: Duration::from_millis(100) };

pub(super) struct Batches {
    pub(super) claims: Arc<Batcher<Claim>>,
    pub(super) ends: Arc<Batcher<End>>,
}

impl Batches {
    pub(super) fn new(store: &Weak<PostgresShared>) -> Self {
        Self { claims: Batcher::new(LIMITS, store), ends: Batcher::new(LIMITS, store) }
    }
}

/// A claim of several.
pub(super) struct Claim {
    pub(super) key: RecordKey,
    pub(super) request: ClaimRequest,
}

impl Request for Claim {
    type Answer = StoreResult<ClaimOutcome>;
    type Store = PostgresShared;

    fn fits(&self, other: &Self) -> bool {
        self.key != other.key && self.request.take_over == other.request.take_over
    }

    fn weight(&self) -> usize {
        self.request.arguments.as_ref().map_or(0, Bytes::len)
    }

    async fn send(store: Arc<PostgresShared>, batch: Vec<Self>) -> Answers<Self> {
        let statement = &store.statements.claim_all;
        let rows = store.executor.try_rows(User::Anybody, statement, |query| claims(query, &batch)).await;
        answers(batch.len(), rows, |row| {
            let asked_by = row::asked_by(row).ok()??;
            let place = batch.iter().position(|claim| claim.request.nonce.as_bytes() == asked_by)?;
            Some((place, row::claim_outcome(row, &batch.get(place)?.request).ok()?))
        })
    }
}

/// The end of a run, of several.
pub(super) struct End {
    pub(super) key: RecordKey,
    pub(super) token: Token,
    pub(super) outcome: Outcome,
    pub(super) ttl: Duration,
}

impl Request for End {
    type Answer = StoreResult<()>;
    type Store = PostgresShared;

    fn fits(&self, other: &Self) -> bool {
        self.key != other.key
    }

    fn weight(&self) -> usize {
        EndColumns::weight(&self.outcome)
    }

    async fn send(store: Arc<PostgresShared>, batch: Vec<Self>) -> Answers<Self> {
        let statement = &store.statements.complete_all;
        let rows = store.executor.try_rows(User::Owner, statement, |query| ends(query, &batch)).await;
        answers(batch.len(), rows, |row| Some((row::number(row, 0)?, ())))
    }
}

/// The answers that stand in the rows. What the server refused, and what has no row that can be read, is asked alone. If the
/// server did not answer, nobody asks it at once: that would add another wait to this one.
fn answers<T>(
    count: usize,
    rows: StoreResult<Result<Vec<PgRow>, sqlx::Error>>,
    read: impl Fn(&PgRow) -> Option<(usize, T)>,
) -> Vec<Option<StoreResult<T>>> {
    let rows = match rows {
        Ok(Ok(rows)) => rows,
        Ok(Err(sqlx::Error::Database(_))) => Vec::new(),
        Ok(Err(error)) => return all(count, &store_error(error)),
        Err(error) => return all(count, &error),
    };
    let mut answers: Vec<_> = (0..count).map(|_| None).collect();
    for (place, answer) in rows.iter().filter_map(read) {
        if let Some(answers) = answers.get_mut(place) {
            *answers = Some(Ok(answer));
        }
    }
    answers
}

fn all<T>(count: usize, error: &StoreError) -> Vec<Option<StoreResult<T>>> {
    (0..count).map(|_| Some(Err(error.clone()))).collect()
}

/// The parameters of `claim.sql` for several claims.
fn claims<'q>(query: Bound<'q>, batch: &'q [Claim]) -> Bound<'q> {
    let requests = || batch.iter().map(|claim| &claim.request);
    let longest_rest = batch.first().map(|claim| longest_rest_micros(&claim.request));
    of(query, batch.iter().map(|claim| &claim.key))
        .bind(requests().map(|request| request.fingerprint.as_bytes().as_slice()).collect::<Vec<_>>())
        .bind(requests().map(|request| request.nonce.as_bytes().as_slice()).collect::<Vec<_>>())
        .bind(requests().map(|request| micros(request.lease)).collect::<Vec<_>>())
        .bind(requests().map(|request| micros(request.ttl)).collect::<Vec<_>>())
        .bind(longest_rest)
        .bind(requests().map(|request| request.arguments.as_deref()).collect::<Vec<_>>())
        .bind(requests().map(|request| request.context.as_deref()).collect::<Vec<_>>())
}

/// The parameters of `complete.sql` for several runs.
fn ends<'q>(query: Bound<'q>, batch: &'q [End]) -> Bound<'q> {
    let columns = || batch.iter().map(|end| EndColumns::of(&end.outcome));
    of(query, batch.iter().map(|end| &end.key))
        .bind(batch.iter().map(|end| end.token.nonce.as_bytes().as_slice()).collect::<Vec<_>>())
        .bind(columns().map(|end| end.state).collect::<Vec<_>>())
        .bind(columns().map(|end| end.result).collect::<Vec<_>>())
        .bind(columns().map(|end| end.reason).collect::<Vec<_>>())
        .bind(batch.iter().map(|end| micros(end.ttl)).collect::<Vec<_>>())
        .bind(batch.iter().map(|end| payload(&end.key)).collect::<Vec<_>>())
}

fn of<'q>(query: Bound<'q>, keys: impl Iterator<Item = &'q RecordKey>) -> Bound<'q> {
    let (operations, keys): (Vec<_>, Vec<_>) = keys.map(|key| (key.operation(), key.key())).unzip();
    query.bind(operations).bind(keys)
}
