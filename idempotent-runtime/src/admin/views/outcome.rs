//! What became of an operator's word.

use std::time::Duration;

use axum::response::Html;
use maud::html;

use super::{address, badge, page, prose, record::next_call, text};
use crate::{
    admin::guard::Rights,
    operator::{Explanation, time},
    store::RecordKey,
};

/// The end of a request to resolve.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Ended {
    Applied,
    /// The record is not the one that was seen.
    Changed,
    /// There is no record any more.
    Gone,
    /// The run is alive.
    Alive {
        lease_left: Duration,
        attempt: u32,
    },
    /// The record has a result.
    Finished,
    DeadLetter,
}

pub(in crate::admin) fn view(
    key: &RecordKey,
    ended: Ended,
    explained: Option<&Explanation>,
    rights: &Rights,
) -> Html<String> {
    let (title, said) = match ended {
        Ended::Applied => ("Resolved", String::new()),
        Ended::Changed => (
            "Somebody was quicker",
            "Nothing was changed: the record is not the one that you saw. A run, or another operator, has changed it since.".to_owned(),
        ),
        Ended::Gone => ("The record is gone", "Nothing was changed: the record is gone since you saw it.".to_owned()),
        Ended::Alive { lease_left, attempt } => (
            "The run is alive",
            format!(
                "Nothing was changed: attempt {attempt} is alive, and its lease ends in {} unless it is renewed. Wait for its end, or stop its process.",
                time(lease_left)
            ),
        ),
        Ended::Finished => {
            ("The record has a result", "Nothing was changed: a result does not change. It can only be forgotten.".to_owned())
        }
        Ended::DeadLetter => (
            "The message is a dead letter",
            "Nothing was changed: `idempotent dead replay` works it off again, `idempotent dead discard` gives it up.".to_owned(),
        ),
    };
    let record = explained.and_then(|explained| explained.record.as_ref());
    let content = html! {
        div class={ "outcome " (if ended == Ended::Applied { "applied" } else { "lost" }) } role="status" {
            h1 { (title) }
            @if !said.is_empty() { p { (prose(&said)) } }
        }
        section {
            p.above { (text(key.operation())) }
            p.key { (text(key.key())) }
            @if let Some(record) = record {
                p { (badge(record.state.as_str())) " attempt " (record.attempt) }
                @if let Some(context) = &record.context { p.hint { (text(context)) } }
            }
        }
        @if let Some(explained) = explained { (next_call(explained)) }
        p.more { a href=(address(key)) { "The record as it is now" } " · " a href="start" { "Start" } }
    };
    page(title, Some(rights), &content)
}
