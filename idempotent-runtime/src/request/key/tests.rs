use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    marker::PhantomData,
};

use proptest::prelude::*;
use serde::{Serialize, Serializer, ser::SerializeSeq as _};
use serde_json::json;

use super::{KeyWriter, record_key};
use crate::{
    error::{Error, OperationError},
    request::{
        error::KeyError,
        fingerprint::{
            Fingerprint,
            model::{Model, NAMES, any_key, unhex},
        },
    },
    store::RecordKey,
};

const NO_LIMIT: usize = usize::MAX;

fn write(write: impl FnOnce(&mut KeyWriter) -> Result<(), KeyError>) -> Result<String, KeyError> {
    record_key("op", NO_LIMIT, write).map(|key| key.key().to_owned()).map_err(key_error)
}

fn key_error(error: Error) -> KeyError {
    match error {
        Error::Key(error) => error,
        other => panic!("not of the key: {other:?}"),
    }
}

fn text<K: Serialize + ?Sized>(key: &K) -> String {
    write(|writer| writer.value(key)).unwrap()
}

fn error<K: Serialize + ?Sized>(key: &K) -> KeyError {
    write(|writer| writer.value(key)).unwrap_err()
}

#[test]
fn the_published_vectors_hold() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../../fingerprint-vectors.json")).unwrap();
    for vector in vectors["keys"].as_array().unwrap() {
        let (kind, key) = vector["key"].as_object().unwrap().iter().next().unwrap();
        let record_key = record_key(vector["operation"].as_str().unwrap(), NO_LIMIT, |writer| match kind.as_str() {
            "value" => writer.value(&Model::from_vector(key)),
            "template" => key.as_array().unwrap().iter().try_for_each(|piece| match piece.get("literal") {
                Some(literal) => writer.literal(literal.as_str().unwrap()),
                None => writer.hole(&Model::from_vector(&piece["hole"])),
            }),
            _ => writer.fingerprint(&Fingerprint::from_bytes(unhex(key.as_str().unwrap()).try_into().unwrap())),
        })
        .unwrap();
        assert_eq!(record_key.as_str(), vector["text"].as_str().unwrap());
        assert_eq!(record_key.as_str().parse::<RecordKey>(), Ok(record_key));
    }
}

/// Reads a key back, as the specification says.
struct Parser<'a>(&'a str);

impl Parser<'_> {
    fn eat(&mut self, prefix: &str) -> bool {
        let rest = self.0.strip_prefix(prefix);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn text(&mut self, also: &[char]) -> String {
        let end = self.0.find(|c: char| "~(),|#".contains(c) || also.contains(&c)).unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at(end);
        self.0 = rest;
        let mut bytes = Vec::new();
        let mut pieces = text.split('%');
        bytes.extend(pieces.next().unwrap().bytes());
        for piece in pieces {
            bytes.extend(unhex(&piece[..2]));
            bytes.extend(piece[2..].bytes());
        }
        String::from_utf8(bytes).unwrap()
    }

    fn name(&mut self, also: &[char]) -> &'static str {
        let name = self.text(also);
        NAMES.into_iter().find(|known| *known == name).unwrap()
    }

    fn list<T>(&mut self, mut next: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let mut list = Vec::new();
        while !self.eat(")") {
            assert!(list.is_empty() || self.eat(","));
            list.push(next(self));
        }
        list
    }

    fn whole(&mut self) -> Model {
        let first = self.item();
        if !self.0.starts_with(',') {
            return first;
        }
        let mut elements = vec![first];
        while self.eat(",") {
            elements.push(self.item());
        }
        Model::Sequence(elements)
    }

    fn item(&mut self) -> Model {
        if self.eat("(") {
            Model::Sequence(self.list(Self::item))
        } else if self.eat("~") {
            self.marked()
        } else {
            let text = self.text(&[]);
            assert!(!text.is_empty());
            Model::String(text)
        }
    }

    /// Reads the rest of an item that begins with `~`.
    fn marked(&mut self) -> Model {
        if self.eat("'") {
            Model::Char(self.text(&[]).parse().unwrap())
        } else if self.eat(":") {
            let name = self.name(&[]);
            if self.eat("(") {
                let value = self.whole();
                assert!(self.eat(")"));
                Model::Variant(name, Box::new(value))
            } else {
                Model::UnitVariant(name)
            }
        } else if self.eat("(") {
            Model::Struct(self.list(|parser| {
                let name = parser.name(&['=']);
                assert!(parser.eat("="));
                (name, parser.item())
            }))
        } else if self.eat("x") {
            Model::Bytes(unhex(&self.text(&[])))
        } else {
            match self.text(&[]).as_str() {
                "true" => Model::Bool(true),
                "false" => Model::Bool(false),
                number => number.parse().map_or_else(
                    |_| Model::Negative(u128::try_from(-1 - number.parse::<i128>().unwrap()).unwrap()),
                    Model::Natural,
                ),
            }
        }
    }
}

