//! Reads records from rows.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::fault::corrupt;
use crate::{
    request::fingerprint::Fingerprint,
    store::{
        ClaimOutcome, ClaimRequest, Finished, Generation, Nonce, NotKept, Outcome, Past, Record, RecordKey, State,
        Step, StoreResult, Suspension, Token,
        sql::states::{self, RowState, longest_rest},
    },
};

/// A row that has not expired.
pub(super) struct SqliteRecord {
    key: RecordKey,
    pub(super) nonce: Nonce,
    pub(super) fence: u64,
    fingerprint: Fingerprint,
    attempt: u32,
    past: Past,
    left: Duration,
    /// The time before which nobody may take over; zero where one may do so now.
    pause: Duration,
    arguments: Option<Bytes>,
    context: Option<Arc<str>>,
    /// True if the clock is behind the time at which it was written, and it has no end by this clock yet.
    pub(super) is_behind: bool,
    pub(super) state: SqliteState,
}

pub(super) enum SqliteState {
    /// Running, with the rest of the lease; zero when it has lapsed.
    Running(Duration),
    Failed,
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

/// The answer to a claim that was granted.
pub(super) fn granted(row: &SqliteRow, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
    let columns = || -> sqlx::Result<Option<ClaimOutcome>> {
        let (Ok(fence), Ok(attempt)) =
            (u64::try_from(row.try_get::<i64, _>("fence")?), u32::try_from(row.try_get::<i64, _>("attempt")?))
        else {
            return Ok(None);
        };
        let token = Token::new(request.nonce).with_fence(fence);
        Ok(past(row)?.map(|past| ClaimOutcome::claimed(token, attempt, past)))
    };
    columns().ok().flatten().ok_or_else(corrupt)
}

/// Reads a row of `step.sql`: the step's value, and whether this claim has recorded it.
pub(super) fn recorded(row: &SqliteRow) -> StoreResult<(bool, Result<Bytes, NotKept>)> {
    let columns = || -> sqlx::Result<_> { Ok((row.try_get("is_ours")?, value(row)?)) };
    match columns() {
        Ok((is_ours, Some(value))) => Ok((is_ours, value)),
        _ => Err(corrupt()),
    }
}

/// Reads a row of `steps.sql`; `None` where it has no step.
pub(super) fn step(row: &SqliteRow) -> StoreResult<Option<Step>> {
    let name: Option<String> = row.try_get("name").map_err(|_| corrupt())?;
    let step = |name| value(row).ok().flatten().map(|value| Step::new(name, value)).ok_or_else(corrupt);
    name.map(step).transpose()
}

fn value(row: &SqliteRow) -> sqlx::Result<Option<Result<Bytes, NotKept>>> {
    Ok(states::value(row.try_get("result")?, row.try_get("reason")?))
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
        (Some(RowState::Failed), None, None, None) => SqliteState::Failed,
        (Some(RowState::Abandoned), None, None, None) => SqliteState::Abandoned,
        (Some(RowState::Done), None, result, reason) => match states::outcome(state, result, reason) {
            Some(outcome) => SqliteState::Done(outcome),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let (Ok(key), Ok(fingerprint), Ok(nonce), Ok(fence), Ok(attempt), Some(past)) = (
        name.parse::<RecordKey>(),
        fingerprint.try_into().map(Fingerprint::from_bytes),
        nonce.try_into().map(Nonce::from_bytes),
        u64::try_from(row.try_get::<i64, _>("fence")?),
        u32::try_from(row.try_get::<i64, _>("attempt")?),
        past(row)?,
    ) else {
        return Ok(None);
    };
    // A failed record that an operator has reopened is before its first run.
    if attempt == 0 && !matches!(state, SqliteState::Failed) {
        return Ok(None);
    }
    let pause = milliseconds(row.try_get::<Option<i64>, _>("pause_left")?.unwrap_or_default());
    let left = milliseconds(row.try_get("record_left")?);
    let arguments = row.try_get::<Option<Vec<u8>>, _>("arguments")?.map(Bytes::from);
    let context = row.try_get::<Option<&str>, _>("context")?.map(Arc::from);
    let is_behind = row.try_get("is_behind")?;
    Ok(Some(SqliteRecord {
        key,
        nonce,
        fence,
        fingerprint,
        attempt,
        past,
        left,
        pause,
        arguments,
        context,
        is_behind,
        state,
    }))
}

fn past(row: &SqliteRow) -> sqlx::Result<Option<Past>> {
    let since = milliseconds(row.try_get::<Option<i64>, _>("since_ms")?.unwrap_or_default());
    let (Ok(generation), Some(before), Ok(failed)) = (
        row.try_get::<&[u8], _>("generation")?.try_into().map(Generation::from_bytes),
        states::before(row.try_get("before")?, since),
        u32::try_from(row.try_get::<i64, _>("failed")?),
    ) else {
        return Ok(None);
    };
    Ok(Some(Past::new(generation, before, failed, row.try_get("has_steps")?)))
}

/// The time that is left; zero where it has passed.
fn milliseconds(left: i64) -> Duration {
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}

impl SqliteRecord {
    /// True for a run whose lease is over, and which its owner may not have been able to renew.
    pub(super) fn has_lapsed(&self) -> bool {
        matches!(self.state, SqliteState::Running(left) if left.is_zero())
    }

    /// The answer of this record to a claim; `None` where the claim may take the key.
    pub(super) fn answer(self, request: &ClaimRequest) -> Option<ClaimOutcome> {
        let Self { fingerprint, attempt, left, pause, .. } = self;
        if fingerprint != request.fingerprint {
            return Some(ClaimOutcome::Mismatch);
        }
        match self.state {
            SqliteState::Done(outcome) => {
                return Some(ClaimOutcome::Done(Finished::new(fingerprint, attempt, outcome)));
            }
            SqliteState::Running(_) if self.nonce == request.nonce => {
                let token = Token::new(self.nonce).with_fence(self.fence);
                return Some(ClaimOutcome::claimed(token, attempt, self.past));
            }
            SqliteState::Running(left) if !left.is_zero() => return Some(ClaimOutcome::in_flight(left)),
            SqliteState::Running(_) | SqliteState::Abandoned if left > longest_rest(request.take_over) => {
                return Some(ClaimOutcome::abandoned(attempt));
            }
            SqliteState::Running(_) | SqliteState::Abandoned | SqliteState::Failed => {}
        }
        if !pause.is_zero() {
            return Some(ClaimOutcome::suspended(pause, attempt));
        }
        // This claim was granted before, and its run has ended: a try that was delayed. Nobody would have the new run.
        let is_over = matches!(self.state, SqliteState::Failed | SqliteState::Abandoned);
        (is_over && self.nonce == request.nonce).then(|| ClaimOutcome::ended(attempt))
    }

    /// The answer of this record to a suspension that did not change it; `None` where it is to be asked again.
    pub(super) fn suspension(self, token: &Token) -> Option<Suspension> {
        let is_ours = self.nonce == token.nonce;
        match self.state {
            SqliteState::Done(outcome) => Some(Suspension::ended(outcome, is_ours)),
            _ if !is_ours => Some(Suspension::Taken),
            SqliteState::Failed | SqliteState::Abandoned => Some(Suspension::Applied),
            // Our own claim, sent twice, was granted between the statement and this look.
            SqliteState::Running(_) => None,
        }
    }

    /// The record as an operator sees it.
    pub(super) fn into_record(self) -> Record {
        let state = match self.state {
            SqliteState::Done(outcome) => State::Done(outcome),
            SqliteState::Running(lease_left) if !lease_left.is_zero() => State::running(lease_left),
            SqliteState::Running(_) => State::Lapsed,
            SqliteState::Failed => State::Failed,
            SqliteState::Abandoned => State::Abandoned,
        };
        let Past { generation, failed, .. } = self.past;
        Record::new(self.key, self.fingerprint, generation, self.nonce, self.attempt, state, self.left)
            .with_failed(failed)
            .with_not_before((!self.pause.is_zero()).then_some(self.pause))
            .with_arguments(self.arguments)
            .with_context(self.context)
    }
}
