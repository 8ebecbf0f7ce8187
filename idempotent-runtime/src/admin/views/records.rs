//! The search, and the records that it finds.

use axum::response::Html;
use maud::{Markup, html};

use super::{address, badge, page, query, text, things};
use crate::{
    admin::{guard::Rights, look::Listing, show::Search},
    operator::{StateFilter, time},
};

pub(in crate::admin) fn search_form(search: &Search) -> Markup {
    html! {
        form.search method="get" action="records" role="search" {
            label { span { "Operation" } input name="operation" value=(search.operation) autocapitalize="none" autocomplete="off" spellcheck="false"; }
            label { span { "Key" } input name="key" value=(search.key) autocapitalize="none" autocomplete="off" spellcheck="false"; }
            label { span { "Digest of an event" } input name="digest" value=(search.digest) autocapitalize="none" autocomplete="off" spellcheck="false"; }
            label {
                span { "State" }
                select name="state" {
                    option value="" { "any" }
                    @for state in StateFilter::ALL.map(StateFilter::as_str) {
                        option value=(state) selected[state == search.state] { (state) }
                    }
                }
            }
            button { "Search" }
        }
    }
}

/// The view; without a listing where something is wrong with what was searched for.
pub(in crate::admin) fn view(
    search: &Search,
    listing: Option<&Listing>,
    mistake: Option<&str>,
    rights: &Rights,
) -> Html<String> {
    let content = html! {
        h1 { "Records" }
        @if let Some(mistake) = mistake { p.mistake role="alert" { (text(mistake)) } }
        (search_form(search))
        @if let Some(listing) = listing { (found(search, listing)) }
    };
    page("Records", Some(rights), &content)
}

fn found(search: &Search, Listing { lines, looked_at, rest }: &Listing) -> Markup {
    html! {
        section {
            @if lines.is_empty() {
                p.calm {
                    @if rest.is_some() || search.after.is_some() {
                        "None of the " (things(*looked_at, "record", "records")) " that this view looked at."
                    } @else { "No record." }
                }
            } @else {
                table.records {
                    thead { tr { th { "Key" } th { "Operation" } th { "State" } th { "Attempt" } th { "Not before" } th { "Expires in" } } }
                    tbody {
                        @for line in lines {
                            tr {
                                td { a.key href=(address(&line.key)) { (text(line.key.key())) } }
                                td data-label="operation" { (text(line.key.operation())) }
                                td { (badge(line.state)) }
                                td data-label="attempt" { (line.attempt) }
                                td data-label="not before" class=[line.not_before.is_none().then_some("none")] {
                                    @match line.not_before { Some(left) => (time(left)), None => "–" }
                                }
                                td data-label="expires in" { (time(line.expires_in)) }
                            }
                        }
                    }
                }
            }
            @if let Some(rest) = rest {
                p.more {
                    a href=(query("records", &[
                        ("operation", &search.operation), ("digest", &search.digest), ("state", &search.state), ("after", rest),
                    ])) { "Look at the next ones" }
                }
            }
        }
    }
}
