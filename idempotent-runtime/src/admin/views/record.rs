//! The view of one key: its record, what the next call gets, and the form that resolves it.

use axum::response::Html;
use maud::{Markup, html};

use super::{badge, page, prose, query, text, things};
use crate::{
    admin::{csrf::Sealed, guard::Rights, show::chain},
    error::Error,
    operator::{Explanation, RequestCheck, facts, printable, time},
    store::{DeadLetter, Outcome, Record, RecordKey, State, Step},
};

/// The most characters that are shown of a stored value.
const MAX_SHOWN: usize = 20_000;

/// What is shown of a key.
pub(in crate::admin) struct Shown {
    pub(in crate::admin) key: RecordKey,
    pub(in crate::admin) explained: Explanation,
    pub(in crate::admin) steps: Option<Vec<Step>>,
    pub(in crate::admin) letters: Result<Vec<DeadLetter>, Error>,
    /// The seals of the form; `None` where there is nothing to resolve, or nobody who may.
    pub(in crate::admin) sealed: Option<Sealed>,
}

/// What the operator has said in a form that has to be sent again, and what is wrong with it.
pub(in crate::admin) struct Said<'a> {
    pub(in crate::admin) verdict: &'a str,
    pub(in crate::admin) json: &'a str,
    pub(in crate::admin) reason: &'a str,
    pub(in crate::admin) mistake: &'a str,
}

pub(in crate::admin) fn view(shown: &Shown, said: Option<&Said<'_>>, rights: &Rights) -> Html<String> {
    let Shown { key, explained, .. } = shown;
    let content = html! {
        p.above { a href=(query("records", &[("operation", key.operation())])) { (text(key.operation())) } }
        h1.key { (text(key.key())) }
        @match &explained.record {
            Some(record) => {
                p { (badge(record.state.as_str())) }
                @if let Some(said) = said { p.mistake role="alert" { (said.mistake) " " a href="#resolve" { "To the form" } } }
                div.sides {
                    div { (life(record, rights)) (steps(shown, rights)) }
                    div { (next_call(explained)) (resolution(shown, record, said, rights)) }
                }
            }
            None => {
                p.calm { "The key has no record." }
                (next_call(explained))
            }
        }
        (letters(shown, rights))
    };
    page("Record", Some(rights), &content)
}

/// What the next call gets.
pub(super) fn next_call(explained: &Explanation) -> Markup {
    html! {
        section {
            h2.title { "The next call" }
            div.next {
                ul { @for line in explained.lines(None) { li { (prose(&printable(&line))) } } }
                @if explained.record.is_some() && explained.request == RequestCheck::Unknown {
                    p.hint { "If its arguments are those of the record." }
                }
                @if explained.depends_on_policy() {
                    p.hint { (prose("Unless the function's `max_attempts` allows no further run.")) }
                }
            }
        }
    }
}

fn life(record: &Record, rights: &Rights) -> Markup {
    let above = ["operation", "key", "state"];
    html! {
        section {
            h2.title { "The record" }
            dl.facts {
                @for (name, value) in facts(record, rights.may_reveal).iter().filter(|(name, _)| !above.contains(name)) {
                    dt { (name) }
                    dd class=[class(name)] {
                        @if *name == "held" { (prose(value)) } @else { (value_text(value)) }
                    }
                }
            }
        }
    }
}

fn class(name: &str) -> Option<&'static str> {
    match name {
        "result" | "error" | "arguments" => Some("stored"),
        "key digest" => Some("key"),
        _ => None,
    }
}

/// The beginning of a value, and how much is left out.
fn value_text(value: &str) -> Markup {
    let shown: String = value.chars().take(MAX_SHOWN).collect();
    let more = value.len() - shown.len();
    html! { (text(&shown)) @if more > 0 { " … and " (things(more as u64, "byte", "bytes")) " more" } }
}

fn steps(shown: &Shown, rights: &Rights) -> Markup {
    let steps = shown.steps.as_deref().unwrap_or_default();
    html! {
        @if !steps.is_empty() {
            section {
                h2.title { "Steps on record" }
                @if rights.may_reveal {
                    dl.facts {
                        @for step in steps {
                            dt { (text(&step.name)) }
                            dd.stored {
                                @match &step.value {
                                    Ok(bytes) => (value_text(&String::from_utf8_lossy(bytes))),
                                    Err(why) => { "not kept: " (why.to_string()) }
                                }
                            }
                        }
                    }
                } @else { p { (things(steps.len() as u64, "step", "steps")) ", hidden" } }
            }
        }
    }
}

