//! The request that changes something: an operator resolves a record.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Form,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Page,
    csrf::{Sealed, Unsealed},
    guard::Rights,
    look, show,
    views::{self, outcome::Ended, record::Said},
};
use crate::{
    error::Error,
    operator::{NextRequest, Resolving, Verdict},
    store::{Outcome, Record, RecordKey},
};

/// The longest reason, in bytes. A record keeps 1 KiB of the operator's word, and the beginning of it says who and when.
const MAX_REASON_LEN: usize = 600;

/// The form, as it is sent.
#[derive(Deserialize)]
pub(super) struct ResolveForm {
    operation: String,
    key: String,
    #[serde(default)]
    seen: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    json: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn resolve(
    State(page): State<Arc<Page>>,
    Extension(rights): Extension<Rights>,
    Form(form): Form<ResolveForm>,
) -> Response {
    let Some(operator) = &rights.operator else {
        return refused("Not allowed", "The service does not let you resolve records. Nothing was changed.", &rights);
    };
    let Some(key) = look::listed_key(&form.operation, &form.key) else { return show::no_key(&rights) };
    let sealed = Sealed { seen: form.seen.clone(), token: form.token.clone() };
    match page.seals.check(operator, &key, &sealed, now()) {
        Ok(()) => {}
        Err(Unsealed::Forged) => {
            let text = "This page has not given you this form about this record, or has been restarted since. Nothing was changed: open the record again.";
            return refused("Form not accepted", text, &rights);
        }
        Err(Unsealed::Expired) => {
            let text = "The form was open for too long. Nothing was changed: open the record again.";
            return refused("Form too old", text, &rights);
        }
    }
    let said = match said(&page, &form) {
        Ok(said) => said,
        Err(mistake) => return again(&page, key, &form, mistake, &rights).await,
    };
    match apply(&page, operator, &key, &sealed, said).await {
        Ok(ended) => ended_view(&page, key, ended, &rights).await,
        Err(error) => show::failed(&error, &rights),
    }
}

/// What the operator says, and why.
struct Word {
    verdict: Happened,
    reason: String,
}

enum Happened {
    As(Outcome),
    Never,
    Unknown,
}

fn said(page: &Page, form: &ResolveForm) -> Result<Word, &'static str> {
    let json = || {
        let json = form.json.trim();
        if json.len() > page.idempotency.shared.limits.max_result_len {
            return Err("The JSON is larger than the limit for results.");
        }
        match serde_json::from_str::<&RawValue>(json) {
            // The text as it was given: numbers are not rewritten.
            Ok(_) => Ok(Bytes::from(json.to_owned())),
            Err(_) => Err("The value is not JSON. A text is JSON in quotes, and nothing at all is null."),
        }
    };
    let verdict = match &*form.verdict {
        "result" => Happened::As(Outcome::Ok(json()?)),
        "error" => Happened::As(Outcome::Err(json()?)),
        "rerun" => Happened::Never,
        "forget" => Happened::Unknown,
        _ => return Err("Say what has happened."),
    };
    let reason = form.reason.trim();
    match reason.len() {
        0 => Err("Say why: whoever looks at the record later wants to know."),
        1..=MAX_REASON_LEN => Ok(Word { verdict, reason: reason.to_owned() }),
        _ => Err("The reason is too long to be kept with the record: 600 bytes are the most."),
    }
}

/// Applies it to the record that the operator saw.
async fn apply(page: &Page, operator: &str, key: &RecordKey, sealed: &Sealed, word: Word) -> Result<Ended, Error> {
    let Some(record) = page.idempotency.inspect_record(key).await? else { return Ok(Ended::Gone) };
    if !page.seals.is_seen(&record, sealed) {
        return Ok(Ended::Changed);
    }
    let by = format!("{operator} at {}", humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + now()));
    let verdict = match word.verdict {
        Happened::As(outcome) => Verdict::happened_as(outcome, &by, &word.reason),
        Happened::Never => Verdict::never_happened(&by, &word.reason),
        Happened::Unknown => Verdict::forgotten(&by, &word.reason),
    };
    let Record { attempt, .. } = record;
    Ok(match page.idempotency.operator().resolve(&record, verdict).await? {
        Resolving::Applied => Ended::Applied,
        Resolving::Changed => Ended::Changed,
        Resolving::Running { lease_left } => Ended::Alive { lease_left, attempt },
        Resolving::Finished => Ended::Finished,
        Resolving::DeadLetter => Ended::DeadLetter,
    })
}

/// Says what became of it, and what the next call gets from here on.
async fn ended_view(page: &Page, key: RecordKey, ended: Ended, rights: &Rights) -> Response {
    // The end is certain, also where the store has failed since.
    let explained = page.idempotency.operator().explain_record(&key, &NextRequest::Unknown).await.ok();
    let status = if ended == Ended::Applied { StatusCode::OK } else { StatusCode::CONFLICT };
    (status, views::outcome::view(&key, ended, explained.as_ref(), rights)).into_response()
}

/// Shows the form again, with what was said, and with what is wrong with it.
async fn again(page: &Page, key: RecordKey, form: &ResolveForm, mistake: &'static str, rights: &Rights) -> Response {
    let mut shown = match show::shown(page, key, rights).await {
        Ok(shown) => shown,
        Err(error) => return show::failed(&error, rights),
    };
    let sealed = Sealed { seen: form.seen.clone(), token: form.token.clone() };
    if !shown.explained.record.as_ref().is_some_and(|record| page.seals.is_seen(record, &sealed)) {
        return ended_view(page, shown.key, Ended::Changed, rights).await;
    }
    shown.sealed = Some(sealed);
    let said = Said { verdict: &form.verdict, json: &form.json, reason: &form.reason, mistake };
    (StatusCode::UNPROCESSABLE_ENTITY, views::record::view(&shown, Some(&said), rights)).into_response()
}

fn refused(title: &str, text: &str, rights: &Rights) -> Response {
    (StatusCode::FORBIDDEN, views::message(title, &[text], Some(rights))).into_response()
}

/// The time since the epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "it is the age of a form, and a time for people to read: no record is judged by it"
)]
pub(super) fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
