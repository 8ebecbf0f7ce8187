//! JSON without white space, the order of keys, and the spelling of numbers. Everything else is kept.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::number;

/// The deepest nesting. Each level is parsed once more than the one around it.
const MAX_DEPTH: u8 = 32;

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) enum Value<'a> {
    /// `null`, a boolean, a number in its canonical form.
    Word(Cow<'a, str>),
    String(String),
    Array(Vec<Value<'a>>),
    Object(BTreeMap<String, Value<'a>>),
}

/// Parses JSON. `None` if it is not JSON, is nested too deep, or has a key twice, which each reader understands differently.
pub(super) fn parse(text: &[u8]) -> Option<Value<'_>> {
    value(serde_json::from_slice(text).ok()?, 0)
}

fn value(raw: &RawValue, depth: u8) -> Option<Value<'_>> {
    let text = raw.get();
    if depth == MAX_DEPTH {
        return None;
    }
    Some(match text.as_bytes().first()? {
        b'"' => Value::String(serde_json::from_str(text).ok()?),
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            Value::Array(elements.into_iter().map(|raw| value(raw, depth + 1)).collect::<Option<_>>()?)
        }
        b'{' => {
            let Fields(fields) = serde_json::from_str(text).ok()?;
            let fields = fields.into_iter().map(|(name, raw)| Some((name, value(raw, depth + 1)?)));
            Value::Object(fields.collect::<Option<_>>()?)
        }
        b'-' | b'0'..=b'9' => Value::Word(number::canonical(text)),
        _ => Value::Word(text.into()),
    })
}

struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Each)
    }
}

struct Each;

impl<'de> Visitor<'de> for Each {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            if fields.insert(name, value).is_some() {
                return Err(A::Error::custom("a key is given twice"));
            }
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Fingerprint;

    fn hash(text: &str) -> Option<Fingerprint> {
        parse(text.as_bytes()).map(|value| Fingerprint::of(&value).unwrap())
    }

    #[test]
    fn white_space_and_order_do_not_matter() {
        let one = r#"{"a":1,"b":[true,null,"x\u00fc"],"c":{"d":{},"e":1.50}}"#;
        let other = "{ \"c\":{\"e\":1.50, \"d\": {} },\n\"b\": [true, null,\t\"xü\"], \"\\u0061\":1}";
        assert!(hash(one).is_some());
        assert_eq!(hash(one), hash(other));
    }

    #[test]
    fn the_spelling_of_numbers_does_not_matter() {
        let one = r#"{"a":1,"b":[100,-0.5,0],"c":18446744073709551616}"#;
        for other in [
            r#"{"a":1.0,"b":[1e2,-5e-1,0.0],"c":18446744073709551616}"#,
            r#"{"a":10E-1,"b":[1E+2,-0.50,0e7],"c":1.8446744073709551616e19}"#,
        ] {
            assert_eq!(hash(one), hash(other), "{other}");
        }
        assert_ne!(hash(one), hash(r#"{"a":1,"b":[100,-0.5,0],"c":18446744073709551617}"#));
        // In a string, it does.
        assert_ne!(hash(r#"{"a":"1"}"#), hash(r#"{"a":"1.0"}"#));
    }

    #[test]
    fn everything_else_does() {
        let all = [
            "{}",
            "[]",
            "null",
            "\"null\"",
            "0",
            "-0",
            "0.5",
            "false",
            "\"\"",
            "[[]]",
            "[{}]",
            "[1,2]",
            "[2,1]",
            r#"{"a":1}"#,
            r#"{"a":1.5}"#,
            r#"{"a":"1"}"#,
            r#"{"b":1}"#,
            r#"{"a":{"b":1}}"#,
            "[\"a\",1]",
            "18446744073709551616",
            "18446744073709551617",
            "0.1",
            "0.1000000000000000055",
            "1e400",
            "1e401",
        ];
        let hashes: std::collections::HashSet<_> = all.iter().map(|text| hash(text).expect(text)).collect();
        assert_eq!(hashes.len(), all.len());
    }

    #[test]
    fn what_readers_disagree_on_is_no_json() {
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(hash(&deep(31)).is_some());
        for text in ["", "{", "{} x", "nul", "01", "{a:1}", r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, &deep(32)] {
            assert!(hash(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
