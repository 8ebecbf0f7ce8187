//! `resolve`: the end of what a record leaves open.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::SystemTime,
};

use idempotent_runtime::{
    Error, Idempotency, Outcome, Record, RecordKey, StoreErrorKind,
    operator::{NextRequest, Resolving, Verdict, printable, time},
};
use serde_json::{Value, json};

use crate::{
    arguments::{ResolveOptions, Said},
    failure::{Exit, Failure},
    keys::{NO_RECORD, record_key},
    output::{Output, table},
    record_view,
};

pub(crate) async fn resolve(idempotency: &Idempotency, options: &ResolveOptions, out: Output) -> Result<Exit, Failure> {
    let key = record_key(&options.key)?;
    let verdict = verdict(options)?;
    let seen = match idempotency.inspect_record(&key).await {
        // Nobody can own what cannot be read.
        Err(Error::Store(error)) if error.kind() == StoreErrorKind::Corrupt && options.said.forget => {
            confirm(options, "what is stored under the key is no record; it is removed")?;
            return forget_unread(idempotency, &key, out).await;
        }
        seen => seen?,
    };
    let Some(seen) = seen else { return refused(out, "no-record", NO_RECORD) };
    if options.if_attempt.is_some_and(|attempt| attempt != seen.attempt) {
        return refused(out, "changed", &format!("nothing was changed: the record is at attempt {}", seen.attempt));
    }
    if !out.is_json {
        table(&["FACT", "VALUE"], &record_view::facts(&seen, false))?;
    }
    confirm(options, what(&options.said))?;
    match idempotency.operator().resolve(&seen, verdict).await? {
        Resolving::Applied => applied(idempotency, &seen, out).await,
        Resolving::Changed => {
            refused(out, "changed", "nothing was changed: the record is not the one that is shown above: look again")
        }
        Resolving::Running { lease_left, .. } => refused(
            out,
            "running",
            &format!(
                "nothing was changed: attempt {} is alive, its lease ends in {} unless it is renewed; --force resolves it all the same",
                seen.attempt,
                time(lease_left)
            ),
        ),
        Resolving::Finished => {
            refused(out, "finished", "nothing was changed: the record has a result, and can only be forgotten")
        }
        Resolving::DeadLetter => refused(
            out,
            "dead-letter",
            "nothing was changed: the message is a dead letter: see `dead replay` and `dead discard`",
        ),
        _ => refused(out, "unknown", "nobody knows whether the record was changed: look again"),
    }
}

fn verdict(options: &ResolveOptions) -> Result<Verdict, Failure> {
    let by = match &options.by {
        Some(by) => by.clone(),
        None => std::env::var("USER").unwrap_or_else(|_| "an operator".to_owned()),
    };
    let by = format!("{by} at {}", humantime::format_rfc3339_seconds(now()));
    let reason = &*options.reason;
    let Said { result, error, rerun, .. } = &options.said;
    let verdict = match (result, error) {
        (Some(result), _) => Verdict::happened_as(Outcome::Ok(json_of(result)?), &by, reason),
        (_, Some(error)) => Verdict::happened_as(Outcome::Err(json_of(error)?), &by, reason),
        _ if *rerun => Verdict::never_happened(&by, reason),
        _ => Verdict::forgotten(&by, reason),
    };
    let verdict = verdict.keep(options.keep);
    Ok(if options.force { verdict.even_if_alive() } else { verdict })
}

#[expect(clippy::disallowed_methods, reason = "it is for people to read, and compared with nothing")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The text as it was given: numbers are not rewritten.
fn json_of(text: &str) -> Result<bytes::Bytes, Failure> {
    match serde_json::from_str::<Value>(text) {
        Ok(_) => Ok(text.trim().to_owned().into()),
        Err(error) => Err(Failure::Usage(format!("the value is not JSON: {error}"))),
    }
}

const fn what(said: &Said) -> &'static str {
    match said {
        Said { result: Some(_), .. } => "it happened: all further calls get this result",
        Said { error: Some(_), .. } => "it failed for good: all further calls get this error",
        Said { rerun: true, .. } => "it did not happen: the next call runs it",
        Said { .. } => "the record is removed: the next call runs, whatever has happened",
    }
}

/// Asks at a terminal, unless the command line has said yes.
fn confirm(options: &ResolveOptions, what: &str) -> Result<(), Failure> {
    if options.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("--yes confirms it: {what}")));
    }
    eprint!("{what}. Sure? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "yes") { Ok(()) } else { Err(Failure::Usage("nothing was changed".to_owned())) }
}

async fn forget_unread(idempotency: &Idempotency, key: &RecordKey, out: Output) -> Result<Exit, Failure> {
    if !idempotency.forget_record(key).await? {
        return refused(out, "no-record", NO_RECORD);
    }
    out.say(&json!({ "resolved": true }), "resolved: the next call runs")?;
    Ok(Exit::Fine)
}

/// Says what the next call gets from here on.
async fn applied(idempotency: &Idempotency, seen: &Record, out: Output) -> Result<Exit, Failure> {
    let explained = idempotency.operator().explain_record(&seen.key, &NextRequest::Unknown).await?;
    let next = explained.next_call(idempotent_runtime::OnAbandoned::Refuse, None);
    out.say(
        &json!({ "resolved": true, "next": next.to_string() }),
        &format!("resolved: the next call {}", printable(&next.to_string())),
    )?;
    Ok(Exit::Fine)
}

fn refused(out: Output, why: &str, text: &str) -> Result<Exit, Failure> {
    out.say(&json!({ "resolved": false, "why": why }), text)?;
    Ok(Exit::Found)
}
