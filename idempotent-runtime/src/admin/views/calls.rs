//! The calls of the last hour: for each operation a bar a minute, in SVG.

use maud::{Markup, html};

use super::{number, text, things};
use crate::engine::recent::{DISPOSITIONS, MINUTES, Minute};

const HEIGHT: u32 = 48;
const BAR: usize = 8;
const GAP: usize = 2;

pub(super) fn section(calls: &[(String, Vec<Minute>)]) -> Markup {
    html! {
        section {
            h2.title { "Calls of this process in the last hour" }
            @if calls.is_empty() {
                p.calm { "There were none since this page was made." }
            } @else {
                div.calls { @for (operation, minutes) in calls { (chart(operation, minutes)) } }
            }
        }
    }
}

fn chart(operation: &str, minutes: &[Minute]) -> Markup {
    let highest = minutes.iter().map(total).max().unwrap_or(0);
    let all: u64 = minutes.iter().map(total).sum();
    let sums = DISPOSITIONS.iter().enumerate().map(|(at, disposition)| {
        let count = minutes.iter().filter_map(|minute| minute.get(at)).map(|&count| u64::from(count)).sum::<u64>();
        (disposition.as_str(), count)
    });
    let sums: Vec<_> = sums.filter(|(_, count)| *count > 0).collect();
    let width = MINUTES * BAR;
    let said: Vec<_> = sums.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let label = format!("Calls a minute: {}; at most {highest} in one minute", said.join(", "));
    html! {
        figure {
            figcaption {
                strong { (text(operation)) }
                span.facts { (things(all, "call", "calls")) " · at most " (number(highest)) " a minute" }
            }
            svg viewBox={ "0 0 " (width) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(label) {
                line.axis x1="0" x2=(width) y1=(HEIGHT) y2=(HEIGHT) {}
                @for (at, minute) in minutes.iter().enumerate().filter(|(_, minute)| total(minute) > 0) {
                    (bar(at, minute, highest))
                }
            }
            div.scale { span { "60 min ago" } span { "now" } }
            ul.legend {
                @for (word, count) in &sums { li { i class=(word) {} (word) " " b { (number(*count)) } } }
            }
        }
    }
}

fn total(minute: &Minute) -> u64 {
    minute.iter().map(|&count| u64::from(count)).sum()
}

/// The bar of a minute, from the bottom up in the order of the dispositions.
fn bar(at: usize, minute: &Minute, highest: u64) -> Markup {
    let mut below = 0;
    // Edges are rounded, and heights are what lies between, so that no gap opens.
    let edge = |calls: u64| u32::try_from(calls * u64::from(HEIGHT) / highest.max(1)).unwrap_or(HEIGHT);
    let parts = DISPOSITIONS.iter().zip(minute).filter(|(_, count)| **count > 0).map(|(disposition, &count)| {
        let from = edge(below);
        below += u64::from(count);
        // What happened once is seen, also beside what happened a thousand times.
        let to = edge(below).max(from + 1).min(HEIGHT);
        (disposition.as_str(), count, from, to)
    });
    let parts: Vec<_> = parts.collect();
    let said: Vec<_> = parts.iter().map(|(word, count, ..)| format!("{count} {word}")).collect();
    html! {
        g {
            title { (MINUTES - 1 - at) " min ago: " (said.join(", ")) }
            @for (word, _, from, to) in &parts {
                rect class=(word) x=(at * BAR + GAP / 2) width=(BAR - GAP) y=(HEIGHT - to) height=(to - from) {}
            }
        }
    }
}
