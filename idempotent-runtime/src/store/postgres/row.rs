//! Reads outcomes and records from rows.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::{Row, postgres::PgRow};

use super::{
    fault::{store_error, undecodable},
    timestamp::Timestamp,
};
use crate::{
    request::fingerprint::Fingerprint,
    store::{
        ClaimOutcome, ClaimRequest, Finished, Generation, Nonce, NotKept, Outcome, Past, Record, RecordKey, State,
        Step, StoreResult, Token,
        sql::states::{self, RowState},
    },
};

/// A column's value.
pub(super) fn get<'r, T>(row: &'r PgRow, index: usize) -> StoreResult<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(index).map_err(store_error)
}

fn state(row: &PgRow, index: usize) -> StoreResult<RowState> {
    RowState::parse(get(row, index)?).ok_or_else(undecodable)
}

fn outcome(row: &PgRow, state: usize, result: usize, reason: usize) -> StoreResult<Outcome> {
    states::outcome(get(row, state)?, get(row, result)?, get(row, reason)?).ok_or_else(undecodable)
}

/// A failed record that an operator has reopened is before its first run.
fn attempt(row: &PgRow, index: usize, state: RowState) -> StoreResult<u32> {
    let attempt = u32::try_from(get::<i32>(row, index)?).ok();
    attempt.filter(|&attempt| attempt > 0 || state == RowState::Failed).ok_or_else(undecodable)
}

pub(super) fn fence(row: &PgRow, index: usize) -> StoreResult<Option<u64>> {
    get::<Option<i64>>(row, index)?.map(|fence| u64::try_from(fence).map_err(|_| undecodable())).transpose()
}

/// Reads the columns `result` and `reason` of a step, which begin at this index.
pub(super) fn value(row: &PgRow, index: usize) -> StoreResult<Result<Bytes, NotKept>> {
    states::value(get(row, index)?, get(row, index + 1)?).ok_or_else(undecodable)
}

fn generation(row: &PgRow, index: usize) -> StoreResult<Generation> {
    get::<&[u8]>(row, index)?.try_into().map(Generation::from_bytes).map_err(|_| undecodable())
}

fn failed(row: &PgRow, index: usize) -> StoreResult<u32> {
    u32::try_from(get::<i32>(row, index)?).map_err(|_| undecodable())
}

/// The time that is left; `None` where it has passed, or where there is none.
fn left(row: &PgRow, index: usize) -> StoreResult<Option<Duration>> {
    let micros = get::<Option<i64>>(row, index)?.and_then(|micros| u64::try_from(micros).ok());
    Ok(micros.filter(|&micros| micros > 0).map(Duration::from_micros))
}

/// The rest of a running record's lease; `None` where it has lapsed.
fn lease_left(row: &PgRow, index: usize) -> StoreResult<Option<Duration>> {
    get::<Option<i64>>(row, index)?.ok_or_else(undecodable)?;
    left(row, index)
}

/// The place of a row's request in its batch; `None` where the row is of none.
pub(super) fn number(row: &PgRow, index: usize) -> Option<usize> {
    let number = get::<Option<i64>>(row, index).ok()??;
    usize::try_from(number - 1).ok()
}

/// Reads a row of `claim.sql`: the nonce of the claim that it answers, if it answers one.
pub(super) fn asked_by(row: &PgRow) -> StoreResult<Option<&[u8]>> {
    get(row, 0)
}

/// Reads a row of `claim.sql`: the answer to a claim.
pub(super) fn claim_outcome(row: &PgRow, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
    let (is_claimed, is_same_request, is_ours) = (get::<bool>(row, 1)?, get::<bool>(row, 5)?, get::<bool>(row, 6)?);
    let state = state(row, 2)?;
    let attempt = attempt(row, 3, state)?;
    Ok(match state {
        _ if !is_same_request => ClaimOutcome::Mismatch,
        RowState::Running if is_claimed || is_ours => {
            ClaimOutcome::claimed(Token::new(request.nonce).with_fence(fence(row, 4)?), attempt, past(row)?)
        }
        RowState::Running => {
            let lease_until = get::<Option<Timestamp>>(row, 13)?.ok_or_else(undecodable)?;
            match lease_until.since(get(row, 12)?) {
                Some(retry_after) => ClaimOutcome::in_flight(retry_after),
                None => ClaimOutcome::abandoned(attempt),
            }
        }
        RowState::Failed | RowState::Abandoned => match pause(row, is_ours)? {
            Some(retry_after) => ClaimOutcome::suspended(retry_after, attempt),
            None => ClaimOutcome::abandoned(attempt),
        },
        RowState::Done => ClaimOutcome::Done(Finished::new(request.fingerprint, attempt, outcome(row, 2, 16, 17)?)),
    })
}

