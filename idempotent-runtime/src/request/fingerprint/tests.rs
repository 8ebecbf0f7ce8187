use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::{self, Write as _},
    net::IpAddr,
};

use proptest::prelude::*;
use serde::{Serialize, Serializer, ser::SerializeSeq as _};
use serde_json::json;
use sha2::Digest as _;

use super::{
    Arguments, Fingerprint,
    encoder::Encoder,
    model::{Model, NAMES, any_model},
    set_name,
};

fn of<T: Serialize + ?Sized>(value: &T) -> Fingerprint {
    Fingerprint::of(value).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The encoding itself. Two maps around the value keep all of it in the buffer.
fn encoding(value: &Model) -> Vec<u8> {
    let key = || Model::Natural(0);
    let wrapped = Model::Map(vec![(key(), Model::Map(vec![(key(), value.clone())]))]);
    let mut encoder = Encoder::new();
    wrapped.serialize(&mut *encoder).unwrap();
    match encoder.as_bytes() {
        [version, 0x0c, 0x10, 0x0c, 0x10, value @ .., 0, 0] => [&[*version], value].concat(),
        _ => panic!("two maps"),
    }
}

#[test]
fn the_published_vectors_hold() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../../fingerprint-vectors.json")).unwrap();
    for vector in vectors["fingerprints"].as_array().unwrap() {
        let model = Model::from_vector(&vector["value"]);
        if let Some(expected) = vector["encoding"].as_str() {
            assert_eq!(hex(&encoding(&model)), expected, "{}", vector["value"]);
        }
        assert_eq!(hex(of(&model).as_bytes()), vector["sha256"].as_str().unwrap(), "{}", vector["value"]);
    }
}

/// Reads an encoding back, as the specification says.
struct Decoder<'a>(&'a [u8]);

