use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

use super::{
    NotFaithful,
    compact::{self, is_compact},
    decode, encode, encode_here,
};
use crate::{Error, error::Undecodable};

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let json = encode(value).unwrap();
    assert_eq!(decode::<T>(&json).unwrap(), *value);
    comes_back_here(value, &json);
}

/// A value that JSON keeps comes back from the form that only this process reads, too.
fn comes_back_here<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, json: &[u8]) {
    let here = encode_here(value, usize::MAX).unwrap();
    assert_eq!(decode::<T>(&here).unwrap(), *value);
    let shown = compact::to_json(&here).unwrap_or(here);
    assert_eq!(str::from_utf8(&shown), str::from_utf8(json), "as operators see it");
    if let Some(cached) = compact::of_json(json) {
        assert_eq!(decode::<T>(&cached).unwrap(), *value);
    }
    assert!(!is_compact(&encode_here(value, json.len() - 1).unwrap()), "its JSON is longer than that");
}

fn is_refused<T: Serialize + DeserializeOwned>(value: &T) {
    assert_eq!(encode(value), Err(NotFaithful::Changed));
    assert_eq!(encode_here(value, usize::MAX), Err(NotFaithful::Changed), "on every store");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype<T>(T);

/// Bytes to serde, not a sequence.
#[derive(Clone, Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Unit,
    Nothing(()),
    UnitStruct(Unit),
    Integers(i64, u64, i128, u128),
    Floats(f32, f64),
    Char(char),
    Text(String),
    Bytes(Blob),
    Option(Option<Newtype<Option<u8>>>),
    OptionalUnit(Option<()>, Option<Unit>),
    Boxed(Option<Box<Tree>>),
    Struct { first: Box<Tree>, second: Option<f64> },
    List(Vec<Tree>),
    ByText(BTreeMap<String, Tree>),
    ByInteger(BTreeMap<i64, Tree>),
    ByLongInteger(BTreeMap<u128, bool>),
    ByBool(BTreeMap<bool, char>),
    ByChar(BTreeMap<char, Result<(), u8>>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Unit),
        Just(Tree::Nothing(())),
        Just(Tree::UnitStruct(Unit)),
        any::<(i64, u64, i128, u128)>().prop_map(|(a, b, c, d)| Tree::Integers(a, b, c, d)),
        (prop::num::f32::ANY, prop::num::f64::ANY).prop_map(|(a, b)| Tree::Floats(a, b)),
        any::<char>().prop_map(Tree::Char),
        any::<String>().prop_map(Tree::Text),
        any::<Vec<u8>>().prop_map(|bytes| Tree::Bytes(Blob(bytes))),
        any::<Option<Option<u8>>>().prop_map(|option| Tree::Option(option.map(Newtype))),
        any::<(Option<()>, bool)>().prop_map(|(a, b)| Tree::OptionalUnit(a, b.then_some(Unit))),
        any::<BTreeMap<u128, bool>>().prop_map(Tree::ByLongInteger),
        any::<BTreeMap<bool, char>>().prop_map(Tree::ByBool),
        any::<BTreeMap<char, Result<(), u8>>>().prop_map(Tree::ByChar),
    ];
    leaf.prop_recursive(4, 24, 4, |tree| {
        prop_oneof![
            prop::option::of(tree.clone().prop_map(Box::new)).prop_map(Tree::Boxed),
            (tree.clone(), any::<Option<f64>>())
                .prop_map(|(first, second)| Tree::Struct { first: Box::new(first), second }),
            prop::collection::vec(tree.clone(), 0..4).prop_map(Tree::List),
            prop::collection::btree_map(any::<String>(), tree.clone(), 0..4).prop_map(Tree::ByText),
            prop::collection::btree_map(any::<i64>(), tree, 0..4).prop_map(Tree::ByInteger),
        ]
    })
}

