//! A record as JSON and as rows of a table.

use idempotent_runtime::{
    NotKept, Outcome, Record, State,
    operator::{self, time},
};
use serde_json::{Map, Value, json};

use crate::output::ms;

/// The record; arguments and result only if they may be revealed.
pub(crate) fn json(record: &Record, reveal: bool) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("operation", record.key.operation().into());
    put("key", record.key.key().into());
    put("key_digest", record.key.digest().to_string().into());
    put("state", record.state.as_str().into());
    put("attempt", record.attempt.into());
    put("failed", record.failed.into());
    put("held", record.is_held().into());
    put("expires_in_ms", ms(record.expires_in));
    put("not_before_ms", record.not_before.map_or(Value::Null, ms));
    put(
        "lease_left_ms",
        if let State::Running { lease_left, .. } = record.state { ms(lease_left) } else { Value::Null },
    );
    put("reason", reason(record).map_or(Value::Null, |why| why.as_str().into()));
    put("result_bytes", result(record).map_or(Value::Null, |bytes| bytes.len().into()));
    put("context", record.context.as_deref().map_or(Value::Null, Value::from));
    put("arguments_bytes", record.arguments.as_ref().map_or(Value::Null, |bytes| bytes.len().into()));
    if reveal {
        put("result", result(record).map_or(Value::Null, revealed));
        put("arguments", record.arguments.as_deref().map_or(Value::Null, revealed));
    }
    object.into()
}

fn result(record: &Record) -> Option<&[u8]> {
    match &record.state {
        State::Done(Outcome::Ok(bytes) | Outcome::Err(bytes)) => Some(bytes),
        _ => None,
    }
}

fn reason(record: &Record) -> Option<NotKept> {
    match &record.state {
        State::Done(Outcome::NotKept(why)) => Some(*why),
        _ => None,
    }
}

/// Stored bytes: JSON as such, others as text.
pub(crate) fn revealed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| json!({ "text": String::from_utf8_lossy(bytes) }))
}

/// The titles of [`row`].
pub(crate) const HEAD: [&str; 7] = ["OPERATION", "KEY", "STATE", "ATTEMPT", "LEASE", "NOT BEFORE", "EXPIRES IN"];

pub(crate) fn row(record: &Record) -> Vec<String> {
    let lease = if let State::Running { lease_left, .. } = record.state { time(lease_left) } else { "-".to_owned() };
    vec![
        record.key.operation().to_owned(),
        record.key.key().to_owned(),
        record.state.as_str().to_owned(),
        record.attempt.to_string(),
        lease,
        record.not_before.map_or_else(|| "-".to_owned(), time),
        time(record.expires_in),
    ]
}

/// The record, a row for each fact.
pub(crate) fn facts(record: &Record, reveal: bool) -> Vec<Vec<String>> {
    operator::facts(record, reveal).into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}
