//! The summary on standard output.

use std::{
    fmt::{self, Display},
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{audit::Audit, outside::Counts, supervisor::Run};

/// Makes a progress bar, hidden unless standard error is a terminal.
pub(crate) fn progress(orders: u64, wanted: bool) -> ProgressBar {
    if !wanted || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(orders);
    match ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} orders, {per_sec}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Everything that is known at the end.
#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) ok: bool,
    #[serde(flatten)]
    pub(crate) run: Run,
    #[serde(flatten)]
    pub(crate) outside: Counts,
    #[serde(flatten)]
    pub(crate) audit: Audit,
}

impl Summary {
    pub(crate) fn new(run: Run, outside: Counts, audit: Audit) -> Self {
        let mut summary = Self { ok: false, run, outside, audit };
        summary.ok = summary.mistakes().is_empty();
        summary
    }

    /// The mistakes, each with its count.
    fn mistakes(&self) -> Vec<(&'static str, u64)> {
        let mistakes = [
            ("orders charged twice", self.audit.charged_twice),
            ("orders mailed twice", self.audit.mailed_twice),
            ("mistakes in the stock", self.audit.stock_wrong),
            ("orders lost", self.audit.lost),
            ("orders answered differently", self.run.changed_answers),
            ("orders stuck", self.run.stuck),
        ];
        mistakes.into_iter().filter(|(_, count)| *count != 0).collect()
    }
}

/// The summary for programs: one line.
pub(crate) fn json(summary: &Summary) -> serde_json::Result<String> {
    Ok(serde_json::to_string(summary)? + "\n")
}

/// The summary for people.
pub(crate) struct Table<'a> {
    pub(crate) summary: &'a Summary,
    pub(crate) store: &'a str,
    pub(crate) story: Option<String>,
    pub(crate) took: Duration,
}

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { run, outside, audit, .. } = self.summary;
        if run.orders > 0 {
            if let Some(story) = &self.story {
                writeln!(f, "{story}")?;
            }
            let took = self.took.as_secs_f64();
            writeln!(f, "{} orders on {}, {} kills, in {took:.1} s\n", run.orders, self.store, run.kills)?;
            for (name, count, note) in [
                ("placed", run.placed, "each was charged, reserved and mailed"),
                ("double clicks", run.double_clicks, "orders that came twice at the same time"),
                ("orders hit", run.orders_hit, "were under way in a process that was killed"),
                ("resumed", run.resumed, "were placed by a later attempt than the first"),
                ("latest attempt", u64::from(run.latest_attempt), "of an order"),
                ("replays", run.replays, "answers from the record"),
                ("retries", run.retries, "answers of \"not now\""),
                ("requests lost", outside.requests_lost, "on their way to the card network or the mail server"),
                ("answers lost", outside.answers_lost, "on their way back: it had happened"),
                ("answers unheard", outside.answers_unheard, "who had asked was killed, or had given up"),
                ("keys recognised", outside.charges_recognised, "charges that were asked for again"),
                ("asked: yes", outside.found, "a run had vanished, and it had happened"),
                ("asked: no", outside.not_found, "a run had vanished, and it had not happened"),
                ("asked: no answer", outside.unknown, "so nobody knows yet, and nothing is done"),
            ] {
                writeln!(f, "  {name:<20} {count:>8}   {note}")?;
            }
            writeln!(f)?;
        }
        let (euros, cents) = (audit.charged_cents / 100, audit.charged_cents % 100);
        writeln!(
            f,
            "The books: {} charges of {euros}.{cents:02} in all, {} reservations, {} mails.",
            audit.charges, audit.reservations, audit.mails
        )?;
        let mistakes: Vec<String> =
            self.summary.mistakes().iter().map(|(what, count)| format!("{count} {what}")).collect();
        if mistakes.is_empty() {
            writeln!(
                f,
                "Proven: no order was charged, reserved or mailed twice, and none that was placed lacks one of them."
            )
        } else {
            writeln!(f, "NOT proven: {}.", mistakes.join(", "))
        }
    }
}