/// A piece of a template at random.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(String),
    Hole(Model),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A key whose text can be read back shares it with no other key.
    #[test]
    fn a_key_can_be_read_back(key in any_key()) {
        let text = text(&key);
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'|'));
        let mut parser = Parser(&text);
        prop_assert_eq!(parser.whole(), key.as_key(), "{}", text);
        prop_assert_eq!(parser.0, "");
    }

    #[test]
    fn equal_keys_and_only_they_have_equal_texts(a in any_key(), b in any_key()) {
        prop_assert_eq!(text(&a), text(&a.reversed()));
        prop_assert_eq!(text(&a) == text(&b), a.as_key() == b.as_key());
    }

    #[test]
    fn a_template_can_be_read_back(
        pieces in prop::collection::vec(
            prop_oneof!["[a0~(),:= ü]{1,4}".prop_map(Piece::Literal), any_key().prop_map(Piece::Hole)],
            1..5,
        )
    ) {
        let text = write(|writer| pieces.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => writer.literal(text),
            Piece::Hole(value) => writer.hole(value),
        }))
        .unwrap();
        let mut parser = Parser(&text);
        let mut read = Vec::new();
        while !parser.0.is_empty() {
            if parser.eat("(") {
                read.push(Piece::Hole(parser.whole()));
                prop_assert!(parser.eat(")"));
            } else {
                read.push(Piece::Literal(parser.text(&[])));
            }
        }
        let mut expected: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (expected.last_mut(), piece) {
                (Some(Piece::Literal(before)), Piece::Literal(text)) => before.push_str(&text),
                (_, Piece::Literal(text)) => expected.push(Piece::Literal(text)),
                (_, Piece::Hole(value)) => expected.push(Piece::Hole(value.as_key())),
            }
        }
        prop_assert_eq!(read, expected, "{}", text);
    }

    /// A limit of exactly the length passes, one less does not, and what does not pass says how long it is at least.
    #[test]
    fn the_limit_is_exact(key in any_key()) {
        let len = text(&key).len();
        let within = |max| {
            let key = record_key("operation", max, |writer| writer.value(&key));
            key.map(|key| key.key().len()).map_err(key_error)
        };
        prop_assert_eq!(within(len), Ok(len));
        match within(len - 1) {
            Err(KeyError::TooLong { len: at_least, max }) => {
                prop_assert_eq!(max, len - 1);
                prop_assert!(at_least > max && at_least <= len);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn simple_keys_look_simple() {
    assert_eq!(text("evt_1"), "evt_1");
    assert_eq!(text(&17), "~17");
    assert_eq!(text(&("acme", "evt_1")), "acme,evt_1");
    assert_eq!(text(&Some(("acme", 17_u8))), "acme,~17");
    assert_eq!(text(&std::net::Ipv4Addr::LOCALHOST), "127.0.0.1");
    assert_eq!(write(|w| w.literal("order:").and_then(|()| w.hole(&17))).unwrap(), "order:(~17)");
}

#[test]
fn zero_and_false_are_keys_of_their_own() {
    let texts = [text(&0_u64), text(&false), text("0"), text("false"), text(&["0"; 1]), text(&[["0"; 0]])];
    assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len());
    assert!(texts.iter().all(|text| !text.is_empty()));
    let composite = [text(&("a:b", "c")), text(&("a", "b:c")), text(&("a,b", "c")), text(&("a", "b,c")), text(&("a",))];
    assert_eq!(composite.iter().collect::<HashSet<_>>().len(), composite.len());
}

#[test]
fn integers_are_equal_by_value() {
    assert!([text(&7_u64), text(&7_i8), text(&7_i128), text(&7_usize)].iter().all(|text| text == "~7"));
}

#[test]
fn structs_are_equal_by_their_fields() {
    #[derive(Serialize)]
    struct Key<'a> {
        tenant: &'a str,
        id: u64,
        kind: PhantomData<u8>,
    }
    assert_eq!(text(&Key { tenant: "acme", id: 7, kind: PhantomData }), "~(id=~7,kind=~:PhantomData,tenant=acme)");
}

#[test]
fn what_is_missing_is_refused() {
    for missing in [error(&None::<u8>), error(&("a", None::<u8>)), error(&json!(null)), error(&()), error(&Some(()))] {
        assert_eq!(missing, KeyError::Missing);
    }
    assert_eq!(write(|writer| writer.hole(&None::<&str>)).unwrap_err(), KeyError::Missing);
    assert_eq!(write(|writer| writer.hole("")).unwrap_err(), KeyError::Missing);
    let empty =
        [error(""), error(&Some("")), error(&("acme", "")), error(&[""]), error(&json!("")), error(&format_args!(""))];
    assert!(empty.iter().all(|error| *error == KeyError::Missing));
    assert_eq!(error(&Model::Bytes(Vec::new())), KeyError::Missing);
}

/// All calls would share a key of one of these types. Beside another part, or named by a variant, they say nothing, and harm nothing.
#[test]
fn a_whole_key_says_something() {
    #[derive(Serialize)]
    struct Unit;
    #[derive(Serialize)]
    struct Fieldless {}
    #[derive(Serialize)]
    struct Ids(Vec<u32>);
    #[derive(Serialize)]
    enum Of {
        Ids(Vec<u32>),
        Tuple(),
        Struct {},
        Unit(Unit),
    }
    let none = Vec::<u32>::new();
    let errors = [
        error(&none),
        error(&[0_u8; 0]),
        error(&BTreeSet::<u32>::new()),
        error(&json!([])),
        error(&Ids(Vec::new())),
        error(&Some(&none)),
        error(&Unit),
        error(&Some(Unit)),
        error(&Fieldless {}),
        error(&PhantomData::<u32>),
        write(|writer| writer.literal("order:").and_then(|()| writer.hole(&none))).unwrap_err(),
        write(|writer| writer.literal("order:").and_then(|()| writer.hole(&Unit))).unwrap_err(),
    ];
    assert!(errors.iter().all(|error| *error == KeyError::Missing), "{errors:?}");
    let beside = [text(&("acme", &none)), text(&("acme", Unit)), text(&("acme", Fieldless {})), text(&Ids(vec![7]))];
    assert_eq!(beside, ["acme,()", "acme,~:Unit", "acme,~()", "(~7)"]);
    let named = [text(&Of::Ids(Vec::new())), text(&Of::Tuple()), text(&Of::Struct {}), text(&Of::Unit(Unit))];
    assert_eq!(named, ["~:Ids(())", "~:Tuple(())", "~:Struct(~())", "~:Unit(~:Unit)"]);
}

#[test]
fn what_identifies_nothing_is_refused() {
    assert_eq!(error(&1.5), KeyError::Unsupported("float"));
    assert_eq!(error(&("a", 1.5_f32)), KeyError::Unsupported("float"));
    assert_eq!(error(&BTreeMap::from([(1, 2)])), KeyError::Unsupported("map"));
    assert_eq!(error(&HashSet::from([1])), KeyError::Unsupported("set without an order"));
    assert_eq!(text(&BTreeSet::from([2, 1])), "~1,~2");
}

#[test]
fn depth_is_bounded() {
    let nested = |levels| (0..levels).fold(Model::Bool(true), |inner, _| Model::Some(Box::new(inner)));
    assert_eq!(text(&nested(128)), "~true");
    assert!(matches!(error(&nested(129)), KeyError::Unsupported(_)));
}

/// Fails with a secret in its text.
struct Fails;

impl Serialize for Fails {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("secret"))
    }
}

