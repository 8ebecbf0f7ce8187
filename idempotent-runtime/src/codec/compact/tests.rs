//! Types that could tell the compact form from JSON: what they may be has to be the same on every store. Values of all kinds are in
//! the tests of the codec.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, SeqAccess, Visitor},
    ser::SerializeSeq,
};
use serde_json::{Value, value::RawValue};

use super::{PLAIN, is_compact, of_json, read, tag, to_json};
use crate::codec::{decode, encode, encode_here};

/// The value is kept or refused as on other stores, and comes back as it does there.
fn is_as_elsewhere<T: Serialize + DeserializeOwned + fmt::Debug>(value: &T) -> bool {
    match (encode(value), encode_here(value, usize::MAX)) {
        (Ok(json), Ok(here)) => {
            let (there, back) = (decode::<T>(&json).unwrap(), decode::<T>(&here).unwrap());
            assert_eq!(format!("{back:?}"), format!("{there:?}"));
            if let Some(cached) = of_json(&json) {
                assert_eq!(format!("{:?}", decode::<T>(&cached).unwrap()), format!("{there:?}"));
            }
            is_compact(&here)
        }
        (there, here) => {
            assert_eq!(here.map(|_| ()), there.map(|_| ()), "{value:?}");
            false
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    id: String,
    cents: u64,
    delta: i32,
    rate: f64,
    note: Option<String>,
    lines: Vec<(u8, char)>,
    paid: bool,
    by_account: BTreeMap<String, i64>,
}

#[test]
fn a_usual_result_is_compact() {
    let note = Some("to \"Jane\", at \u{1F600} 17:00\n".repeat(9));
    let by_account = BTreeMap::from([("a|1".to_owned(), i64::MIN), (String::new(), -1)]);
    let lines = vec![(0, 'a'), (255, '"'), (127, '\u{10ffff}')];
    let receipt =
        Receipt { id: "ch_1".into(), cents: u64::MAX, delta: -128, rate: -0.1, note, lines, paid: true, by_account };
    assert!(is_as_elsewhere(&receipt));
}

/// Reads a string only where JSON can lend it for as long as its text.
#[derive(Debug, Serialize)]
struct Borrowed(String);

impl<'de> Deserialize<'de> for Borrowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&str>::deserialize(deserializer).map(|text| Self(text.to_owned()))
    }
}

#[test]
fn strings_are_lent_as_json_lends_them() {
    assert!(is_as_elsewhere(&Borrowed("plain \u{e9} \u{7f}".to_owned())));
    for text in ["a\"b", "a\\b", "\u{1}", "\n"] {
        assert!(!is_as_elsewhere(&Borrowed(text.to_owned())), "{text:?}");
        assert!(encode(&Borrowed(text.to_owned())).is_err(), "{text:?}");
    }
    assert!(is_as_elsewhere(&BTreeMap::from([("plain".to_owned(), Borrowed("x".repeat(40)))])));
}

/// A number that is written in one width and read in another.
macro_rules! written_and_read {
    ($name:ident, $written:ty, $read:ty) => {
        #[derive(Debug)]
        struct $name($written);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            #[allow(clippy::pedantic, clippy::unnecessary_cast, reason = "whatever it makes of it, of many types")]
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$read>::deserialize(deserializer).map(|read| Self(read as $written))
            }
        }
    };
}

mod widths {
    use super::*;

    written_and_read!(SingleAsDouble, f32, f64);
    written_and_read!(DoubleAsSingle, f64, f32);
    written_and_read!(IntegerAsFloat, i64, f64);
    written_and_read!(FloatAsInteger, f64, i64);
    written_and_read!(LongAsShort, u128, u64);
    written_and_read!(ShortAsLong, u64, u128);
    written_and_read!(SignedAsUnsigned, i64, u64);

