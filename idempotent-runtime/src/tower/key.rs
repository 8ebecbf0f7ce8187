//! Reads the key from its header.

use std::convert::Infallible;

use http::{HeaderMap, HeaderName};
use sfv::{BareItemFromInput, Parser, visitor::Ignored};

/// The longest key, in bytes.
pub(super) const MAX_LEN: usize = 255;

/// The syntax of a key in its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFormat {
    /// A string of RFC 9651, `"k"`, or a bare `k`: both are the same key. A value that begins with a quotation mark is a
    /// string, with escapes; parameters after it are ignored.
    #[default]
    Lenient,
    /// A string of RFC 9651, and nothing else.
    Strict,
}

/// The key of a request, for its handler: the layer puts it into the request's extensions.
///
/// With the feature `axum`, it is an extractor: `key: IdempotencyKey` refuses requests without a key, `Option<IdempotencyKey>`
/// lets them pass.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(pub(super) String);

impl IdempotencyKey {
    /// The key, without the quotation marks and escapes of its header.
    ///
    /// It is unique for one client only: two tenants may send the same one. A key made from it has to contain the tenant as well,
    /// as the layer's [`scope`](super::ChooseScope::scope) does: `key = (tenant, key)`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Does not show the key, which does not belong into logs.
impl std::fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdempotencyKey(..)")
    }
}

/// The reason why a request has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    Missing,
    Malformed(&'static str),
}

/// Reads the key from these headers.
pub(super) fn key(headers: &HeaderMap, name: &HeaderName, format: KeyFormat) -> Result<String, NoKey> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(NoKey::Missing)?;
    if values.next().is_some() {
        return Err(NoKey::Malformed("it is given more than once"));
    }
    let value = value.as_bytes().trim_ascii();
    let key = match (format, value.first()) {
        (KeyFormat::Lenient, first) if first != Some(&b'"') => bare(value),
        _ => quoted(value),
    }?;
    match key.len() {
        0 => Err(NoKey::Malformed("it is empty")),
        1..=MAX_LEN => Ok(key),
        _ => Err(NoKey::Malformed("it is longer than 255 characters")),
    }
}

fn quoted(value: &[u8]) -> Result<String, NoKey> {
    let mut key = None;
    let parsed = Parser::new(value).parse_item_with_visitor(|item: BareItemFromInput<'_>| {
        if let BareItemFromInput::String(string) = item {
            key = Some(string.as_str().to_owned());
        }
        Ok::<_, Infallible>(Ignored)
    });
    parsed.ok().and(key).ok_or(NoKey::Malformed("it is not one quoted string"))
}

/// Reads a bare key: visible ASCII without `,` and `"`, which make lists and strings.
fn bare(value: &[u8]) -> Result<String, NoKey> {
    let is_plain = value.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'"'));
    match str::from_utf8(value) {
        Ok(text) if is_plain => Ok(text.to_owned()),
        _ => Err(NoKey::Malformed("it has characters that need quotation marks, or that a key must not have")),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const NAME: HeaderName = HeaderName::from_static("idempotency-key");

    fn parse(value: &[u8], format: KeyFormat) -> Option<String> {
        let value = HeaderValue::from_bytes(value).ok()?;
        key(&HeaderMap::from_iter([(NAME, value)]), &NAME, format).ok()
    }

    #[test]
    fn strings_and_bare_values() {
        for (value, lenient, strict) in [
            (r#""k""#, Some("k"), Some("k")),
            ("k", Some("k"), None),
            (" k\t", Some("k"), None),
            (r#""k";p=1"#, Some("k"), Some("k")),
            (r#""a\"b""#, Some("a\"b"), Some("a\"b")),
            (r#""a\\b""#, Some("a\\b"), Some("a\\b")),
            (r#""a b""#, Some("a b"), Some("a b")),
            ("a\\b", Some("a\\b"), None),
            ("17", Some("17"), None),
            (r#""a\b""#, None, None),
            (r#""k"#, None, None),
            (r#""k" x"#, None, None),
            (r#""a", "b""#, None, None),
            ("a, b", None, None),
            ("a b", None, None),
            ("a\"b", None, None),
            ("\"\"", None, None),
            ("", None, None),
            ("ü", None, None),
            ("\"ü\"", None, None),
        ] {
            assert_eq!(parse(value.as_bytes(), KeyFormat::Lenient).as_deref(), lenient, "{value}");
            assert_eq!(parse(value.as_bytes(), KeyFormat::Strict).as_deref(), strict, "{value}");
        }
    }

    #[test]
    fn as_long_as_it_may_be() {
        for (len, fine) in [(255, true), (256, false)] {
            let long = "k".repeat(len);
            assert_eq!(parse(long.as_bytes(), KeyFormat::Lenient).is_some(), fine);
            assert_eq!(parse(format!("\"{long}\"").as_bytes(), KeyFormat::Strict).is_some(), fine);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_printable_key_or_none(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            for format in [KeyFormat::Lenient, KeyFormat::Strict] {
                if let Some(key) = parse(&value, format) {
                    prop_assert!((1..=MAX_LEN).contains(&key.len()));
                    prop_assert!(key.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                }
            }
        }

        #[test]
        fn every_printable_key_can_be_quoted(key in "[ -~]{1,255}") {
            let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
            for format in [KeyFormat::Lenient, KeyFormat::Strict] {
                prop_assert_eq!(parse(quoted.as_bytes(), format), Some(key.clone()));
            }
        }
    }
}
