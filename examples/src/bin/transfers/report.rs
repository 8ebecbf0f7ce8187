//! The summary on standard output.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use crate::tally::Summary;

/// The summary for programs: one line.
pub(crate) fn json(summary: &Summary) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(summary)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("ok".to_owned(), summary.is_ok().into());
    }
    Ok(format!("{value}\n"))
}

/// The summary for people.
pub(crate) struct Table<'a> {
    pub(crate) summary: &'a Summary,
    pub(crate) store: &'a str,
    pub(crate) took: Duration,
}

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.summary;
        if s.deliveries > 0 {
            let took = self.took.as_secs_f64();
            writeln!(
                f,
                "{} transfers, asked for {} times, on {}, in {took:.2} s\n",
                s.transfers, s.deliveries, self.store
            )?;
            for (name, count, note) in [
                ("executions", s.executions, "the function ran, and was committed"),
                ("replays", s.replays, "answered from the record"),
                ("mismatches", s.mismatches, "refused: the id was used with another amount"),
                ("gave up", s.gave_up, "the client left before it was answered"),
                ("errors", s.errors, "got no answer"),
                ("made", s.made, "transfers that clients were told were made"),
                ("refused", s.refused, "transfers that the account could not pay"),
                ("retries", s.retries, "transactions that were begun again"),
                ("  commits in doubt", s.commits_in_doubt, "failed or not answered; the retry found out"),
                ("  applied", s.commits_applied, "of the commits in doubt"),
            ] {
                writeln!(f, "  {name:<20} {count:>10}   {note}")?;
            }
            writeln!(f)?;
        }
        if let Some(books) = &s.books {
            let (euros, cents) = (books.total_cents / 100, books.total_cents % 100);
            writeln!(
                f,
                "The books: {} entries, {} transfers made, {} refused, {euros}.{cents:02} in the accounts.",
                books.entries, books.made, books.refused
            )?;
        }
        let mistakes: Vec<String> = s.mistakes().iter().map(|(what, count)| format!("{count} {what}")).collect();
        match (&s.books, mistakes.is_empty()) {
            (Some(_), true) => {
                writeln!(f, "Proven: each transfer was made once or not at all, and not a cent is missing.")
            }
            (None, true) => writeln!(f, "Nothing is wrong; the books were not checked."),
            (_, false) => writeln!(f, "NOT proven: {}.", mistakes.join(", ")),
        }
    }
}
