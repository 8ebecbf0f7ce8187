//! The start view: what needs somebody, the records by state, the calls of the last hour.

use std::collections::BTreeMap;

use axum::response::Html;
use maud::{Markup, html};

use super::{address, badge, calls, number, page, query, records::search_form, text, things};
use crate::{
    admin::{
        guard::Rights,
        look::{Group, LetterGroup, Letters, Line, MAX_PARKED, Overview, ParkedMessage},
        show::{Search, chain},
    },
    engine::recent::Minute,
    error::Error,
    operator::time,
};

/// The groups, and the operations, that are shown.
const MAX_GROUPS: usize = 50;
const MAX_OPERATIONS: usize = 100;

/// What the view shows.
pub(in crate::admin) struct Start {
    pub(in crate::admin) overview: Overview,
    /// `None` where the store keeps no dead letters.
    pub(in crate::admin) letters: Result<Option<Letters>, Error>,
    /// `None` where the page knows no outbox.
    pub(in crate::admin) parked: Option<Result<Vec<ParkedMessage>, Error>>,
    pub(in crate::admin) calls: Vec<(String, Vec<Minute>)>,
    /// True where it is not about the first records.
    pub(in crate::admin) is_continued: bool,
}

pub(in crate::admin) fn view(start: &Start, rights: &Rights) -> Html<String> {
    let content = html! {
        (needs_you(start, rights))
        (search_form(&Search::default()))
        (counts(&start.overview))
        (calls::section(&start.calls))
    };
    page("Start", Some(rights), &content)
}

fn needs_you(start: &Start, rights: &Rights) -> Markup {
    let overview = &start.overview;
    let (letters, parked) = (start.letters.as_ref().ok().and_then(Option::as_ref), start.parked.as_ref());
    let faults = [start.letters.as_ref().err(), parked.and_then(|parked| parked.as_ref().err())];
    // What a letter is about has a group of its own.
    let need: Vec<_> = overview.need.iter().filter(|((_, state), _)| *state != "dead" || letters.is_none()).collect();
    let letter_groups = letters.map(|letters| &letters.groups);
    let parked = parked.and_then(|parked| parked.as_deref().ok()).unwrap_or_default();
    let is_known = faults.iter().all(Option::is_none);
    let is_calm = is_known && need.is_empty() && letter_groups.is_none_or(BTreeMap::is_empty) && parked.is_empty();
    html! {
        section {
            h1 { "Needs you" }
            (looked_at(start))
            @if is_calm {
                p.calm {
                    @if overview.rest.is_some() || start.is_continued { "Nothing among these needs you." }
                    @else { "Nothing needs you." }
                }
            }
            @for ((operation, state), group) in need.iter().take(MAX_GROUPS) { (record_group(operation, state, group)) }
            @if need.len() > MAX_GROUPS {
                p.note { (things((need.len() - MAX_GROUPS) as u64, "more group", "more groups")) " of these records." }
            }
            @if let Some(groups) = letter_groups {
                @for ((operation, reason), group) in groups { (letter_group(operation, reason, group, rights)) }
            }
            @if letters.is_some_and(|letters| letters.is_cut) {
                p.note { "There are more dead letters: " code { "idempotent dead list OPERATION" } " lists them all." }
            }
            @if !parked.is_empty() { (parked_group(parked, rights)) }
            @for (what, fault) in ["dead letters", "parked messages"].iter().zip(faults) {
                @if let Some(fault) = fault { p.mistake { "There may be " (what) ": they could not be read. " (text(&chain(fault))) } }
            }
        }
    }
}

fn looked_at(Start { overview, is_continued, .. }: &Start) -> Markup {
    html! {
        @if overview.rest.is_some() || *is_continued {
            p.note {
                "This view is about " (things(overview.looked_at, "record", "records"))
                @if *is_continued { " behind those before" }
                @if let Some(rest) = &overview.rest {
                    ", and there are more. " a href=(query("start", &[("after", rest)])) { "Look at the next ones" }
                } @else { ", the last ones." }
                @if *is_continued { " " a href="start" { "Back to the first ones" } }
            }
        }
    }
}