/// The time before which no claim takes over; `None` where this claim may not, however long it waits.
fn pause(row: &PgRow, is_ours: bool) -> StoreResult<Option<Duration>> {
    /// The claim of the run that was suspended last is never granted again. So it pauses, also where there is no pause.
    const OURS: Duration = Duration::from_millis(1);
    if !get::<bool>(row, 15)? {
        return Ok(None);
    }
    let (now, not_before) = (get(row, 12)?, get::<Option<Timestamp>>(row, 14)?);
    Ok(not_before.and_then(|not_before| not_before.since(now)).max(is_ours.then_some(OURS)))
}

fn past(row: &PgRow) -> StoreResult<Past> {
    let (now, since) = (get(row, 12)?, get::<Option<Timestamp>>(row, 9)?);
    let rest = since.and_then(|since| Timestamp::since(now, since)).unwrap_or_default();
    let before = states::before(get(row, 8)?, rest).ok_or_else(undecodable)?;
    Ok(Past::new(generation(row, 7)?, before, failed(row, 10)?, get(row, 11)?))
}

/// The record that a statement of the owner's did not change.
pub(super) struct Standing {
    pub(super) state: RowState,
    pub(super) is_ours: bool,
    /// Of a finished run.
    pub(super) outcome: Option<Outcome>,
}

impl Standing {
    pub(super) fn is_ours_as(&self, state: RowState) -> bool {
        self.is_ours && self.state == state
    }
}

/// Reads the row of `owner.sql`.
pub(super) fn standing(row: &PgRow) -> StoreResult<Standing> {
    let state = state(row, 0)?;
    let outcome = (state == RowState::Done).then(|| outcome(row, 0, 2, 3)).transpose()?;
    Ok(Standing { state, is_ours: get(row, 1)?, outcome })
}

/// Reads a row of `steps.sql`; `None` where it has no step.
pub(super) fn step(row: &PgRow) -> StoreResult<Option<Step>> {
    let Some(name) = get::<Option<String>>(row, 0)? else { return Ok(None) };
    Ok(Some(Step::new(name, value(row, 1)?)))
}

/// Reads a row of `inspect.sql` or `list.sql`.
pub(super) fn record(row: &PgRow) -> StoreResult<Record> {
    let text = format!("{}{}{}", get::<&str>(row, 0)?, RecordKey::SEPARATOR, get::<&str>(row, 1)?);
    let key = text.parse().map_err(|_| undecodable())?;
    let fingerprint = <[u8; Fingerprint::LEN]>::try_from(get::<&[u8]>(row, 4)?).map_err(|_| undecodable())?;
    let row_state = state(row, 2)?;
    let state = match row_state {
        RowState::Done => State::Done(outcome(row, 2, 7, 8)?),
        RowState::Failed => State::Failed,
        RowState::Abandoned => State::Abandoned,
        RowState::Running => lease_left(row, 5)?.map_or(State::Lapsed, State::running),
    };
    let (generation, attempt) = (generation(row, 10)?, attempt(row, 3, row_state)?);
    let expires_in = left(row, 6)?.unwrap_or_default();
    let arguments = get::<Option<Vec<u8>>>(row, 9)?.map(Bytes::from);
    let owner = get::<&[u8]>(row, 13)?.try_into().map(Nonce::from_bytes).map_err(|_| undecodable())?;
    let context = get::<Option<&str>>(row, 14)?.map(Arc::from);
    let record = Record::new(key, Fingerprint::from_bytes(fingerprint), generation, owner, attempt, state, expires_in);
    let record = record.with_failed(failed(row, 11)?).with_not_before(left(row, 12)?);
    Ok(record.with_arguments(arguments).with_context(context))
}
