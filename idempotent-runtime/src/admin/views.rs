//! The views as HTML. Every text of a record goes through [`text`], and `maud` escapes it.

pub(super) mod calls;
pub(super) mod outcome;
pub(super) mod record;
pub(super) mod records;
pub(super) mod start;

use axum::response::Html;
use maud::{DOCTYPE, Markup, html};

use super::guard::Rights;
use crate::{operator::printable, store::RecordKey};

/// A whole page.
fn page(title: &str, rights: Option<&Rights>, content: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) " · Idempotency" }
                link rel="stylesheet" href="style.css";
                link rel="icon" href="icon.svg";
            }
            body {
                header.bar {
                    nav {
                        a.home href="start" { "Idempotency" }
                        a href="records" { "Records" }
                    }
                    @if let Some(rights) = rights {
                        p.who {
                            @match &rights.operator {
                                Some(name) => { (text(name)) }
                                None => { "read only" }
                            }
                        }
                    }
                }
                main { (content) }
            }
        }
    };
    Html(page.into_string())
}

/// A page of a few sentences.
pub(super) fn message(title: &str, lines: &[&str], rights: Option<&Rights>) -> Html<String> {
    let content = html! {
        h1 { (title) }
        @for line in lines { p { (prose(&printable(line))) } }
        @if rights.is_some() { p { a href="start" { "Back to the start" } } }
    };
    page(title, rights, &content)
}

/// A text of a record, or of somebody else: without what acts, and with a direction of writing of its own.
fn text(text: &str) -> Markup {
    html! { bdi { (printable(text)) } }
}

/// A text of ours, in which code is between backticks.
fn prose(prose: &str) -> Markup {
    html! {
        @for (at, part) in prose.split('`').enumerate() {
            @if at % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

/// The word of a state.
fn badge(state: &str) -> Markup {
    html! { span class={ "state " (state) } { (state) } }
}

/// The address of a record's view.
pub(super) fn address(key: &RecordKey) -> String {
    query("record", &[("operation", key.operation()), ("key", key.key())])
}

/// An address with a query. Fields that are blank are left out.
fn query(view: &str, fields: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    format!("{view}?{}", query.finish())
}

/// A number with its thousands apart.
fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The noun for a number of things.
fn things(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        for (of, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(of), expected);
        }
        assert_eq!(things(1, "record", "records"), "1 record");
    }

    #[test]
    fn addresses_are_encoded() {
        let key = "shop.charge|order:(~17)&a=b#c%20+\"<".parse().expect("a key");
        let expected = "record?operation=shop.charge&key=order%3A%28%7E17%29%26a%3Db%23c%2520%2B%22%3C";
        assert_eq!(address(&key), expected);
    }
}
