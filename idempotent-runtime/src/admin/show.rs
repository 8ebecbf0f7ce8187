//! The requests that only look.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    Page,
    guard::Rights,
    look::{self, Asked},
    views::{self, address, record::Shown},
};
use crate::{
    engine::recent,
    error::Error,
    operator::{NextRequest, StateFilter},
    store::{RecordKey, StoreErrorKind},
};

#[derive(Deserialize)]
pub(super) struct StartQuery {
    after: Option<String>,
}

pub(super) async fn start(
    State(page): State<Arc<Page>>,
    Extension(rights): Extension<Rights>,
    Query(StartQuery { after }): Query<StartQuery>,
) -> Response {
    let read = async {
        let overview = look::overview(&page.idempotency, after.as_deref()).await?;
        // A role that may not read these still sees the records.
        let letters = look::letters(&page.idempotency).await;
        let parked = match &page.parked {
            Some(parked) => Some(parked().await),
            None => None,
        };
        Ok(views::start::Start { overview, letters, parked, calls: recent::hour(), is_continued: after.is_some() })
    };
    match read.await {
        Ok(start) => views::start::view(&start, &rights).into_response(),
        Err(error) => failed(&error, &rights),
    }
}

/// What is searched for. A field that is left blank is not asked for.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Search {
    pub(super) operation: String,
    pub(super) key: String,
    pub(super) digest: String,
    pub(super) state: String,
    pub(super) after: Option<String>,
}

pub(super) async fn records(
    State(page): State<Arc<Page>>,
    Extension(rights): Extension<Rights>,
    Query(search): Query<Search>,
) -> Response {
    let [operation, key, digest, state] =
        [&search.operation, &search.key, &search.digest, &search.state].map(|text| text.trim());
    let refused = |text: &str| {
        let view = views::records::view(&search, None, Some(text), &rights);
        (StatusCode::UNPROCESSABLE_ENTITY, view).into_response()
    };
    if !key.is_empty() {
        if operation.is_empty() {
            return refused("A key is looked up in its operation: name it, too.");
        }
        return match look::find(&page.idempotency, operation, key).await {
            Ok(Some(key)) => Redirect::to(&address(&key)).into_response(),
            Ok(None) => {
                let text = "The key has no record: its next call runs. Keys are written as the function gets them, or as they are listed.";
                (StatusCode::NOT_FOUND, views::records::view(&search, None, Some(text), &rights)).into_response()
            }
            Err(error) => failed(&error, &rights),
        };
    }
    let digest = match digest.parse() {
        _ if digest.is_empty() => None,
        Ok(digest) => Some(digest),
        Err(_) => return refused("A digest is the `key_digest` of an event: 16 hex digits."),
    };
    let state = match state.parse::<StateFilter>() {
        _ if state.is_empty() => None,
        Ok(state) => Some(state),
        Err(error) => return refused(&error.to_string()),
    };
    let asked = Asked {
        operation: Some(operation).filter(|name| !name.is_empty()),
        state,
        digest,
        after: search.after.as_deref(),
    };
    match look::listing(&page.idempotency, &asked).await {
        Ok(listing) => match &listing.lines[..] {
            [only] if digest.is_some() => Redirect::to(&address(&only.key)).into_response(),
            _ => views::records::view(&search, Some(&listing), None, &rights).into_response(),
        },
        Err(error) => failed(&error, &rights),
    }
}

#[derive(Deserialize)]
pub(super) struct KeyQuery {
    operation: String,
    key: String,
}

pub(super) async fn record(
    State(page): State<Arc<Page>>,
    Extension(rights): Extension<Rights>,
    Query(KeyQuery { operation, key }): Query<KeyQuery>,
) -> Response {
    let Some(key) = look::listed_key(&operation, &key) else { return no_key(&rights) };
    match shown(&page, key, &rights).await {
        Ok(shown) => {
            let status = if shown.explained.record.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
            (status, views::record::view(&shown, None, &rights)).into_response()
        }
        Err(error) => failed(&error, &rights),
    }
}

/// What is shown of a key, with a form that is sealed now.
pub(super) async fn shown(page: &Page, key: RecordKey, rights: &Rights) -> Result<Shown, Error> {
    let operator = page.idempotency.operator();
    let explained = operator.explain_record(&key, &NextRequest::Unknown).await?;
    let steps = match &explained.record {
        Some(record) => look::steps(&page.idempotency, record).await?,
        None => None,
    };
    let letters = look::letters_of(&page.idempotency, &key).await;
    let sealed = rights.operator.as_ref().zip(explained.record.as_ref());
    let sealed = sealed.map(|(name, record)| page.seals.seal(name, record, super::resolve::now()));
    Ok(Shown { key, explained, steps, letters, sealed })
}

pub(super) async fn nothing(Extension(rights): Extension<Rights>) -> Response {
    let view = views::message("Nothing here", &["The page has no such view."], Some(&rights));
    (StatusCode::NOT_FOUND, view).into_response()
}

pub(super) fn no_key(rights: &Rights) -> Response {
    let text = "This is no key of a record: it is printable ASCII without blanks and `|`, as it is listed.";
    (StatusCode::BAD_REQUEST, views::message("No such key", &[text], Some(rights))).into_response()
}

/// The store did not answer, or refused.
pub(super) fn failed(error: &Error, rights: &Rights) -> Response {
    let is_corrupt = matches!(error, Error::Store(fault) if fault.kind() == StoreErrorKind::Corrupt);
    let mut lines = vec![chain(error)];
    if is_corrupt {
        lines.push("What is stored under the key is no record. `idempotent resolve … --forget` removes it.".to_owned());
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let status = if is_corrupt { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, views::message("No answer from the store", &lines, Some(rights))).into_response()
}

/// An error and its causes. Their texts are free of keys, values and credentials.
pub(super) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