impl Decoder<'_> {
    fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap();
        self.0 = rest;
        *byte
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes.to_vec()
    }

    fn prefixed(&mut self) -> Vec<u8> {
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return self.bytes(len);
            }
        }
    }

    fn name(&mut self) -> &'static str {
        let name = String::from_utf8(self.prefixed()).unwrap();
        NAMES.into_iter().find(|known| *known == name).unwrap()
    }

    fn integer(&mut self, len: u8) -> u128 {
        let mut bytes = self.bytes(len.into());
        assert_ne!(bytes.last(), Some(&0), "no more bytes than needed");
        bytes.resize(16, 0);
        u128::from_le_bytes(bytes.try_into().unwrap())
    }

    fn list(&mut self) -> Vec<Model> {
        std::iter::from_fn(|| self.value()).collect()
    }

    /// The next value, or the end of a list.
    fn value(&mut self) -> Option<Model> {
        Some(match self.byte() {
            0x00 => return None,
            0x01 => Model::Unit,
            0x02 => Model::None,
            0x03 => Model::Some(Box::new(self.value()?)),
            0x04 => Model::Bool(false),
            0x05 => Model::Bool(true),
            0x06 => Model::Char(char::from_u32(u32::from_le_bytes(self.bytes(4).try_into().unwrap())).unwrap()),
            0x07 => Model::Float(u64::from_le_bytes(self.bytes(8).try_into().unwrap())),
            0x08 => Model::String(String::from_utf8(self.prefixed()).unwrap()),
            0x09 => Model::Bytes(self.prefixed()),
            0x0a => Model::Sequence(self.list()),
            0x0b => Model::Set(self.list()),
            0x0c => {
                let flat = self.list();
                assert_eq!(flat.len() % 2, 0);
                Model::Map(flat.chunks(2).map(|entry| (entry[0].clone(), entry[1].clone())).collect())
            }
            0x0d => Model::UnitVariant(self.name()),
            0x0e => {
                let name = self.name();
                Model::Variant(name, Box::new(self.value()?))
            }
            tag @ 0x10..=0x20 => Model::Natural(self.integer(tag - 0x10)),
            tag @ 0x30..=0x40 => Model::Negative(self.integer(tag - 0x30)),
            tag => panic!("unknown tag {tag:02x}"),
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A value whose encoding can be read back shares it with no other value.
    #[test]
    fn the_encoding_can_be_read_back(model in any_model()) {
        let encoding = encoding(&model);
        prop_assert_eq!(encoding[0], 1);
        let mut decoder = Decoder(&encoding[1..]);
        let decoded = decoder.value().unwrap();
        prop_assert!(decoder.0.is_empty());
        prop_assert_eq!(decoded.unordered(), model.unordered());
    }

    #[test]
    fn equal_values_and_only_they_have_equal_fingerprints(a in any_model(), b in any_model()) {
        prop_assert_eq!(of(&a), of(&a.reversed()));
        prop_assert_eq!(of(&a) == of(&b), a.unordered() == b.unordered());
    }

    /// However much of it went to the hash before the end.
    #[test]
    fn the_fingerprint_is_the_hash_of_the_encoding(
        parts in prop::collection::vec((any_model(), 0_usize..9000), 0..6),
        ordered: bool,
    ) {
        let parts = parts.into_iter().map(|(model, len)| {
            Model::Sequence(vec![Model::String("s".repeat(len)), model, Model::Bytes(vec![7; len / 2])])
        });
        let whole = if ordered {
            Model::Sequence(parts.collect())
        } else {
            Model::Map(parts.rev().zip((0..).map(Model::Natural)).map(|(value, key)| (key, value)).collect())
        };
        let hash: [u8; 32] = sha2::Sha256::digest(encoding(&whole)).into();
        prop_assert_eq!(of(&whole), Fingerprint::from_bytes(hash));
        let reversed = whole.reversed();
        prop_assert_eq!(of(&reversed), Fingerprint::from_bytes(hash));
    }
}

#[test]
fn integers_are_equal_by_value() {
    let seven = of(&7_u8);
    assert!([of(&7_u16), of(&7_u32), of(&7_u64), of(&7_u128), of(&7_usize)].iter().all(|other| *other == seven));
    assert!([of(&7_i8), of(&7_i16), of(&7_i32), of(&7_i64), of(&7_i128)].iter().all(|other| *other == seven));
    let negative = of(&-7_i8);
    assert!([of(&-7_i16), of(&-7_i32), of(&-7_i64), of(&-7_i128)].iter().all(|other| *other == negative));
    assert_ne!(seven, of(&7.0));
    assert_ne!(seven, of("7"));
}

#[test]
fn floats_are_equal_by_the_bits_of_f64() {
    assert_eq!(of(&0.25_f32), of(&0.25_f64));
    assert_ne!(of(&0.1_f32), of(&0.1_f64));
    assert_ne!(of(&0.0), of(&-0.0));
    assert_ne!(of(&f64::INFINITY), of(&f64::NEG_INFINITY));
    for error in [Fingerprint::of(&f64::NAN), Fingerprint::of(&f32::NAN), Fingerprint::of(&[Some(f64::NAN)])] {
        assert!(error.unwrap_err().to_string().contains("NaN"));
    }
}

#[derive(Serialize)]
struct Order<'a> {
    id: &'a str,
    amount_cents: u64,
    lines: Vec<(u8, Option<&'a str>)>,
}

#[derive(Serialize)]
struct Reordered<'a> {
    lines: Vec<(u8, Option<&'a str>)>,
    amount_cents: i128,
    id: Id<'a>,
}

#[derive(Serialize)]
struct Id<'a>(&'a str);

#[test]
fn structs_are_equal_by_their_fields() {
    let reordered = Reordered { id: Id("ord_1"), amount_cents: 1999, lines: vec![(1, Some("x")), (2, Some("y"))] };
    assert_eq!(of(&order()), of(&reordered));
    assert_ne!(of(&order()), of(&Order { amount_cents: 2000, ..order() }));
}

fn order() -> Order<'static> {
    Order { id: "ord_1", amount_cents: 1999, lines: vec![(1, Some("x")), (2, Some("y"))] }
}

#[test]
fn a_struct_equals_its_json() {
    #[derive(Serialize)]
    struct Plain {
        name: &'static str,
        count: u32,
        nested: BTreeMap<&'static str, bool>,
    }
    let plain = Plain { name: "n", count: 3, nested: [("z", true), ("aa", false)].into() };
    assert_eq!(of(&plain), of(&serde_json::to_value(&plain).unwrap()));
    assert_eq!(of(&json!({"a": 1, "b": [null, {}]})), of(&json!({"b": [null, {}], "a": 1})));
}