    #[test]
    fn numbers_are_told_as_json_tells_them() {
        for single in [0.1_f32, 1.0, -0.0, 16_777_216.0, f32::MIN_POSITIVE, f32::MAX, f32::NAN] {
            is_as_elsewhere(&SingleAsDouble(single));
            is_as_elsewhere(&single);
            is_as_elsewhere(&Some(single));
        }
        for double in [0.1_f64, 1.0, -0.0, 1e300, 8_388_609.000_000_001, 0.500_000_029_802_322_4, f64::INFINITY] {
            is_as_elsewhere(&DoubleAsSingle(double));
            is_as_elsewhere(&FloatAsInteger(double));
            is_as_elsewhere(&double);
        }
        for integer in [0, 1, -1, 127, 128, i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1] {
            is_as_elsewhere(&IntegerAsFloat(integer));
            is_as_elsewhere(&SignedAsUnsigned(integer));
            is_as_elsewhere(&integer);
            is_as_elsewhere(&i128::from(integer));
        }
        for long in [0, u128::from(u64::MAX), u128::from(u64::MAX) + 1, u128::MAX] {
            is_as_elsewhere(&LongAsShort(long));
            is_as_elsewhere(&long);
            is_as_elsewhere(&HashMap::from([(long, long)]));
        }
        for short in [0, u64::MAX] {
            is_as_elsewhere(&ShortAsLong(short));
            is_as_elsewhere(&serde_json::json!({ "number": short, "negative": -1, "float": 1.5, "list": [short] }));
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Text(String),
    Number(u64),
    Float(f64),
    Single(f32),
    Pair { left: Option<Box<Untagged>>, right: Value },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "content")]
enum Adjacent {
    Unit,
    Newtype(f32),
    Tuple(u8, Untagged),
    Struct { a: Option<()>, b: Vec<Untagged> },
}

#[derive(Debug, Serialize, Deserialize)]
struct Flattened {
    own: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[test]
fn types_that_take_anything_take_the_same() {
    let pair = |value: Value| Untagged::Pair { left: Some(Box::new(Untagged::Number(1))), right: value };
    for untagged in [
        Untagged::Text("a\"b".into()),
        Untagged::Number(u64::MAX),
        Untagged::Float(1.0),
        Untagged::Float(f64::NAN),
        Untagged::Single(0.1),
        pair(serde_json::json!({ "a": [1, -1, 1.5, null, "x"] })),
        pair(Value::Null),
        Untagged::Pair { left: None, right: Value::Bool(true) },
    ] {
        is_as_elsewhere(&untagged);
        is_as_elsewhere(&Adjacent::Tuple(1, untagged));
    }
    is_as_elsewhere(&Adjacent::Unit);
    is_as_elsewhere(&Adjacent::Newtype(0.1));
    is_as_elsewhere(&Adjacent::Struct { a: None, b: vec![Untagged::Float(0.5)] });
    is_as_elsewhere(&Adjacent::Struct { a: Some(()), b: vec![] });
    let rest = BTreeMap::from([("x".to_owned(), serde_json::json!([1, { "y": 2 }]))]);
    is_as_elsewhere(&Flattened { own: 1, rest });
}

#[test]
fn raw_text_stays_as_it_is() {
    for text in ["1.50", "{ \"a\" : 1 }", "\"\\u0041\"", "18446744073709551616", "[1,2]"] {
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        assert!(!is_as_elsewhere(&raw), "{text}");
        assert!(!is_as_elsewhere(&vec![raw]), "{text}");
        // The cache has text from elsewhere, and does not know that a type takes it raw.
        if let Some(cached) = of_json(text.as_bytes()) {
            assert_eq!(decode::<Box<RawValue>>(&cached).unwrap().get(), text);
        }
    }
}

/// Leaves out the elements that it cannot read, or write.
#[derive(Debug)]
struct Lenient<T>(Vec<T>);

impl<T: Serialize> Serialize for Lenient<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(None)?;
        for element in &self.0 {
            let _ = sequence.serialize_element(element);
        }
        sequence.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = Lenient<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Lenient<T>, A::Error> {
                let mut read = Vec::new();
                for _ in 0..4 {
                    match elements.next_element() {
                        Ok(Some(element)) => read.push(element),
                        Ok(None) => break,
                        Err(_) => {}
                    }
                }
                Ok(Lenient(read))
            }
        }
        deserializer.deserialize_seq(Elements(std::marker::PhantomData))
    }
}

#[test]
fn what_swallows_errors_is_kept_as_elsewhere() {
    is_as_elsewhere(&Lenient(vec![1.0, f64::NAN, 2.0]));
    is_as_elsewhere(&Lenient(vec![1, u128::MAX, 3]));
    is_as_elsewhere(&Lenient(vec![Some(1), None]));
    is_as_elsewhere(&Lenient(vec![Some(()), None]));
    is_as_elsewhere(&Lenient(vec![1, 2, 3, 4, 5, 6]));
    is_as_elsewhere(&Lenient(vec![Borrowed("a".into()), Borrowed("\"".into()), Borrowed("b".into())]));
}

#[test]
fn only_this_form_is_told_as_json() {
    assert_eq!(to_json(b"{}"), None);
    assert_eq!(to_json(b""), None);
    assert_eq!(to_json(&[1]), None);
    assert_eq!(to_json(b"\x01!").unwrap(), "null");
    assert_eq!(to_json(b"\x01!!"), None, "more than a value");
    for json in ["1e3", " 1", "1.0 ", "{\"a\": 1}", "\"\\u00e9\"", "18446744073709551616", "{", ""] {
        assert_eq!(of_json(json.as_bytes()), None, "{json}");
    }
}

/// Bytes that nobody has written, as of a damaged record: they are read to no end of the stack.
#[test]
fn what_is_nested_too_deeply_has_no_form() {
    for tags in [&[tag::SEQUENCE][..], &[tag::MAP, tag::SHORT]] {
        for whole in [false, true] {
            let mut bytes = vec![PLAIN];
            bytes.extend(tags.repeat(100_000));
            if whole {
                bytes.push(tag::NULL);
                bytes.extend(vec![tag::END; 100_000]);
            }
            assert_eq!(to_json(&bytes), None);
            assert!(read::<Value>(&bytes).is_none());
        }
    }
}