fn record_group(operation: &str, state: &str, Group { count, first }: &Group) -> Markup {
    let why = match state {
        "abandoned" => "A run ended without an outcome: nobody knows whether it happened.",
        "lapsed" => "The lease of a run is over: its process is late, stuck or dead.",
        "exhausted" => "Each run that the operation allows has failed.",
        _ => "A message was given up: it is a dead letter.",
    };
    let all = query("records", &[("operation", operation), ("state", state)]);
    html! {
        article.group {
            header { h2 { (text(operation)) } (badge(state)) }
            p.why { (why) }
            ul.keys { @for line in first { (key_line(line)) } }
            @if *count > first.len() as u64 { p.more { a href=(all) { "All " (number(*count)) } } }
        }
    }
}

fn key_line(line: &Line) -> Markup {
    html! {
        li {
            a.key href=(address(&line.key)) { (text(line.key.key())) }
            span.facts {
                "attempt " (line.attempt)
                @if line.is_held { " · held" } @else { " · expires in " (time(line.expires_in)) }
            }
            @if let Some(context) = &line.context { span.context { (text(context)) } }
        }
    }
}

fn letter_group(operation: &str, reason: &str, LetterGroup { count, first }: &LetterGroup, rights: &Rights) -> Markup {
    let why = match reason {
        "permanent" => "Its handler's error is one that no other attempt would end without.",
        "exhausted" => "Each attempt that the inbox allows has failed.",
        "conflict" => "Another payload came under the id of a message.",
        "no-id" => "The message has no id.",
        "too-large" => "The message is larger than the inbox takes.",
        _ => "The message was given up.",
    };
    html! {
        article.group {
            header { h2 { (text(operation)) } (badge("dead")) span.cause { (text(reason)) } }
            p.why { (why) }
            ul.keys {
                @for letter in first {
                    li {
                        @match crate::admin::look::listed_key(operation, &letter.key) {
                            Some(key) if !letter.key.is_empty() => { a.key href=(address(&key)) { (text(&letter.key)) } }
                            _ => { span.key { "no key" } }
                        }
                        span.facts {
                            "letter " (letter.id) " · " (things(letter.attempts.into(), "attempt", "attempts")) " · " (time(letter.age)) " old"
                        }
                        @if let Some(error) = &letter.error { span.context { (hidden(error, rights)) } }
                    }
                }
            }
            @if *count > first.len() as u64 { p.more { (number(*count)) " of the letters that this view looked at." } }
            p.hint { "Work one off again, or give it up: " code { "idempotent dead replay " (text(operation)) " ID" } }
        }
    }
}

fn parked_group(parked: &[ParkedMessage], rights: &Rights) -> Markup {
    html! {
        article.group {
            header { h2 { "Outbox" } (badge("parked")) }
            p.why { "Messages that their broker will never take." }
            ul.keys {
                @for message in parked.iter().take(MAX_PARKED) {
                    li {
                        span.key { (text(&message.topic)) }
                        span.facts { "message " (text(&message.id)) " · " (time(message.age)) " old" }
                        span.context { (hidden(&message.error, rights)) }
                    }
                }
            }
            @if parked.len() > MAX_PARKED { p.more { "More than " (MAX_PARKED) ": the oldest are shown." } }
            p.hint { code { "Outbox::replay" } " publishes one again, " code { "Outbox::discard" } " removes it." }
        }
    }
}

/// The text of an error, for those who may see it.
fn hidden(error: &str, rights: &Rights) -> Markup {
    html! { @if rights.may_reveal { (text(error)) } @else { (error.len()) " bytes of error, hidden" } }
}

fn counts(overview: &Overview) -> Markup {
    let counts = &overview.counts;
    html! {
        section {
            h2.title { "Records" }
            @if counts.is_empty() { p.calm { "There are no records." } }
            @else {
                table.counts {
                    thead { tr { th { "Operation" } th { "Records by state" } } }
                    tbody {
                        @for (operation, states) in counts.iter().take(MAX_OPERATIONS) {
                            tr {
                                td { a href=(query("records", &[("operation", operation)])) { (text(operation)) } }
                                td.chips {
                                    @for (state, records) in states {
                                        a.chip href=(query("records", &[("operation", operation), ("state", state)])) {
                                            (badge(state)) " " (number(*records))
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                @if counts.len() > MAX_OPERATIONS {
                    p.note { (things((counts.len() - MAX_OPERATIONS) as u64, "more operation", "more operations")) "." }
                }
            }
        }
    }
}