fn letters(shown: &Shown, rights: &Rights) -> Markup {
    html! {
        @if let Err(fault) = &shown.letters {
            p.mistake { "There may be dead letters: they could not be read. " (text(&chain(fault))) }
        }
        @let letters = shown.letters.as_deref().unwrap_or_default();
        @if !letters.is_empty() {
            section {
                h2.title { "Dead letters" }
                @for letter in letters {
                    dl.facts {
                        dt { "letter" } dd { (letter.id) @if letter.is_replaying { ", to be worked off again" } }
                        dt { "reason" } dd { (text(&letter.reason)) }
                        dt { "attempts" } dd { (letter.attempts) }
                        dt { "age" } dd { (time(letter.age)) }
                        @if let Some(error) = &letter.error {
                            dt { "error" }
                            dd.stored { @if rights.may_reveal { (value_text(error)) } @else { (error.len()) " bytes, hidden" } }
                        }
                        @if let Some(payload) = &letter.payload {
                            dt { "payload" }
                            dd.stored {
                                @if rights.may_reveal { (value_text(&String::from_utf8_lossy(payload))) }
                                @else { (payload.len()) " bytes, hidden" }
                            }
                        }
                    }
                    p.hint {
                        "Work it off again: " code { "idempotent dead replay '" (text(&letter.operation)) "' " (letter.id) }
                    }
                }
            }
        }
    }
}

/// What an operator can say about a record in this state.
fn verdicts(record: &Record) -> &'static [(&'static str, &'static str, &'static str)] {
    const ALL: [(&str, &str, &str); 4] = [
        ("result", "It happened", "All further calls get this result, as the JSON that serde writes of it."),
        (
            "error",
            "It failed for good",
            "All further calls get this error, as JSON: for a function that keeps its errors.",
        ),
        ("rerun", "It did not happen", "The next call runs it, as the first attempt. Recorded steps are not repeated."),
        (
            "forget",
            "Forget it",
            "The record is removed, with all that it says. The next call runs, whatever has happened.",
        ),
    ];
    match &record.state {
        State::Running { .. } => &[],
        State::Done(Outcome::Ok(_) | Outcome::Err(_) | Outcome::Dead) => ALL.last_chunk::<1>().map_or(&[], |last| last),
        _ => const { &ALL },
    }
}

fn resolution(shown: &Shown, record: &Record, said: Option<&Said<'_>>, rights: &Rights) -> Markup {
    html! {
        section id="resolve" {
            h2.title { "Resolve" }
            @match (&record.state, &shown.sealed) {
                (State::Running { lease_left }, _) => p {
                    "A run is under way: its lease ends in " (time(*lease_left)) " unless it is renewed. It is left alone while it is alive."
                },
                (_, Some(sealed)) => {
                    @if matches!(record.state, State::Done(Outcome::Ok(_) | Outcome::Err(_))) {
                        p { "The record has a result, which does not change. It can only be forgotten." }
                    }
                    @if matches!(record.state, State::Done(Outcome::Dead)) {
                        p { "The message is a dead letter: have it worked off again, or forget the record." }
                    }
                    (form(shown, record, sealed, said))
                }
                (_, None) if rights.operator.is_none() => p { "You may look at records, and not resolve them." },
                (_, None) => {}
            }
        }
    }
}

fn form(shown: &Shown, record: &Record, sealed: &Sealed, said: Option<&Said<'_>>) -> Markup {
    let verdicts = verdicts(record);
    let has_json = verdicts.iter().any(|(word, ..)| *word == "result");
    let was_said = |word: &str| said.is_some_and(|said| said.verdict == word);
    html! {
        form.resolve method="post" action="resolve" {
            input type="hidden" name="operation" value=(shown.key.operation());
            input type="hidden" name="key" value=(shown.key.key());
            input type="hidden" name="seen" value=(sealed.seen);
            input type="hidden" name="token" value=(sealed.token);
            fieldset {
                @if has_json { legend { "What has happened? Look outside first: ask the other side." } }
                @for (word, title, text) in verdicts {
                    label.choice {
                        input type="radio" name="verdict" id={ "say-" (word) } value=(word) required checked[was_said(word)];
                        span { strong { (title) } span.hint { (text) } }
                    }
                }
            }
            @if has_json {
                label.json {
                    span { "Result or error, as JSON" }
                    textarea name="json" rows="4" autocapitalize="none" autocomplete="off" spellcheck="false" {
                        (said.map_or("", |said| said.json))
                    }
                }
            }
            label {
                span { "Reason, which the record keeps unless it is forgotten" }
                textarea name="reason" rows="2" required maxlength="600" { (said.map_or("", |said| said.reason)) }
            }
            button.act { "Resolve" }
        }
    }
}