#[test]
fn enums_are_equal_by_names_and_values() {
    #[derive(Serialize)]
    enum One {
        A,
        B(u8),
        C(u8, u8),
        D { x: u8, y: u8 },
    }
    #[derive(Serialize)]
    enum Other {
        D { y: u16, x: u16 },
        C([u16; 2]),
        B(u16),
        A,
    }
    assert_eq!(of(&One::A), of(&Other::A));
    assert_eq!(of(&One::B(1)), of(&Other::B(1)));
    assert_eq!(of(&One::C(1, 2)), of(&Other::C([1, 2])));
    assert_eq!(of(&One::D { x: 1, y: 2 }), of(&Other::D { y: 2, x: 1 }));
    let all = [of(&One::A), of(&One::B(1)), of(&One::C(1, 2)), of(&One::D { x: 1, y: 2 }), of("A"), of(&(1, 2))];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
}

struct Shown(usize);
impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(serializer.is_human_readable());
        serializer.collect_str(&format_args!("{}-{}", "a".repeat(self.0), 7))
    }
}

#[test]
fn what_people_read_is_what_counts() {
    assert_eq!(of(&IpAddr::from([127, 0, 0, 1])), of("127.0.0.1"));
    for len in [0, 10, 125, 126, 127, 300, 5000, 20_000] {
        assert_eq!(of(&Shown(len)), of(&format!("{}-7", "a".repeat(len))));
        assert_eq!(of(&[("k", Shown(len))]), of(&[("k", format!("{}-7", "a".repeat(len)))]));
    }
}

#[test]
fn the_order_of_sets_and_maps_does_not_matter() {
    // Hash sets with different states iterate in different orders.
    let words = || (0..500).map(|n| format!("word {}", n % 300));
    let sets: Vec<HashSet<String>> = (0..4).map(|_| words().collect()).collect();
    let sorted: BTreeSet<String> = words().collect();
    assert!(sets.iter().any(|set| !set.iter().eq(sets[0].iter())), "otherwise this tests nothing");
    assert!(sets.iter().all(|set| of(set) == of(&sorted)));
    assert_ne!(of(&sorted), of(&sorted.iter().collect::<Vec<_>>()));
    assert_ne!(of(&sorted), of(&sorted.iter().skip(1).collect::<BTreeSet<_>>()));

    let nested: Vec<_> = sets.iter().map(|set| HashMap::from([("k", vec![Some(Box::new(set.clone()))])])).collect();
    assert!(nested.iter().all(|map| of(map) == of(&nested[0])));

    let sets_of_sets = |seed: usize| -> HashSet<BTreeSet<usize>> {
        (0..100).map(|n| (n + seed) % 100).map(|n| (n..n + 3).collect()).collect()
    };
    assert_eq!(of(&sets_of_sets(0)), of(&sets_of_sets(50)));

    let maps: Vec<HashMap<String, usize>> = (0..3).map(|_| words().zip(0..).collect()).collect();
    let map: BTreeMap<String, usize> = words().zip(0..).collect();
    assert!(maps.iter().all(|hash_map| of(hash_map) == of(&map)));
}

