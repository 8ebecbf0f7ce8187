//! A number of JSON, written in the one way that all spellings of its value share.
//!
//! Only digits are moved: no number is converted to a float or an integer, which could make two of them equal. Nor does the
//! feature `arbitrary_precision` of `serde_json` matter, which changes how numbers are read.

use std::borrow::Cow;

/// The most zeros that are written out, before or after the point.
const MAX_ZEROS: i64 = 30;

/// Writes a number of JSON in its canonical form: `1` for `1.0`, `10e-1` and `1`. Integers and decimals without needless zeros stay
/// as they are. `-0` stays apart from `0`, as in [fingerprints](crate::Fingerprint) of floats. So does a number whose exponent is
/// beyond 64 bits, which stays as it is.
pub(super) fn canonical(text: &str) -> Cow<'_, str> {
    // Most numbers are integers with few zeros at their end.
    let is_canonical = text.len() <= 31 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_canonical { text.into() } else { rewritten(text).unwrap_or(text.into()) }
}

fn rewritten(text: &str) -> Option<Cow<'static, str>> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix('+').unwrap_or(exponent).parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{integer}{fraction}");
    let digits = all.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(format!("{sign}0").into());
    }
    // The number is `significant` times ten to the power of this.
    let exponent = exponent.checked_sub(len(fraction))?.checked_add(len(digits) - len(significant))?;
    let written = match exponent {
        0..=MAX_ZEROS => format!("{sign}{significant}{:0<1$}", "", exponent.try_into().ok()?),
        _ if exponent < 0 && exponent + len(significant) >= -MAX_ZEROS => {
            let point = exponent + len(significant);
            match usize::try_from(point).ok().filter(|point| *point > 0) {
                Some(point) => {
                    let (integer, fraction) = significant.split_at_checked(point)?;
                    format!("{sign}{integer}.{fraction}")
                }
                None => format!("{sign}0.{:0<1$}{significant}", "", usize::try_from(-point).ok()?),
            }
        }
        _ => format!("{sign}{significant}e{exponent}"),
    };
    Some(written.into())
}

/// The length of a text, which is at most that of a request.
fn len(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_a_value() {
        let many = format!("1{}", "0".repeat(40));
        for (value, spellings) in [
            ("1", &["1", "1.0", "1e0", "1E+0", "10e-1", "0.1e1", "1.000", "100E-2"][..]),
            ("100", &["100", "1e2", "1E2", "1e+2", "1.0e2", "100.00", "0.001e5"]),
            ("-1.5", &["-1.5", "-1.50", "-15e-1", "-0.15E1"]),
            ("0", &["0", "0.0", "0e5", "0E-9", "0.000e10"]),
            ("-0", &["-0", "-0.0", "-0e1"]),
            ("0.1", &["0.1", "0.10", "1e-1", "0.01e1"]),
            ("0.05", &["0.05", "5e-2"]),
            ("18446744073709551616", &["18446744073709551616", "1.8446744073709551616e19", "18446744073709551616.0"]),
            ("1e40", &["1e40", "10e39", &many, "0.1E41"]),
            ("1e-40", &["1e-40", "10e-41", "0.1E-39"]),
            ("1e400", &["1e400", "10e399"]),
            ("12.5", &["12.5", "1250e-2"]),
        ] {
            for spelling in spellings {
                let once = canonical(spelling);
                assert_eq!(once, value, "{spelling}");
                assert_eq!(canonical(&once), once);
            }
        }
    }

    #[test]
    fn what_differs_stays_apart() {
        let all = [
            "9007199254740992",
            "9007199254740993",
            "9007199254740992.5",
            "18446744073709551615",
            "18446744073709551616",
            "18446744073709551617",
            "0.1",
            "0.1000000000000000055",
            "0.30000000000000004",
            "0.3",
            "1e400",
            "1e401",
            "-1e400",
            "1e-400",
            "1e9223372036854775807",
            "1e9223372036854775808",
            "1e99999999999999999999",
            "1e99999999999999999998",
            "1e-99999999999999999999",
            "0",
            "-0",
        ];
        let forms: std::collections::HashSet<_> = all.iter().map(|text| canonical(text)).collect();
        assert_eq!(forms.len(), all.len());
    }

    /// The digits of a number without its exponent, as an integer with `places` decimal places.
    fn scaled(number: &str, places: usize) -> i128 {
        let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
        format!("{integer}{fraction:0<places$}").parse().unwrap()
    }

    proptest! {
        /// Numbers are equal if, and only if, integers of 128 bits are.
        #[test]
        fn as_exact_arithmetic_says(
            one in "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,5})?",
            other in "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,5})?",
            shift in 0_u32..6,
        ) {
            let values = [scaled(&one, 5), scaled(&other, 5)];
            prop_assume!(!values.contains(&0));
            prop_assert_eq!(canonical(&one) == canonical(&other), values[0] == values[1]);
            // The same value with an exponent.
            let shifted = format!("{}e-{}", values[0], shift + 5);
            let exact = values[0] * 10_i128.pow(5) == scaled(&canonical(&shifted), 10) * 10_i128.pow(shift);
            prop_assert!(exact, "{} {}", shifted, canonical(&shifted));
        }
    }
}
