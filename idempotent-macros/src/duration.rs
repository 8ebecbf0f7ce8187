//! Parses durations in strings: "500ms", "24h", "1h30m".

/// The units, longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The reason why a duration is refused, and one to type instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) reason: String,
    pub(crate) instead: String,
}

/// Parses a duration into milliseconds: whole numbers with units, each unit shorter than the one before.
pub(crate) fn parse(text: &str) -> Result<u64, Malformed> {
    let malformed = |reason: String, instead: String| Malformed { reason, instead };
    let example = || "30s".to_owned();
    if text.is_empty() {
        return Err(malformed("the duration is empty".to_owned(), example()));
    }
    let (mut rest, mut total, mut units) = (text, 0_u64, UNITS.as_slice());
    while !rest.is_empty() {
        let (digits, after) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_where(after, |c| c.is_ascii_digit());
        if digits.is_empty() {
            return Err(malformed(format!("the duration `{text}` is not a whole number with a unit"), example()));
        }
        if unit.is_empty() {
            return Err(malformed(format!("the duration `{text}` has no unit"), format!("{text}s")));
        }
        if unit.starts_with('.') {
            return Err(malformed(
                format!("the duration `{text}` has a fraction: it must be made of whole numbers"),
                "1h30m".to_owned(),
            ));
        }
        let Some(position) = UNITS.iter().position(|&(name, _)| name == unit) else {
            let reason = if UNITS.iter().any(|&(name, _)| name == unit.trim()) {
                format!("the duration `{text}` contains a space")
            } else {
                format!("`{}` is not a unit of time: use `d`, `h`, `m`, `s` or `ms`", unit.trim())
            };
            return Err(malformed(reason, likely(digits, unit).unwrap_or_else(example)));
        };
        let skipped = UNITS.len() - units.len();
        let Some((&(_, milliseconds), shorter)) =
            units.get(position.wrapping_sub(skipped)..).and_then(<[_]>::split_first)
        else {
            return Err(malformed(
                format!("in the duration `{text}`, each unit must be shorter than the one before it"),
                "1h30m".to_owned(),
            ));
        };
        total = digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(milliseconds))
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| malformed(format!("the duration `{text}` is too long"), "365d".to_owned()))?;
        (rest, units) = (after, shorter);
    }
    Ok(total)
}

fn split_where(text: &str, split: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(split).unwrap_or(text.len()))
}

/// The duration that the user probably meant: "30m" for "30 min".
fn likely(digits: &str, unit: &str) -> Option<String> {
    let unit = unit.trim().to_lowercase();
    let short = match unit.as_str() {
        "ms" | "msec" | "millis" | "milliseconds" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        "w" | "week" | "weeks" => return digits.parse::<u64>().ok()?.checked_mul(7).map(|days| format!("{days}d")),
        _ => return None,
    };
    Some(format!("{digits}{short}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_with_units() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("0s", 0),
            ("30s", 30_000),
            ("15m", 900_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("1m1ms", 60_001),
        ] {
            assert_eq!(parse(text), Ok(milliseconds), "{text}");
        }
    }

    #[test]
    fn anything_else_comes_with_a_duration_that_parses() {
        for (text, instead) in [
            ("", "30s"),
            ("30", "30s"),
            ("s", "30s"),
            ("30 min", "30m"),
            ("24H", "24h"),
            ("2weeks", "14d"),
            ("1.5h", "1h30m"),
            ("-1s", "30s"),
            ("1y", "30s"),
            ("30m1h", "1h30m"),
            ("1s1s", "1h30m"),
            ("1ms1s", "1h30m"),
            ("1h30", "1h30s"),
            ("99999999999999999999s", "365d"),
            ("213503982335d", "365d"),
            ("٣s", "30s"),
            (" 30s", "30s"),
        ] {
            let malformed = parse(text).expect_err(text);
            assert_eq!(malformed.instead, instead, "{text}: {}", malformed.reason);
            assert!(parse(&malformed.instead).is_ok(), "{text}: the help must parse");
        }
    }
}
