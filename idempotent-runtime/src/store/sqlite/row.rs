//! Reads records from rows.

use std::time::Duration;

use bytes::Bytes;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::fault::corrupt;
use crate::{
    request::fingerprint::Fingerprint,
    store::{
        ClaimOutcome, ClaimRequest, Finished, Nonce, Outcome, Record, RecordKey, State, StoreResult, Token,
        sql::states::{self, RowState},
    },
};

/// A row that has not expired.
pub(super) struct SqliteRecord {
    key: RecordKey,
    pub(super) nonce: Nonce,
    pub(super) fence: u64,
    fingerprint: Fingerprint,
    attempt: u32,
    left: Duration,
    arguments: Option<Bytes>,
    /// True if the clock has gone back since its ends were set.
    pub(super) is_ahead: bool,
    pub(super) state: SqliteState,
}

pub(super) enum SqliteState {
    /// Running, with the rest of the lease; zero when it has lapsed.
    Running(Duration),
    Abandoned,
    Done(Outcome),
}

/// Reads a row of `look.sql` or `list.sql`.
///
/// # Errors
///
/// [`StoreErrorKind::Corrupt`](crate::StoreErrorKind::Corrupt) for anything that this library would not have written.
pub(super) fn decode(row: &SqliteRow) -> StoreResult<SqliteRecord> {
    parse(row).ok().flatten().ok_or_else(corrupt)
}

/// The answer to a claim that was granted, with its fence and its attempt.
pub(super) fn granted(row: &SqliteRow, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
    let (Ok(fence), Ok(attempt)) = (row.try_get::<i64, _>("fence"), row.try_get::<i64, _>("attempt")) else {
        return Err(corrupt());
    };
    let (fence, attempt) = u64::try_from(fence).ok().zip(u32::try_from(attempt).ok()).ok_or_else(corrupt)?;
    Ok(ClaimOutcome::claimed(Token::new(request.nonce).with_fence(fence), attempt))
}

/// Tells whether a record that was removed was alive: it had not expired.
pub(super) fn was_alive(row: &SqliteRow) -> StoreResult<bool> {
    row.try_get(0).map_err(|_| corrupt())
}

/// The position of a listing after this row.
pub(super) fn id(row: &SqliteRow) -> StoreResult<i64> {
    row.try_get("id").map_err(|_| corrupt())
}

fn parse(row: &SqliteRow) -> sqlx::Result<Option<SqliteRecord>> {
    let name = format!("{}|{}", row.try_get::<&str, _>("operation")?, row.try_get::<&str, _>("key")?);
    let fingerprint = row.try_get::<&[u8], _>("fingerprint")?;
    let nonce = row.try_get::<&[u8], _>("nonce")?;
    let lease_left: Option<i64> = row.try_get("lease_left")?;
    let result: Option<Vec<u8>> = row.try_get("result")?;
    let reason: Option<&str> = row.try_get("reason")?;
    let state: &str = row.try_get("state")?;
    let state = match (RowState::parse(state), lease_left, result, reason) {
        (Some(RowState::Running), Some(left_ms), None, None) => SqliteState::Running(milliseconds(left_ms)),
        (Some(RowState::Abandoned), None, None, None) => SqliteState::Abandoned,
        (Some(RowState::Done), None, result, reason) => match states::outcome(state, result, reason) {
            Some(outcome) => SqliteState::Done(outcome),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let (Ok(key), Ok(fingerprint), Ok(nonce), Ok(fence), Ok(attempt @ 1..)) = (
        name.parse::<RecordKey>(),
        fingerprint.try_into().map(Fingerprint::from_bytes),
        nonce.try_into().map(Nonce::from_bytes),
        u64::try_from(row.try_get::<i64, _>("fence")?),
        u32::try_from(row.try_get::<i64, _>("attempt")?),
    ) else {
        return Ok(None);
    };
    let left = milliseconds(row.try_get("record_left")?);
    let arguments = row.try_get::<Option<Vec<u8>>, _>("arguments")?.map(Bytes::from);
    let is_ahead = row.try_get("is_ahead")?;
    Ok(Some(SqliteRecord { key, nonce, fence, fingerprint, attempt, left, arguments, is_ahead, state }))
}

/// The time that is left; zero where it has passed.
fn milliseconds(left: i64) -> Duration {
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}

impl SqliteRecord {
    /// The answer of this record to a claim; `None` where the claim may take the key.
    pub(super) fn answer(self, request: &ClaimRequest) -> Option<ClaimOutcome> {
        let Self { fingerprint, attempt, left, .. } = self;
        if fingerprint != request.fingerprint {
            return Some(ClaimOutcome::Mismatch);
        }
        match self.state {
            SqliteState::Done(outcome) => Some(ClaimOutcome::Done(Finished::new(fingerprint, attempt, outcome))),
            SqliteState::Running(_) if self.nonce == request.nonce => {
                let token = Token::new(self.nonce).with_fence(self.fence);
                Some(ClaimOutcome::claimed(token, attempt))
            }
            SqliteState::Running(left) if !left.is_zero() => Some(ClaimOutcome::InFlight { retry_after: left }),
            SqliteState::Running(_) | SqliteState::Abandoned if !request.take_over || left > ClaimRequest::HELD => {
                Some(ClaimOutcome::Abandoned { attempt })
            }
            SqliteState::Running(_) | SqliteState::Abandoned => None,
        }
    }

    /// The record as an operator sees it.
    pub(super) fn into_record(self) -> Record {
        let state = match self.state {
            SqliteState::Done(outcome) => State::Done(outcome),
            SqliteState::Running(lease_left) if !lease_left.is_zero() => State::Running { lease_left },
            SqliteState::Running(_) => State::Lapsed,
            SqliteState::Abandoned => State::Abandoned,
        };
        Record::new(self.key, self.fingerprint, self.attempt, state, self.left).with_arguments(self.arguments)
    }
}
