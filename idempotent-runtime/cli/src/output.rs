//! Lines of JSON, or tables that fit the terminal.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use idempotent_runtime::operator::printable;
use serde_json::Value;

/// The width of a table that is not for a terminal is not limited.
const UNLIMITED: usize = usize::MAX;
/// A column is never cut below this.
const LEAST: usize = 8;

#[derive(Clone, Copy)]
pub(crate) struct Output {
    pub(crate) is_json: bool,
}

impl Output {
    pub(crate) const fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// Prints the object with `--json`, else the text.
    pub(crate) fn say(self, json: &Value, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.is_json { writeln!(out, "{json}") } else { writeln!(out, "{text}") }
    }

    /// Separates a table from the one before it: on a terminal, by clearing the screen. With `--json` it is one object more.
    pub(crate) fn next_table(self) -> io::Result<()> {
        let screen = console::Term::stdout();
        match (self.is_json, screen.is_term()) {
            (true, _) => Ok(()),
            (false, true) => screen.clear_screen(),
            (false, false) => writeln!(io::stdout()),
        }
    }

    /// Shows how far long work has come, to people at a terminal.
    pub(crate) fn progress(self, text: &str) {
        if !self.is_json && console::Term::stderr().is_term() {
            eprint!("\r\x1b[K{text}");
        }
    }
}

/// Prints a table; without its head where `head` has no titles.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let width = console::Term::stdout().size_checked().map_or(UNLIMITED, |(_, columns)| usize::from(columns));
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let mut out = io::stdout().lock();
    for line in lines(head, &rows, width) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The lines of a table, no wider than this where its columns can be cut.
fn lines(head: &[&str], rows: &[Vec<String>], width: usize) -> Vec<String> {
    let mut widths: Vec<usize> = head.iter().map(|title| title.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let gaps = 2 * widths.len().saturating_sub(1);
    // The widest column gives way first.
    while widths.iter().sum::<usize>() + gaps > width {
        match widths.iter_mut().max() {
            Some(widest) if *widest > LEAST => *widest -= 1,
            _ => break,
        }
    }
    let head = head.iter().map(|&title| title.to_owned()).collect::<Vec<_>>();
    let titles = head.iter().any(|title| !title.is_empty()).then_some(&head);
    titles
        .into_iter()
        .chain(rows)
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{:width$}", fit(cell, width)));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

fn fit(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A time as milliseconds.
pub(crate) fn ms(time: Duration) -> Value {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into()
}