#[test]
fn only_the_outermost_type_makes_a_set() {
    let set = || BTreeSet::from([1, 2]);
    assert_ne!(of(&[set(), BTreeSet::new()]), of(&[BTreeSet::new(), set()]));
    assert_ne!(of(&[set(), BTreeSet::new()][..]), of(&[BTreeSet::new(), set()][..]));
    assert_ne!(of(&vec![("a", set()), ("b", set())][..]), of(&vec![("b", set()), ("a", set())][..]));
    assert_eq!(set_name::<&&BTreeSet<Vec<u8>>>(), Some("BTreeSet"));
    assert_eq!(set_name::<HashSet<u8>>(), Some("HashSet"));
    assert_eq!(set_name::<Vec<HashSet<u8>>>(), None);
    assert_eq!(set_name::<&[(u8, HashSet<u8>)]>(), None);
    assert_eq!(set_name::<([u8; 2], HashSet<u8>)>(), None);
    assert_eq!(set_name::<std::collections::hash_set::Iter<'_, u8>>(), None);
    assert_eq!(set_name::<u8>(), None);
}

#[test]
fn options_and_units_differ() {
    #[derive(Serialize)]
    struct Nothing;
    let all = [of(&()), of(&None::<u8>), of(&Some(())), of(&Some(None::<u8>)), of(&Some(1)), of(&1), of(&[(); 0])];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    assert_eq!(of(&()), of(&Nothing));
}

fn nested(levels: usize) -> Model {
    (0..levels).fold(Model::Unit, |inner, level| match level % 3 {
        0 => Model::Sequence(vec![inner]),
        1 => Model::Some(Box::new(inner)),
        _ => Model::Struct(vec![("f", inner)]),
    })
}

#[test]
fn depth_is_bounded() {
    assert!(Fingerprint::of(&nested(128)).is_ok());
    assert!(Fingerprint::of(&nested(129)).unwrap_err().to_string().contains("128 levels"));
    assert!(Fingerprint::of(&nested(3000)).is_err());

    let json: serde_json::Value = serde_json::from_str(&format!("{}{}", "[".repeat(127), "]".repeat(127))).unwrap();
    let mut arguments = Arguments::new(1);
    arguments.argument("json", &json);
    assert!(arguments.finish().is_ok());
}

/// Fails with a secret in its text.
struct Fails;

impl Serialize for Fails {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("secret"))
    }
}

/// Displays nothing but an error.
struct Undisplayable;

impl fmt::Display for Undisplayable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    let errors = [Fingerprint::of(&Fails), Fingerprint::of(&[(1, Fails)]), Fingerprint::of(&Undisplayable)];
    for error in errors.into_iter().chain([Fingerprint::of(&Careless)]) {
        assert_eq!(error.unwrap_err().to_string(), "its `Serialize` implementation failed");
    }
    // What a failure leaves behind does not show in the next fingerprint.
    let before = of(&("a", 1));
    Fingerprint::of(&HashMap::from([("k", (1, Fails))])).unwrap_err();
    assert_eq!(of(&("a", 1)), before);
}

#[test]
fn fingerprints_can_be_made_while_one_is_made() {
    struct Nested;
    impl Serialize for Nested {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(of(&HashMap::from([("x", 1), ("y", 2)])).as_bytes())
        }
    }
    #[derive(Serialize)]
    struct Both {
        z: Nested,
        a: Nested,
    }
    assert_eq!(of(&Both { z: Nested, a: Nested }), of(&Both { z: Nested, a: Nested }));
    assert_eq!(of(&Nested), of(&Model::Bytes(of(&HashMap::from([("x", 1), ("y", 2)])).as_bytes().to_vec())));
}

#[test]
fn arguments_are_a_struct() {
    let order = order();
    let mut arguments = Arguments::new(3);
    arguments.argument("amount_cents", &order.amount_cents).argument("id", order.id).argument("lines", &order.lines);
    assert_eq!(arguments.finish().unwrap(), of(&order));
    assert_eq!(Arguments::new(0).finish().unwrap(), of(&HashMap::<u8, u8>::new()));
}

#[derive(Serialize)]
struct Same<'a> {
    small: u8,
    large: &'a [(String, HashSet<u64>)],
    blob: &'a Model,
}

#[test]
fn large_arguments_are_hashed_in_pieces() {
    let large: Vec<(String, HashSet<u64>)> = (0..300).map(|n| ("s".repeat(n * 7), (0..n as u64).collect())).collect();
    let blob = Model::Bytes(vec![1; 100_000]);
    let mut arguments = Arguments::new(3);
    arguments.argument("blob", &blob).argument("large", &large).argument("small", &1);
    assert_eq!(arguments.finish().unwrap(), of(&Same { small: 1, large: &large, blob: &blob }));
}

#[test]
fn the_first_argument_that_fails_is_named() {
    for fails_later in [false, true] {
        let mut arguments = Arguments::new(3);
        arguments.argument("a", &1).argument("b", &Careless);
        if fails_later {
            arguments.argument("c", &Fails);
        } else {
            arguments.argument("c", &2);
        }
        let error = arguments.finish().unwrap_err();
        assert_eq!(error.argument(), "b");
        assert_eq!(error.to_string(), "`b`: its `Serialize` implementation failed");
    }
}