/// Tells whether a value has a part that JSON has no text for.
fn is_lossy(tree: &Tree) -> bool {
    match tree {
        Tree::Floats(a, b) => !a.is_finite() || !b.is_finite(),
        Tree::Option(option) => *option == Some(Newtype(None)),
        Tree::OptionalUnit(a, b) => a.is_some() || b.is_some(),
        Tree::Boxed(tree) => tree.as_deref().is_some_and(is_lossy),
        Tree::Struct { first, second } => is_lossy(first) || second.is_some_and(|v| !v.is_finite()),
        Tree::List(list) => list.iter().any(is_lossy),
        Tree::ByText(map) => map.values().any(is_lossy),
        Tree::ByInteger(map) => map.values().any(is_lossy),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_value_comes_back_or_is_refused(tree in tree()) {
        match encode(&tree) {
            Ok(bytes) => {
                prop_assert!(!is_lossy(&tree));
                prop_assert_eq!(&bytes, &serde_json::to_vec(&tree).unwrap());
                // As text too, since -0.0 equals 0.0.
                let back: Tree = decode(&bytes).unwrap();
                prop_assert_eq!(format!("{back:?}"), format!("{tree:?}"));
                let here: Tree = decode(&encode_here(&tree, usize::MAX).unwrap()).unwrap();
                prop_assert_eq!(format!("{here:?}"), format!("{tree:?}"));
                comes_back_here(&tree, &bytes);
                prop_assert_eq!(back, tree);
            }
            Err(error) => {
                prop_assert!(error == NotFaithful::Changed && is_lossy(&tree));
                prop_assert_eq!(encode_here(&tree, usize::MAX), Err(error));
            }
        }
    }

    #[test]
    fn floats_come_back_to_the_bit(a: u64, b: u32) {
        let (a, b) = (f64::from_bits(a), f32::from_bits(b));
        if a.is_finite() && b.is_finite() {
            for bytes in [encode(&(a, b)).unwrap().into(), encode_here(&(a, b), usize::MAX).unwrap()] {
                let back: (f64, f32) = decode(&bytes).unwrap();
                prop_assert_eq!((back.0.to_bits(), back.1.to_bits()), (a.to_bits(), b.to_bits()));
            }
        } else {
            prop_assert_eq!(encode(&(a, b)), Err(NotFaithful::Changed));
        }
    }

    #[test]
    fn arbitrary_bytes_are_an_error_or_a_value(mut bytes: Vec<u8>, is_marked: bool) {
        if is_marked {
            bytes.insert(0, 1);
        }
        let _ = compact::to_json(&bytes);
        let _ = decode::<Tree>(&bytes);
        let _ = decode::<Value>(&bytes);
        let _ = decode::<HashMap<String, Option<f64>>>(&bytes);
    }

    #[test]
    fn damaged_bytes_are_an_error_or_a_value(tree in tree(), at: prop::sample::Index, with: u8) {
        let here = encode_here(&tree, usize::MAX).map(Vec::from).ok();
        for mut bytes in encode(&tree).ok().into_iter().chain(here) {
            let at = at.index(bytes.len());
            bytes[at] = with;
            let _ = decode::<Tree>(&bytes);
            let _ = compact::to_json(&bytes);
            bytes.truncate(at);
            let _ = decode::<Tree>(&bytes);
        }
    }
}

#[test]
fn what_is_empty_comes_back() {
    comes_back(&());
    comes_back(&Unit);
    comes_back(&0);
    comes_back(&false);
    comes_back(&String::new());
    comes_back(&Vec::<u8>::new());
    comes_back(&HashMap::<String, u8>::new());
    comes_back(&None::<u8>);
    comes_back(&Value::Null);
    comes_back(&json!({"": [{}, [], null, ""]}));
}

#[test]
fn extremes_come_back() {
    comes_back(&(u64::MAX, i64::MIN, u128::MAX, i128::MIN));
    comes_back(&[f64::MIN_POSITIVE / 3.0, f64::MAX, f64::EPSILON, 1e23, 0.1 + 0.2]);
    assert!(decode::<f64>(&encode(&-0.0).unwrap()).unwrap().is_sign_negative());
    comes_back(&json!([u64::MAX, i64::MIN, 1.0, -0.5e-300]));
    comes_back(&Blob((0..=255).collect()));
}

#[test]
fn what_would_become_null_is_refused() {
    is_refused(&f64::NAN);
    is_refused(&[1.0, f64::INFINITY]);
    is_refused(&f32::NEG_INFINITY);
    is_refused(&Some(f32::NAN));
    is_refused(&Some(None::<u8>));
    is_refused(&vec![Some(Some(None::<u8>))]);
    is_refused(&Some(()));
    is_refused(&Some(Unit));
    is_refused(&Some(Newtype(None::<u8>)));
    is_refused(&Newtype(Some(Newtype(()))));
    is_refused(&Some(Value::Null));
    let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
    is_refused(&Some(raw("null")));
    is_refused(&vec![Some(Newtype(raw(" null ")))]);
    for json in ["\"null\"", "[null]", "0"] {
        assert!(encode(&Some(raw(json))).is_ok(), "{json}");
    }
    assert!(encode(&raw("null")).is_ok());
    is_refused(&HashMap::from([("key".to_owned(), Some(std::marker::PhantomData::<u8>))]));
}

#[test]
fn what_json_has_no_text_for_is_refused() {
    is_refused(&HashMap::from([((1, 2), 3)]));
    is_refused(&HashMap::from([(None::<u8>, 3)]));
}

#[test]
fn what_is_within_a_some_but_not_its_value_may_be_null() {
    comes_back(&Some([None::<u8>]));
    comes_back(&Some(vec![(), ()]));
    comes_back(&Some(HashMap::from([("key".to_owned(), None::<u8>)])));
    comes_back(&Some(Ok::<(), u8>(())));
    comes_back(&Some(Newtype(Some(Newtype(1)))));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Deep {
    End,
    Newtype(Box<Deep>),
    Tuple(u8, Box<Deep>),
    Struct { inner: Box<Deep> },
    Bytes(Blob),
}

#[test]
fn only_what_can_be_read_again_is_written() {
    let lists = |levels: usize| (1..levels).fold(json!([]), |inner, _| json!([inner]));
    comes_back(&lists(127));
    is_refused(&lists(128));

    let deep = |levels: usize, end: Deep| {
        (0..levels).fold(end, |inner, level| match level % 3 {
            0 => Deep::Newtype(Box::new(inner)),
            1 => Deep::Tuple(1, Box::new(inner)),
            _ => Deep::Struct { inner: Box::new(inner) },
        })
    };
    // Three levels of these are five brackets.
    comes_back(&deep(75, Deep::Bytes(Blob(vec![1]))));
    is_refused(&deep(76, Deep::Bytes(Blob(vec![1]))));
    comes_back(&deep(76, Deep::End));
    is_refused(&deep(77, Deep::End));
    is_refused(&deep(2000, Deep::End));
}

#[test]
fn what_is_not_all_of_a_value_is_undecodable() {
    for bytes in [&b"1 2"[..], b"[1]x", b"", b"[", b"\"\xff\"", b"null"] {
        let error = decode::<Vec<u8>>(bytes).unwrap_err();
        assert!(matches!(error, Error::Undecodable(Undecodable::Result(_))), "{error:?}");
    }
    decode::<Vec<u8>>(b"[1] \n").unwrap();
    decode::<Value>("[".repeat(100_000).as_bytes()).unwrap_err();
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Charged { id: u64 },
    Refunded { id: u64, refund: u64 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Totals { by_account: BTreeMap<u64, i64> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flattened {
    total: u8,
    #[serde(flatten)]
    by_account: BTreeMap<u64, i64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FlattenedLong {
    #[serde(flatten)]
    inner: Long,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Long {
    number: u128,
}

fn one() -> u8 {
    1
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct OtherDefault {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    absent: Option<u8>,
    #[serde(skip_serializing_if = "is_zero", default = "one")]
    number: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct NotRead {
    #[serde(skip_deserializing)]
    number: u8,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Renamed {
    #[serde(rename(serialize = "written", deserialize = "read"))]
    number: u8,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Defaulted {
    #[serde(rename(serialize = "written", deserialize = "read"), default)]
    number: u8,
}

#[test]
fn what_would_come_back_as_another_value_is_refused() {
    is_refused(&Untagged::Refunded { id: 1, refund: 2 });
    comes_back(&Untagged::Charged { id: 1 });
    is_refused(&OtherDefault { absent: None, number: 0 });
    comes_back(&OtherDefault { absent: None, number: 2 });
    is_refused(&NotRead { number: 1 });
    comes_back(&NotRead { number: 0 });
    is_refused(&Defaulted { number: 1 });
    for token in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
        let text = json!({ token: "1" });
        // Without `arbitrary_precision`, the second is a map like any other.
        match encode(&text) {
            Ok(json) => {
                assert_eq!(decode::<Value>(&json).unwrap(), text);
                comes_back_here(&text, &json);
            }
            Err(error) => assert_eq!(error, NotFaithful::Changed),
        }
    }
    is_refused(&json!({ "$serde_json::private::RawValue": "[1]" }));
}

#[test]
fn what_can_be_written_and_not_read_is_refused() {
    is_refused(&Tagged::Totals { by_account: [(1, 2)].into() });
    comes_back(&Tagged::Totals { by_account: BTreeMap::new() });
    is_refused(&Flattened { total: 1, by_account: [(1, 2)].into() });
    is_refused(&FlattenedLong { inner: Long { number: u128::MAX } });
    is_refused(&Renamed { number: 1 });
}

#[test]
fn maps_and_sets_come_back_in_any_order() {
    for _ in 0..20 {
        comes_back(&(0..50).map(|n| (n.to_string(), n)).collect::<HashMap<_, _>>());
        comes_back(&Some((0..50).collect::<HashSet<u32>>()));
        comes_back(&HashMap::from([(1, HashSet::from([1, 2, 3])), (2, HashSet::from([4, 5]))]));
    }
}

/// Comes back as the sequence in its order.
#[derive(Debug, PartialEq, Serialize)]
struct Sorted(Vec<u8>);

impl<'de> Deserialize<'de> for Sorted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut list = Vec::deserialize(deserializer)?;
        list.sort_unstable();
        Ok(Self(list))
    }
}

#[test]
fn a_sequence_comes_back_in_its_order() {
    comes_back(&Sorted(vec![1, 2]));
    is_refused(&Sorted(vec![2, 1]));
    // The shorter one is the beginning of the longer one.
    is_refused(&Longer(12));
    is_refused(&Shorter(12));
}

macro_rules! read_as {
    ($name:ident, $read:expr) => {
        #[derive(Debug, PartialEq, Serialize)]
        struct $name(u8);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                u8::deserialize(deserializer).map($read).map(Self)
            }
        }
    };
}

read_as!(Longer, |number: u8| 10 * number + 1);
read_as!(Shorter, |number: u8| number / 10);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Failure {
    Declined,
    #[serde(skip)]
    Idempotency,
}

#[test]
fn a_skipped_variant_is_told_apart() {
    comes_back(&Failure::Declined);
    assert_eq!(encode(&Failure::Idempotency), Err(NotFaithful::Skipped));
    assert_eq!(encode_here(&Failure::Idempotency, usize::MAX), Err(NotFaithful::Skipped));
    assert_eq!(encode(&Some(Newtype(Failure::Idempotency))), Err(NotFaithful::Skipped));
    // A part of what is to be kept.
    assert_eq!(encode(&vec![Failure::Idempotency]), Err(NotFaithful::Changed));
    assert_eq!(encode(&Err::<u8, _>(Failure::Idempotency)), Err(NotFaithful::Changed));
}
