//! A claim: one command for a vacant, a finished or the caller's own record, a script for any other.

use std::{num::NonZeroU64, time::Duration};

use bytes::Bytes;
use redis::{Cmd, Value};

use super::{
    ReadRecord, RedisShared,
    fault::unexpected_reply,
    record::{self, ClaimRecord, RedisRecord, RedisState},
    script,
};
use crate::store::{
    ClaimOutcome, ClaimRequest, Past, RecordKey, StoreError, StoreResult, TakeOver, Token, duration::millis,
};

/// [`ClaimRequest::HELD`] in ms.
const HELD_MS: i64 = 1_576_800_000_000;

impl RedisShared {
    pub(super) async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        let record = ClaimRecord::new(request);
        let keep_ms = millis(request.lease) + millis(request.ttl);
        let mut set = Cmd::with_capacity(7, 320);
        set.arg("SET").arg(self.full_key(key)).arg(&record).arg("NX").arg("GET").arg("PX").arg(keep_ms);
        match self.commands.call(&set).await? {
            Value::Nil => {
                self.remember(request.nonce, record);
                Ok(ClaimOutcome::claimed(Token::new(request.nonce), 1, Past::none(request.nonce)))
            }
            Value::BulkString(bytes) => match as_outcome(record::decode(&Bytes::from(bytes))?, request, None) {
                Ok(outcome) => Ok(outcome),
                // Boxed, so that a hit does not carry its state.
                Err(_) => Box::pin(self.contend(key, request, &record, keep_ms)).await,
            },
            _ => Err(unexpected_reply()),
        }
    }

    /// Claims a key whose record only the server's clock can judge: held, lapsed or suspended, or ours after an abandoned run.
    async fn contend(
        &self,
        key: &RecordKey,
        request: &ClaimRequest,
        record: &ClaimRecord,
        keep_ms: u64,
    ) -> StoreResult<ClaimOutcome> {
        let answer = self.commands.run(&script::CONTEND, |command| {
            command.arg(self.full_key(key)).arg(record).arg(keep_ms).arg(longest_taken_over(request.take_over));
        });
        let parts = match answer.await? {
            Value::Int(left_ms @ 1..) => return Ok(ClaimOutcome::in_flight(time(left_ms))),
            Value::Int(attempt @ ..=-1) => return Ok(ClaimOutcome::abandoned(number(attempt)?)),
            Value::Array(parts) => <[Value; 2]>::try_from(parts).map_err(|_| unexpected_reply())?,
            _ => return Err(unexpected_reply()),
        };
        match parts {
            [Value::BulkString(bytes), Value::Int(now_ms)] => {
                let stored = record::decode(&Bytes::from(bytes))?;
                as_outcome(stored, request, Some(now_ms.unsigned_abs())).map_err(|_| unexpected_reply())
            }
            [Value::Int(left_ms @ 1..), Value::Int(attempt)] => {
                Ok(ClaimOutcome::suspended(time(left_ms), number(attempt)?))
            }
            _ => Err(unexpected_reply()),
        }
    }

    /// Answers a claim on a server that refuses writes for lack of memory, from the record that is there.
    pub(super) async fn claim_when_full(
        &self,
        key: &RecordKey,
        request: &ClaimRequest,
        full: StoreError,
    ) -> StoreResult<ClaimOutcome> {
        let Some(ReadRecord { bytes, left_ms, now_ms }) = self.read(key).await? else { return Err(full) };
        let stored = match as_outcome(record::decode(&bytes)?, request, Some(now_ms)) {
            Ok(outcome) => return Ok(outcome),
            Err(stored) => stored,
        };
        if let Some(lease_left) = stored.lease_left(left_ms) {
            return Ok(ClaimOutcome::in_flight(lease_left));
        }
        // A record without an end is held.
        let kept_ms = if left_ms < 0 { HELD_MS + 1 } else { left_ms };
        if stored.state != RedisState::Failed && kept_ms > longest_taken_over(request.take_over) {
            return Ok(ClaimOutcome::abandoned(stored.attempt));
        }
        match stored.pause_left(left_ms) {
            Some(retry_after) => Ok(ClaimOutcome::suspended(retry_after, stored.attempt)),
            None if stored.state != RedisState::Running && stored.nonce == request.nonce => {
                Ok(ClaimOutcome::ended(stored.attempt))
            }
            None => Err(full),
        }
    }
}

/// The longest remaining time, in ms, of an abandoned or lapsed record that may be taken over.
const fn longest_taken_over(take_over: TakeOver) -> i64 {
    match take_over {
        TakeOver::Never => -1,
        TakeOver::UnlessHeld => HELD_MS,
        TakeOver::Always => i64::MAX,
    }
}

/// The answer to a claim of the record that stands against it; gives the record back where only the server's clock can tell.
fn as_outcome(stored: RedisRecord, request: &ClaimRequest, now_ms: Option<u64>) -> Result<ClaimOutcome, RedisRecord> {
    if stored.fingerprint != request.fingerprint {
        return Ok(ClaimOutcome::Mismatch);
    }
    let stored = match stored.into_finished() {
        Ok(finished) => return Ok(ClaimOutcome::Done(finished)),
        Err(stored) => stored,
    };
    if stored.state == RedisState::Running
        && stored.nonce == request.nonce
        && let Some(past) = stored.past(now_ms)
    {
        let token = Token::new(stored.nonce).with_fence(stored.fence.map(NonZeroU64::get));
        return Ok(ClaimOutcome::claimed(token, stored.attempt, past));
    }
    Err(stored)
}

fn time(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

fn number(attempt: i64) -> StoreResult<u32> {
    u32::try_from(attempt.unsigned_abs()).map_err(|_| unexpected_reply())
}
