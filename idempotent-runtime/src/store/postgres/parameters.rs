//! Binds the parameters of the statements, in the order in which each file documents them.

use std::time::Duration;

use super::{executor::Bound, listener::payload};
use crate::store::{
    ClaimRequest, Outcome, RecordKey, ResolveRequest, Step, Token, duration,
    sql::states::{EndColumns, ResolvedColumns, longest_rest},
};

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration::micros(duration)).unwrap_or(i64::MAX)
}

/// Writes a `lock_timeout`, in whole milliseconds. It is at least one, since 0 means for ever.
pub(super) fn lock_timeout(wait: Duration) -> String {
    const MAX_MILLIS: u128 = i32::MAX as u128;
    wait.as_millis().clamp(1, MAX_MILLIS).to_string()
}

/// The parameters that all statements about one record begin with.
pub(super) fn of<'q>(query: Bound<'q>, key: &'q RecordKey) -> Bound<'q> {
    query.bind(key.operation()).bind(key.key())
}

/// The parameters that all statements of a record's owner begin with.
pub(super) fn owned<'q>(query: Bound<'q>, key: &'q RecordKey, token: &'q Token) -> Bound<'q> {
    of(query, key).bind(token.nonce.as_bytes().as_slice())
}

/// Those of `claim.sql`. Only claims in a transaction of the caller's have a `wait`.
pub(super) fn claim<'q>(
    query: Bound<'q>,
    key: &'q RecordKey,
    request: &'q ClaimRequest,
    wait: Option<Duration>,
) -> Bound<'q> {
    let query = of(query, key)
        .bind(request.fingerprint.as_bytes().as_slice())
        .bind(request.nonce.as_bytes().as_slice())
        .bind(micros(if wait.is_some() { Duration::MAX } else { request.lease }))
        .bind(micros(request.ttl))
        .bind(longest_rest_micros(request))
        .bind(request.arguments.as_deref())
        .bind(request.context.as_deref());
    match wait {
        Some(wait) => query.bind(lock_timeout(wait)),
        None => query,
    }
}

pub(super) fn longest_rest_micros(request: &ClaimRequest) -> i64 {
    i64::try_from(longest_rest(request.take_over).as_micros()).unwrap_or(i64::MAX)
}

/// Those of `complete.sql`.
pub(super) fn complete<'q>(
    query: Bound<'q>,
    key: &'q RecordKey,
    token: &'q Token,
    outcome: &'q Outcome,
    ttl: Duration,
) -> Bound<'q> {
    let EndColumns { state, result, reason } = EndColumns::of(outcome);
    owned(query, key, token).bind(state).bind(result).bind(reason).bind(micros(ttl)).bind(payload(key))
}

/// Those of `suspend.sql`.
pub(super) fn suspend<'q>(
    query: Bound<'q>,
    key: &'q RecordKey,
    token: &'q Token,
    why: &'q str,
    not_before: Duration,
    keep: Duration,
) -> Bound<'q> {
    let pause = (!not_before.is_zero()).then(|| micros(not_before));
    owned(query, key, token).bind(why).bind(pause).bind(micros(keep)).bind(payload(key))
}

/// Those of `resolve.sql`.
pub(super) fn resolve<'q>(query: Bound<'q>, key: &'q RecordKey, request: &'q ResolveRequest) -> Bound<'q> {
    let ResolvedColumns { state, result, reason } = ResolvedColumns::of(&request.resolution);
    of(query, key)
        .bind(request.seen.owner().as_bytes().as_slice())
        .bind(request.seen.state())
        .bind(request.even_if_alive)
        .bind(request.nonce.as_bytes().as_slice())
        .bind(state)
        .bind(result)
        .bind(reason)
        .bind(micros(request.keep))
        .bind(&*request.context)
        .bind(payload(key))
}

/// Those of `append.sql`.
pub(super) fn append<'q>(
    query: Bound<'q>,
    key: &'q RecordKey,
    token: &'q Token,
    step: &'q Step,
    lease: Duration,
    ttl: Duration,
) -> Bound<'q> {
    let query = owned(query, key, token).bind(micros(lease)).bind(micros(ttl)).bind(&step.name);
    match &step.value {
        Ok(bytes) => query.bind(Some(&**bytes)).bind(None::<&str>),
        Err(why) => query.bind(None::<&[u8]>).bind(Some(why.as_str())),
    }
}
