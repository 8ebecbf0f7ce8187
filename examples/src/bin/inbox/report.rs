//! The summary on standard output.

use std::{
    fmt::{self, Display},
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::books::Books;

/// Makes a progress bar, hidden unless standard error is a terminal.
pub(crate) fn progress(effects: u64, wanted: bool) -> ProgressBar {
    if !wanted || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(effects);
    match ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} booked or dead, {per_sec} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The program's own counts, beside those of the tables.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) kills: u32,
    /// True if not everything was worked off: it was stopped, or there was no progress.
    pub(crate) is_unfinished: bool,
}

/// Everything that is known at the end. All counts but that of the kills are the tables', also of earlier runs.
#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) ok: bool,
    messages: i64,
    deliveries: i64,
    effects: i64,
    bookings: i64,
    payments: i64,
    duplicates: i64,
    retried: i64,
    dead: i64,
    conflicts: i64,
    published: i64,
    kills: u32,
    twice: i64,
    lost: i64,
    unasked: i64,
    unfinished: bool,
}

impl Summary {
    pub(crate) fn new(run: &Run, books: &Books) -> Self {
        // A booking and its message are committed together, so those that are not in the outbox have left it.
        let published = books.bookings - books.in_outbox;
        let mut summary = Self {
            ok: false,
            messages: books.messages,
            deliveries: books.sendings + published,
            effects: books.bookings + books.payments,
            bookings: books.bookings,
            payments: books.payments,
            duplicates: books.duplicates,
            retried: books.retried,
            dead: books.dead,
            conflicts: books.conflicts,
            published,
            kills: run.kills,
            twice: books.twice,
            lost: books.lost(),
            unasked: books.unasked,
            unfinished: run.is_unfinished,
        };
        summary.ok = summary.mistakes().is_empty() && !run.is_unfinished;
        summary
    }

    /// The mistakes, each with its count.
    fn mistakes(&self) -> Vec<String> {
        let mistakes = [
            ("orders booked or paid twice", self.twice),
            ("messages lost", self.lost),
            ("rows that nobody asked for", self.unasked),
        ];
        mistakes.iter().filter(|(_, count)| *count != 0).map(|(what, count)| format!("{count} {what}")).collect()
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
    pub(crate) took: Duration,
}

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { summary, store, took } = self;
        let took = took.as_secs_f64();
        writeln!(f, "{} orders on {store}, {} kills, in {took:.1} s\n", summary.messages, summary.kills)?;
        for (name, count, note) in [
            ("deliveries", summary.deliveries, "messages that the broker was given"),
            ("duplicates", summary.duplicates, "of these were sent before"),
            ("effects", summary.effects, "rows that handlers have written:"),
            ("  bookings", summary.bookings, "  orders, by the first inbox"),
            ("  payments", summary.payments, "  what followed from them, by the second inbox"),
            ("published", summary.published, "messages that have left the outbox"),
            ("retried", summary.retried, "attempts beyond the first ones: those before failed, or were killed"),
            ("dead", summary.dead, "messages that were given up"),
            ("  conflicts", summary.conflicts, "  of these had the id of another one"),
        ] {
            writeln!(f, "  {name:<12} {count:>8}   {note}")?;
        }
        let mistakes = summary.mistakes();
        if summary.unfinished {
            writeln!(f, "\nNot everything was worked off: start it again, and it goes on.")
        } else if mistakes.is_empty() {
            writeln!(f, "\nProven: each order was booked once and paid once, or is a dead letter for the right reason.")
        } else {
            writeln!(f, "\nNOT proven: {}.", mistakes.join(", "))
        }
    }
}
