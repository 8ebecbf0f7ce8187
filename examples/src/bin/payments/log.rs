//! Reads the log: one delivery for each line.

use std::io::{self, BufRead, Read as _};

use serde::{Deserialize, Serialize};

use crate::service::Payment;

/// The longest line that is read, in bytes.
const MAX_LINE_LEN: u64 = 64 * 1024;

/// A request as it arrived. Each retry and each duplicate is a delivery of its own.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delivery {
    #[serde(rename = "delivery")]
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) idempotency_key: String,
    pub(crate) order_id: String,
    pub(crate) amount_cents: u64,
    pub(crate) currency: String,
    pub(crate) card: String,
    #[serde(default)]
    pub(crate) fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Charge,
    Refund,
}

impl Kind {
    /// The name of the idempotent operation.
    pub(crate) const fn operation(self) -> &'static str {
        match self {
            Self::Charge => "payments.charge",
            Self::Refund => "payments.refund",
        }
    }
}

/// The fault that happens if this delivery is the one that runs the function.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    CrashBeforeDebit,
    CrashAfterDebit,
    GivesUp,
    BankUnavailable,
}

impl Delivery {
    /// Parses a line. An error is the text for the user.
    fn parse(line: &[u8]) -> Result<Self, String> {
        let delivery: Self = serde_json::from_slice(line).map_err(|error| {
            let text = error.to_string();
            // serde_json counts lines within the value, so its line number is always 1.
            let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
            format!("{text} (column {})", error.column())
        })?;
        let named = [
            ("idempotency_key", &delivery.idempotency_key),
            ("order_id", &delivery.order_id),
            ("card", &delivery.card),
        ];
        if let Some((field, _)) = named.iter().find(|(_, value)| value.is_empty()) {
            return Err(format!("`{field}` is empty"));
        }
        // The bank's ledger may be in PostgreSQL, which cannot hold it.
        if delivery.order_id.contains('\0') {
            return Err("`order_id` has the character U+0000".to_owned());
        }
        if delivery.amount_cents == 0 {
            return Err("`amount_cents` is zero".to_owned());
        }
        if delivery.currency.len() != 3 || !delivery.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err("`currency` is not three capital letters".to_owned());
        }
        Ok(delivery)
    }

    /// The request that was delivered.
    pub(crate) fn payment(&self) -> Payment {
        Payment {
            idempotency_key: self.idempotency_key.clone(),
            order_id: self.order_id.clone(),
            amount_cents: self.amount_cents,
            currency: self.currency.clone(),
            card: self.card.clone(),
        }
    }
}

/// A line that is not blank.
pub(crate) enum Line {
    Delivery(Delivery),
    Malformed { number: u64, why: String },
}

/// Passes the lines on, one by one, until the input ends or the receiver returns `false`.
pub(crate) fn read(mut input: impl BufRead, mut receiver: impl FnMut(Line) -> bool) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let len = input.by_ref().take(MAX_LINE_LEN + 1).read_until(b'\n', &mut line)?;
        if len == 0 {
            break;
        }
        let parsed = if line.len() as u64 > MAX_LINE_LEN && !line.ends_with(b"\n") {
            input.skip_until(b'\n')?;
            Err(format!("longer than {MAX_LINE_LEN} bytes"))
        } else if line.trim_ascii().is_empty() {
            continue;
        } else {
            Delivery::parse(&line)
        };
        let line = parsed.map_or_else(|why| Line::Malformed { number, why }, Line::Delivery);
        if !receiver(line) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"delivery":"d","kind":"refund","idempotency_key":"k","order_id":"o","amount_cents":1,"currency":"EUR","card":"c"}"#;

    fn lines(input: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        read(input, |line| {
            lines.push(line);
            true
        })
        .unwrap();
        lines
    }

    fn malformed(input: &[u8]) -> (u64, String) {
        match lines(input).remove(0) {
            Line::Malformed { number, why } => (number, why),
            Line::Delivery(_) => panic!("not malformed"),
        }
    }

    #[test]
    fn blank_lines_are_skipped_and_counted() {
        let input = format!("\n  \r\n{GOOD}\r\nnonsense\n{GOOD}");
        let lines = lines(input.as_bytes());
        assert!(matches!(lines.as_slice(), [Line::Delivery(_), Line::Malformed { number: 4, .. }, Line::Delivery(_)]));
    }

    #[test]
    fn every_mistake_is_named() {
        for (wrong, right, expected) in [
            (r#""amount_cents":0"#, r#""amount_cents":1"#, "`amount_cents` is zero"),
            (r#""amount_cents":-1"#, r#""amount_cents":1"#, "invalid value: integer `-1`"),
            (r#""kind":"pay""#, r#""kind":"refund""#, "unknown variant `pay`"),
            (r#""idempotency_key":"""#, r#""idempotency_key":"k""#, "`idempotency_key` is empty"),
            (r#""currency":"eur""#, r#""currency":"EUR""#, "`currency` is not three capital letters"),
            (r#""fualt":null,"card""#, r#""card""#, "unknown field `fualt`"),
            (r#""delivery":"d","delivery""#, r#""delivery""#, "duplicate field `delivery`"),
        ] {
            let (number, why) = malformed(GOOD.replace(right, wrong).as_bytes());
            assert_eq!(number, 1);
            assert!(why.starts_with(expected), "{why}");
            assert!(!why.contains("line"), "{why}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_malformed() {
        let line = GOOD.replace(r#""card":"c""#, r#""card":"?""#);
        let line: Vec<u8> = line.bytes().map(|byte| if byte == b'?' { 0xff } else { byte }).collect();
        malformed(&line);
        malformed(b"\xff\xfe\n");
    }

    #[test]
    fn the_limit_is_on_the_line_without_its_end() {
        let max = usize::try_from(MAX_LINE_LEN).unwrap();
        for (len, good) in [(max, true), (max + 1, false), (3 * max, false)] {
            let input = format!("{GOOD}{}\n{GOOD}\n", " ".repeat(len - GOOD.len()));
            let lines = lines(input.as_bytes());
            assert_eq!(lines.len(), 2, "the next line is read all the same");
            assert_eq!(matches!(lines[0], Line::Delivery(_)), good, "{len} bytes");
        }
    }
}
