//! Rows as records.

use std::time::Duration;

use bytes::Bytes;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::fault::corrupt;
use crate::{
    request::fingerprint::Fingerprint,
    store::{
        ClaimOutcome, ClaimRequest, Finished, Nonce, NotKept, Outcome, Record, RecordKey, State, StoreResult, Token,
    },
};

const RUNNING: &str = "running";
const ABANDONED: &str = "abandoned";
const OK: &str = "ok";
const ERR: &str = "err";
const UNAVAILABLE: &str = "unavailable";
const TOO_LARGE: &str = "too-large";
const NOT_SERIALIZABLE: &str = "not-serializable";

/// A row that has not expired.
pub(super) struct Stored {
    key: RecordKey,
    pub(super) nonce: Nonce,
    pub(super) fence: u64,
    fingerprint: Fingerprint,
    attempt: u32,
    left: Duration,
    arguments: Option<Bytes>,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    /// With what is left of the lease; zero when it has lapsed.
    Running(Duration),
    Abandoned,
    Done(Outcome),
}

/// The columns `state`, `result` and `reason` of a finished run.
pub(super) fn columns_of(outcome: &Outcome) -> (&'static str, Option<&[u8]>, Option<&'static str>) {
    match outcome {
        Outcome::Ok(bytes) => (OK, Some(bytes), None),
        Outcome::Err(bytes) => (ERR, Some(bytes), None),
        Outcome::NotKept(NotKept::TooLarge) => (UNAVAILABLE, None, Some(TOO_LARGE)),
        Outcome::NotKept(NotKept::NotSerializable) => (UNAVAILABLE, None, Some(NOT_SERIALIZABLE)),
    }
}

/// Reads a row of `look.sql` or `list.sql`.
///
/// # Errors
///
/// [`StoreErrorKind::Corrupt`](crate::StoreErrorKind::Corrupt) for anything that this library would not have written.
pub(super) fn decode(row: &SqliteRow) -> StoreResult<Stored> {
    parse(row).ok().flatten().ok_or_else(corrupt)
}

/// What a granted claim answers: its fence and its attempt.
pub(super) fn granted(row: &SqliteRow, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
    let (Ok(fence), Ok(attempt)) = (row.try_get::<i64, _>("fence"), row.try_get::<i64, _>("attempt")) else {
        return Err(corrupt());
    };
    let (fence, attempt) = u64::try_from(fence).ok().zip(u32::try_from(attempt).ok()).ok_or_else(corrupt)?;
    Ok(ClaimOutcome::claimed(Token::new(request.nonce).with_fence(fence), attempt))
}

/// Whether a record that was removed had not expired.
pub(super) fn was_alive(row: &SqliteRow) -> StoreResult<bool> {
    row.try_get(0).map_err(|_| corrupt())
}

/// Where a listing goes on after this row.
pub(super) fn id(row: &SqliteRow) -> StoreResult<i64> {
    row.try_get("id").map_err(|_| corrupt())
}

fn parse(row: &SqliteRow) -> sqlx::Result<Option<Stored>> {
    let name = format!("{}|{}", row.try_get::<&str, _>("operation")?, row.try_get::<&str, _>("key")?);
    let fingerprint = row.try_get::<&[u8], _>("fingerprint")?;
    let nonce = row.try_get::<&[u8], _>("nonce")?;
    let lease_left: Option<i64> = row.try_get("lease_left")?;
    let result: Option<Vec<u8>> = row.try_get("result")?;
    let reason: Option<&str> = row.try_get("reason")?;
    let phase = match (row.try_get("state")?, lease_left, result, reason) {
        (RUNNING, Some(left_ms), None, None) => Phase::Running(milliseconds(left_ms)),
        (ABANDONED, None, None, None) => Phase::Abandoned,
        (OK, None, Some(bytes), None) => Phase::Done(Outcome::Ok(Bytes::from(bytes))),
        (ERR, None, Some(bytes), None) => Phase::Done(Outcome::Err(Bytes::from(bytes))),
        (UNAVAILABLE, None, None, Some(TOO_LARGE)) => Phase::Done(Outcome::NotKept(NotKept::TooLarge)),
        (UNAVAILABLE, None, None, Some(NOT_SERIALIZABLE)) => Phase::Done(Outcome::NotKept(NotKept::NotSerializable)),
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
    Ok(Some(Stored { key, nonce, fence, fingerprint, attempt, left, arguments, phase }))
}

/// Zero where the time has passed.
fn milliseconds(left: i64) -> Duration {
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}

impl Stored {
    /// What a claim makes of it; `None` where the claim may take the key.
    pub(super) fn settle(self, request: &ClaimRequest) -> Option<ClaimOutcome> {
        let Self { fingerprint, attempt, .. } = self;
        if fingerprint != request.fingerprint {
            return Some(ClaimOutcome::Mismatch);
        }
        match self.phase {
            Phase::Done(outcome) => Some(ClaimOutcome::Done(Finished::new(fingerprint, attempt, outcome))),
            Phase::Running(_) if self.nonce == request.nonce => {
                let token = Token::new(self.nonce).with_fence(self.fence);
                Some(ClaimOutcome::claimed(token, attempt))
            }
            Phase::Running(left) if !left.is_zero() => Some(ClaimOutcome::InFlight { retry_after: left }),
            Phase::Running(_) | Phase::Abandoned if !request.take_over => Some(ClaimOutcome::Abandoned { attempt }),
            Phase::Running(_) | Phase::Abandoned => None,
        }
    }

    /// As an operator sees it.
    pub(super) fn into_record(self) -> Record {
        let state = match self.phase {
            Phase::Done(outcome) => State::Done(outcome),
            Phase::Running(lease_left) if !lease_left.is_zero() => State::Running { lease_left },
            Phase::Running(_) => State::Lapsed,
            Phase::Abandoned => State::Abandoned,
        };
        Record::new(self.key, self.fingerprint, self.attempt, state, self.left).with_arguments(self.arguments)
    }
}
