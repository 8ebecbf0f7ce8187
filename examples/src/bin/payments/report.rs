//! Progress, and the summary on standard output.

use std::{
    fmt::{self, Display, Write as _},
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::tally::Summary;

/// Makes a progress bar, hidden unless standard error is a terminal.
pub(crate) fn progress(len: Option<u64>, wanted: bool) -> ProgressBar {
    if !wanted || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match len {
        Some(len) => (ProgressBar::new(len), "{bar:40} {human_pos}/{human_len} deliveries, {per_sec}"),
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} deliveries, {per_sec}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
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
        let (deliveries, orders) = (grouped(s.deliveries.into()), grouped(s.orders.into()));
        let took = self.took.as_secs_f64();
        writeln!(f, "{deliveries} deliveries for {orders} orders, on the {} store, in {took:.2} s\n", self.store)?;
        rows(
            f,
            &[
                ("executions", s.executions, "the function ran"),
                ("  takeovers", s.takeovers, "after an abandoned run"),
                ("  crashes", s.crashes, "abandoned: the service crashed"),
                ("  dropped", s.dropped, "abandoned: the client gave up on a refund"),
                ("  bank unavailable", s.bank_unavailable, "freed the key for a retry"),
                ("replays", s.replays, "answered with the stored result"),
                ("waits", s.waits, "waited for the running call, and got its result"),
                ("mismatches", s.mismatches, "refused: the key was used with other arguments"),
                ("refused in flight", s.refused_in_flight, "waited, and got no result in time"),
                ("gave up waiting", s.gave_up_waiting, "the client left, the function did not run for it"),
                ("errors", s.errors, "got no answer"),
            ],
        )?;
        writeln!(f)?;
        rows(
            f,
            &[
                ("orders accepted", s.orders_accepted, ""),
                ("orders declined", s.orders_declined, ""),
                ("debits", s.debits, "in the bank's ledger"),
                ("refunds", s.refunds, ""),
            ],
        )?;
        for (currency, cents) in &s.total_cents {
            let sign = if *cents < 0 { "-" } else { "" };
            let (units, cents) = (cents.unsigned_abs() / 100, cents.unsigned_abs() % 100);
            writeln!(
                f,
                "  {:<20} {:>12}",
                format!("total {currency}"),
                format!("{sign}{}.{cents:02}", grouped(units))
            )?;
        }
        writeln!(f)?;
        if s.malformed > 0 {
            writeln!(f, "{} malformed lines were left out.", grouped(s.malformed.into()))?;
        }
        let accepted = grouped(s.orders_accepted.into());
        if s.ok {
            return writeln!(
                f,
                "Proven: each of the {accepted} accepted orders was charged once; no charge was lost, no answer changed."
            );
        }
        writeln!(
            f,
            "NOT proven, of {accepted} accepted orders: {} charged twice, {} lost, {} answers changed, {} errors.",
            s.charged_twice, s.lost, s.changed_answers, s.errors
        )
    }
}

fn rows(f: &mut fmt::Formatter<'_>, rows: &[(&str, u64, &str)]) -> fmt::Result {
    for (name, count, note) in rows {
        let line = format!("  {name:<20} {:>12}   {note}", grouped((*count).into()));
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Formats a number with commas between groups of three digits.
fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The summary for programs: one line.
pub(crate) fn json(summary: &Summary) -> serde_json::Result<String> {
    let mut text = serde_json::to_string(summary)?;
    text.push('\n');
    Ok(text)
}

/// The log, one delivery for each line.
pub(crate) fn lines(deliveries: &[crate::log::Delivery]) -> serde_json::Result<String> {
    let mut text = String::new();
    for delivery in deliveries {
        let _ = writeln!(text, "{}", serde_json::to_string(delivery)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_come_in_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
