//! Reads outcomes and records from rows.

use std::time::Duration;

use bytes::Bytes;
use sqlx::{Row, postgres::PgRow};

use super::fault::{store_error, undecodable};
use crate::{
    request::fingerprint::Fingerprint,
    store::{
        ClaimOutcome, ClaimRequest, Finished, Outcome, Record, RecordKey, State, StoreResult, Token,
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

pub(super) fn state(row: &PgRow, index: usize) -> StoreResult<RowState> {
    RowState::parse(get(row, index)?).ok_or_else(undecodable)
}

fn outcome(row: &PgRow, state: usize, result: usize, reason: usize) -> StoreResult<Outcome> {
    states::outcome(get(row, state)?, get(row, result)?, get(row, reason)?).ok_or_else(undecodable)
}

fn attempt(row: &PgRow, index: usize) -> StoreResult<u32> {
    u32::try_from(get::<i32>(row, index)?).ok().filter(|&attempt| attempt > 0).ok_or_else(undecodable)
}

pub(super) fn fence(row: &PgRow, index: usize) -> StoreResult<Option<u64>> {
    get::<Option<i64>>(row, index)?.map(|fence| u64::try_from(fence).map_err(|_| undecodable())).transpose()
}

/// The time that is left; `None` where it has passed.
fn left(micros: i64) -> Option<Duration> {
    u64::try_from(micros).ok().filter(|&micros| micros > 0).map(Duration::from_micros)
}

/// Reads the answer of `claim.sql`; `None` if it has to be asked again.
pub(super) fn claim_outcome(row: &PgRow, request: &ClaimRequest) -> StoreResult<Option<ClaimOutcome>> {
    get::<Option<bool>>(row, 0)?.map(|is_claimed| settled(row, request, is_claimed)).transpose()
}

fn settled(row: &PgRow, request: &ClaimRequest, is_claimed: bool) -> StoreResult<ClaimOutcome> {
    let attempt = attempt(row, 2)?;
    if is_claimed {
        return Ok(ClaimOutcome::Claimed { token: Token::new(request.nonce).with_fence(fence(row, 3)?), attempt });
    }
    let state = state(row, 1)?;
    if !get::<bool>(row, 4)? {
        return Ok(ClaimOutcome::Mismatch);
    }
    match state {
        RowState::Done => {
            let outcome = outcome(row, 1, 7, 8)?;
            Ok(ClaimOutcome::Done(Finished::new(request.fingerprint, attempt, outcome)))
        }
        RowState::Running if get::<bool>(row, 5)? => {
            Ok(ClaimOutcome::Claimed { token: Token::new(request.nonce).with_fence(fence(row, 3)?), attempt })
        }
        RowState::Running => match left(get::<Option<i64>>(row, 6)?.ok_or_else(undecodable)?) {
            Some(retry_after) => Ok(ClaimOutcome::InFlight { retry_after }),
            None => Ok(ClaimOutcome::Abandoned { attempt }),
        },
        RowState::Abandoned => Ok(ClaimOutcome::Abandoned { attempt }),
    }
}

/// Reads a row of `inspect.sql` or `list.sql`.
pub(super) fn record(row: &PgRow) -> StoreResult<Record> {
    let text = format!("{}{}{}", get::<&str>(row, 0)?, RecordKey::SEPARATOR, get::<&str>(row, 1)?);
    let key = text.parse().map_err(|_| undecodable())?;
    let fingerprint = <[u8; Fingerprint::LEN]>::try_from(get::<&[u8]>(row, 4)?).map_err(|_| undecodable())?;
    let state = match state(row, 2)? {
        RowState::Done => State::Done(outcome(row, 2, 7, 8)?),
        RowState::Abandoned => State::Abandoned,
        RowState::Running => match left(get::<Option<i64>>(row, 5)?.ok_or_else(undecodable)?) {
            Some(lease_left) => State::Running { lease_left },
            None => State::Lapsed,
        },
    };
    let expires_in = left(get(row, 6)?).unwrap_or_default();
    let arguments = get::<Option<Vec<u8>>>(row, 9)?.map(Bytes::from);
    Ok(Record::new(key, Fingerprint::from_bytes(fingerprint), attempt(row, 3)?, state, expires_in)
        .with_arguments(arguments))
}
