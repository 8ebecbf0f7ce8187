//! `show` and `explain`: the commands that look at one key.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use idempotent_runtime::{
    Idempotency, Record, RecordKey,
    operator::{Filter, NextCall, NextRequest, RequestCheck},
};
use serde_json::{Value, json};

use crate::{
    arguments::{ExplainOptions, Key, ShowOptions},
    failure::{Exit, Failure},
    output::{Output, ms, table},
    record_view,
};

pub(crate) const NO_RECORD: &str = "the key has no record";
const NO_KEY: &str = "OPERATION and KEY are not the texts that `list` shows: printable ASCII without blanks and `|`";

pub(crate) fn record_key(key: &Key) -> Result<RecordKey, Failure> {
    if key.operation.contains(RecordKey::SEPARATOR) {
        return Err(Failure::Usage(NO_KEY.to_owned()));
    }
    let text = format!("{}{}{}", key.operation, RecordKey::SEPARATOR, key.key);
    text.parse().map_err(|_| Failure::Usage(NO_KEY.to_owned()))
}

pub(crate) async fn show(idempotency: &Idempotency, options: &ShowOptions, out: Output) -> Result<Exit, Failure> {
    let Some(record) = find(idempotency, options).await? else {
        out.say(&Value::Null, NO_RECORD)?;
        return Ok(Exit::Found);
    };
    if out.is_json {
        out.say(&record_view::json(&record, options.reveal), "")?;
    } else {
        table(&["FACT", "VALUE"], &record_view::facts(&record, options.reveal))?;
    }
    Ok(Exit::Fine)
}

async fn find(idempotency: &Idempotency, options: &ShowOptions) -> Result<Option<Record>, Failure> {
    let Some(digest) = options.digest else {
        let (operation, key) = (options.operation.clone().unwrap_or_default(), options.key.clone().unwrap_or_default());
        return Ok(idempotency.inspect_record(&record_key(&Key { operation, key })?).await?);
    };
    let filter = options.operation.iter().fold(Filter::new(), Filter::operation);
    let found = idempotency.operator().list(filter.digest(digest).limit(1)).next_page().await?;
    Ok(found.and_then(|page| page.into_iter().next()))
}

pub(crate) async fn explain(idempotency: &Idempotency, options: &ExplainOptions, out: Output) -> Result<Exit, Failure> {
    let request = match &options.arguments {
        Some(path) => request(path)?,
        None => NextRequest::Unknown,
    };
    let explained = idempotency.operator().explain_record(&record_key(&options.key)?, &request).await?;
    let compared = match (&explained.request, &explained.record) {
        (_, None) => "no-record",
        (RequestCheck::Same, _) => "same",
        (RequestCheck::Differs { .. }, _) => "differs",
        _ => "unknown",
    };
    if out.is_json {
        let policies = explained.by_policy(options.max_attempts);
        let next: serde_json::Map<_, _> =
            policies.iter().map(|(word, next)| ((*word).to_owned(), answer(next))).collect();
        let record = explained.record.as_ref().map_or(Value::Null, |record| record_view::json(record, false));
        out.say(
            &json!({
                "next": next,
                "depends_on_policy": explained.depends_on_policy(),
                "arguments": compared,
                "record": record,
            }),
            "",
        )?;
        return Ok(Exit::Fine);
    }
    let mut lines = explained.lines(options.max_attempts);
    if compared == "unknown" {
        lines.push(match options.arguments {
            Some(_) => "if its arguments are those of the record, which their JSON does not tell".to_owned(),
            None => "if its arguments are those of the record: --arguments FILE compares them".to_owned(),
        });
    }
    if explained.depends_on_policy() && options.max_attempts.is_none() {
        lines.push("unless the function's `max_attempts` allows no further run: --max-attempts N counts".to_owned());
    }
    out.say(&Value::Null, &lines.join("\n"))?;
    Ok(Exit::Fine)
}

fn request(path: &Path) -> Result<NextRequest, Failure> {
    let mut json = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().read_to_end(&mut json).map(drop)
    } else {
        fs::read(path).map(|bytes| json = bytes)
    };
    read.map_err(|error| Failure::Usage(format!("the file of arguments cannot be read: {error}")))?;
    match serde_json::from_slice::<Value>(&json) {
        Ok(_) => Ok(NextRequest::Json(json.into())),
        Err(_) => Err(Failure::Usage("the file of arguments is not JSON".to_owned())),
    }
}

fn answer(next: &NextCall) -> Value {
    let (kind, more) = match next {
        NextCall::Runs { attempt, .. } => ("runs", json!({ "attempt": attempt })),
        NextCall::Asks { attempt, .. } => ("asks", json!({ "attempt": attempt })),
        NextCall::Waits { lease_left, attempt, .. } => {
            ("waits", json!({ "attempt": attempt, "lease_left_ms": ms(*lease_left) }))
        }
        NextCall::Replayed { outcome, time_left, .. } => {
            ("replayed", json!({ "outcome": outcome.as_str(), "time_left_ms": ms(*time_left) }))
        }
        NextCall::Mismatch { arguments, .. } => ("mismatch", json!({ "arguments": arguments })),
        NextCall::Suspended { retry_after, attempt, .. } => {
            ("suspended", json!({ "attempt": attempt, "retry_after_ms": ms(*retry_after) }))
        }
        NextCall::Abandoned { attempt, .. } => ("abandoned", json!({ "attempt": attempt })),
        NextCall::Exhausted => ("exhausted", json!({})),
        _ => ("other", json!({})),
    };
    let mut answer = more;
    if let Some(object) = answer.as_object_mut() {
        object.insert("answer".to_owned(), kind.into());
        object.insert("text".to_owned(), next.to_string().into());
    }
    answer
}
