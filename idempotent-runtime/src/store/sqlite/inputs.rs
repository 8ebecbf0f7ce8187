//! The statements with their inputs, in the order in which each file documents them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::SqlStr;

use super::{database::Bound, statements::Statements};
use crate::store::{
    ClaimRequest, Outcome, RecordKey, ResolveRequest, Step, Token, duration,
    sql::states::{EndColumns, ResolvedColumns, longest_rest},
};

/// Binds the inputs that all statements about one record begin with.
pub(super) fn named<'q>(sql: &SqlStr, key: &'q RecordKey) -> Bound<'q> {
    sqlx::query(sql.clone()).bind(key.operation()).bind(key.key())
}

/// Binds the inputs that all statements of a record's owner begin with.
pub(super) fn owned<'q>(sql: &SqlStr, key: &'q RecordKey, token: &'q Token) -> Bound<'q> {
    named(sql, key).bind(token.nonce.as_bytes().as_slice())
}

/// The statement that claims: not what has lapsed only after `asked`, in ms since 1970.
pub(super) fn claim<'q>(
    statements: &Statements,
    key: &'q RecordKey,
    request: &'q ClaimRequest,
    in_transaction: bool,
    asked: i64,
) -> Bound<'q> {
    named(&statements.claim, key)
        .bind(request.fingerprint.as_bytes().as_slice())
        .bind(request.nonce.as_bytes().as_slice())
        .bind(millis(if in_transaction { Duration::MAX } else { request.lease }))
        .bind(millis(request.ttl))
        .bind(i64::try_from(longest_rest(request.take_over).as_millis()).unwrap_or(i64::MAX))
        .bind(in_transaction.then_some(1))
        .bind(request.arguments.as_deref())
        .bind(request.context.as_deref())
        .bind(asked)
}

/// The statement that ends a run with an outcome.
pub(super) fn complete<'q>(
    statements: &Statements,
    key: &'q RecordKey,
    token: &'q Token,
    outcome: &'q Outcome,
    ttl: Duration,
) -> Bound<'q> {
    let EndColumns { state, result, reason } = EndColumns::of(outcome);
    owned(&statements.complete, key, token).bind(state).bind(result).bind(reason).bind(millis(ttl))
}

/// The statement that ends a run which leaves no record.
pub(super) fn release<'q>(
    statements: &Statements,
    key: &'q RecordKey,
    token: &'q Token,
    never_started: bool,
) -> Bound<'q> {
    owned(&statements.release, key, token).bind(never_started)
}

/// The statement that ends a run without an outcome.
pub(super) fn suspend<'q>(
    statements: &Statements,
    key: &'q RecordKey,
    token: &'q Token,
    why: &'q str,
    not_before: Duration,
    keep: Duration,
) -> Bound<'q> {
    let pause = (!not_before.is_zero()).then(|| millis(not_before));
    owned(&statements.suspend, key, token).bind(why).bind(pause).bind(millis(keep))
}

/// The statement that leaves a record as an operator says.
pub(super) fn resolve<'q>(statements: &Statements, key: &'q RecordKey, request: &'q ResolveRequest) -> Bound<'q> {
    let ResolvedColumns { state, result, reason } = ResolvedColumns::of(&request.resolution);
    let seen = |sql| {
        named(sql, key)
            .bind(request.seen.owner().as_bytes().as_slice())
            .bind(request.seen.state())
            .bind(request.even_if_alive)
    };
    if state.is_none() {
        return seen(&statements.remove);
    }
    seen(&statements.resolve)
        .bind(request.nonce.as_bytes().as_slice())
        .bind(state)
        .bind(result)
        .bind(reason)
        .bind(millis(request.keep))
        .bind(&*request.context)
}

/// The statements that record a step.
pub(super) fn append<'q>(
    statements: &Statements,
    key: &'q RecordKey,
    token: &'q Token,
    step: &'q Step,
    lease: Duration,
    ttl: Duration,
) -> Vec<Bound<'q>> {
    let (result, reason) = match &step.value {
        Ok(bytes) => (Some(&**bytes), None),
        Err(why) => (None, Some(why.as_str())),
    };
    vec![
        owned(&statements.own, key, token).bind(millis(lease)).bind(millis(ttl)),
        owned(&statements.append, key, token).bind(&step.name).bind(result).bind(reason),
        owned(&statements.step, key, token).bind(&step.name),
    ]
}

/// The time now, in ms since 1970: by the machine's clock, which SQLite reads, too.
#[expect(clippy::disallowed_methods, reason = "a statement that waits for the lock cannot read the clock before it")]
pub(super) fn now() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration::millis(duration)).unwrap_or(i64::MAX)
}

pub(super) fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