/// Displays one piece and an error.
struct Undisplayable;

impl fmt::Display for Undisplayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a")?;
        Err(fmt::Error)
    }
}

impl Serialize for Undisplayable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Goes on after a failure.
struct Careless;

impl Serialize for Careless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(None)?;
        let _ = sequence.serialize_element(&Fails);
        sequence.serialize_element(&1)?;
        sequence.end()
    }
}

#[test]
fn failures_are_errors_without_values() {
    assert_eq!(error(&Fails), KeyError::Failed);
    assert_eq!(error(&(1, Fails)), KeyError::Failed);
    assert_eq!(error(&Undisplayable), KeyError::Failed);
    assert_eq!(error(&Careless), KeyError::Failed);
    assert!(!KeyError::Failed.to_string().contains("secret"));
}

#[test]
fn a_huge_key_is_refused_before_it_is_written() {
    for huge in ["k".repeat(1 << 20), "ü".repeat(1 << 20)] {
        let error = record_key("op", 512, |writer| {
            let result = writer.value(&huge);
            assert!(writer.text.position() < 2048, "the rest was not encoded");
            result
        })
        .map_err(key_error)
        .unwrap_err();
        assert!(matches!(error, KeyError::TooLong { max: 512, len } if len > 512), "{error:?}");
    }
}

#[test]
fn names_of_operations_are_bounded_and_encoded() {
    let of = |name: &str| record_key(name, 100, |writer| writer.value("k"));
    assert_eq!(of("my_crate::charge").unwrap().as_str(), "my_crate::charge|k");
    assert_eq!(of("a|b c").unwrap().operation(), "a%7Cb%20c");
    assert_eq!(of("ü").unwrap().operation(), "%C3%BC");
    assert!(of(&"x".repeat(255)).is_ok());
    for name in ["x".repeat(256), String::new()] {
        assert!(matches!(of(&name), Err(Error::Operation(OperationError::Name))), "{} bytes", name.len());
    }
}

#[test]
fn a_fingerprint_is_a_key_that_no_value_is() {
    let key = write(|writer| writer.fingerprint(&Fingerprint::from_bytes([0xab; 32]))).unwrap();
    assert_eq!(key, format!("#{}", "ab".repeat(32)));
    assert_eq!(text(&key), format!("%23{}", "ab".repeat(32)));
}
