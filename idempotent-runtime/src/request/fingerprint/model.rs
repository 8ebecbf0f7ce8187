//! Values of serde's data model, for tests: to serialize, to read from the vectors, to make at random.

use proptest::prelude::*;
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _, SerializeStruct as _},
};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Model {
    Unit,
    None,
    Some(Box<Model>),
    Bool(bool),
    Natural(u128),
    /// -1 - n.
    Negative(u128),
    /// The bits.
    Float(u64),
    Char(char),
    String(String),
    Bytes(Vec<u8>),
    Sequence(Vec<Model>),
    Set(Vec<Model>),
    Map(Vec<(Model, Model)>),
    Struct(Vec<(&'static str, Model)>),
    UnitVariant(&'static str),
    Variant(&'static str, Box<Model>),
}

/// A set to the serializer, by its name.
struct HashSet<'a>(&'a [Model]);

impl<'a> IntoIterator for &HashSet<'a> {
    type Item = &'a Model;
    type IntoIter = std::slice::Iter<'a, Model>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Serialize for Model {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unit => serializer.serialize_unit(),
            Self::None => serializer.serialize_none(),
            Self::Some(value) => serializer.serialize_some(value),
            Self::Bool(v) => serializer.serialize_bool(*v),
            Self::Natural(n) => match u64::try_from(*n) {
                Ok(n) => serializer.serialize_u64(n),
                Err(_) => serializer.serialize_u128(*n),
            },
            Self::Negative(n) => match i64::try_from(*n) {
                Ok(n) => serializer.serialize_i64(-1 - n),
                Err(_) => serializer.serialize_i128(-1 - i128::try_from(*n).unwrap()),
            },
            Self::Float(bits) => serializer.serialize_f64(f64::from_bits(*bits)),
            Self::Char(v) => serializer.serialize_char(*v),
            Self::String(v) => serializer.serialize_str(v),
            Self::Bytes(v) => serializer.serialize_bytes(v),
            Self::Sequence(elements) => {
                let mut sequence = serializer.serialize_seq(None)?;
                elements.iter().try_for_each(|element| sequence.serialize_element(element))?;
                sequence.end()
            }
            Self::Set(elements) => serializer.collect_seq(&HashSet(elements)),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(None)?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
            Self::Struct(fields) => {
                let mut fields_out = serializer.serialize_struct("Struct", fields.len())?;
                fields.iter().try_for_each(|(name, value)| fields_out.serialize_field(name, value))?;
                fields_out.end()
            }
            Self::UnitVariant(name) => serializer.serialize_unit_variant("Enum", 0, name),
            Self::Variant(name, value) => serializer.serialize_newtype_variant("Enum", 0, name, value),
        }
    }
}

impl Model {
    /// Reads the notation of the vectors: an object whose one key says what its value is.
    pub(crate) fn from_vector(vector: &Value) -> Self {
        let (kind, value) = vector.as_object().unwrap().iter().next().unwrap();
        let text = || value.as_str().unwrap();
        let list = || value.as_array().unwrap().iter();
        let name = |value: &Value| -> &'static str { value.as_str().unwrap().to_owned().leak() };
        match kind.as_str() {
            "unit" => Self::Unit,
            "none" => Self::None,
            "some" => Self::Some(Box::new(Self::from_vector(value))),
            "bool" => Self::Bool(value.as_bool().unwrap()),
            "integer" => match text().parse() {
                Ok(n) => Self::Natural(n),
                Err(_) => Self::Negative(u128::try_from(-1 - text().parse::<i128>().unwrap()).unwrap()),
            },
            "float" => Self::Float(u64::from_str_radix(text(), 16).unwrap()),
            "char" => Self::Char(text().parse().unwrap()),
            "string" => Self::String(text().to_owned()),
            "bytes" => Self::Bytes(unhex(text())),
            "sequence" => Self::Sequence(list().map(Self::from_vector).collect()),
            "set" => Self::Set(list().map(Self::from_vector).collect()),
            "map" => Self::Map(list().map(|e| (Self::from_vector(&e[0]), Self::from_vector(&e[1]))).collect()),
            "struct" => Self::Struct(list().map(|e| (name(&e[0]), Self::from_vector(&e[1]))).collect()),
            "variant" => match value.as_array().unwrap().as_slice() {
                [variant] => Self::UnitVariant(name(variant)),
                [variant, value] => Self::Variant(name(variant), Box::new(Self::from_vector(value))),
                _ => panic!("a variant has a name and perhaps a value"),
            },
            kind => panic!("{kind} is no kind of value"),
        }
    }

    /// The value without that which does not count for a fingerprint: order, and whether a map is a struct.
    pub(crate) fn unordered(&self) -> Self {
        match self {
            Self::Some(value) => Self::Some(Box::new(value.unordered())),
            Self::Sequence(elements) => Self::Sequence(elements.iter().map(Self::unordered).collect()),
            Self::Set(elements) => {
                let mut elements: Vec<_> = elements.iter().map(Self::unordered).collect();
                elements.sort();
                Self::Set(elements)
            }
            Self::Map(entries) => {
                let mut entries: Vec<_> = entries.iter().map(|(k, v)| (k.unordered(), v.unordered())).collect();
                entries.sort();
                Self::Map(entries)
            }
            Self::Struct(fields) => Self::Map(
                fields.iter().map(|(name, value)| (Self::String((*name).to_owned()), value.clone())).collect(),
            )
            .unordered(),
            Self::Variant(name, value) => Self::Variant(name, Box::new(value.unordered())),
            other => other.clone(),
        }
    }

    /// The value without that which does not count for a key: the order of fields, and whether there is a `Some`.
    pub(crate) fn as_key(&self) -> Self {
        match self {
            Self::Some(value) => value.as_key(),
            Self::Sequence(elements) => Self::Sequence(elements.iter().map(Self::as_key).collect()),
            Self::Struct(fields) => {
                let mut fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_key())).collect();
                fields.sort_by_key(|(name, _)| *name);
                Self::Struct(fields)
            }
            Self::Variant(name, value) => Self::Variant(name, Box::new(value.as_key())),
            other => other.clone(),
        }
    }

    /// The value with every map, struct and set the other way round.
    pub(crate) fn reversed(&self) -> Self {
        match self {
            Self::Some(value) => Self::Some(Box::new(value.reversed())),
            Self::Sequence(elements) => Self::Sequence(elements.iter().map(Self::reversed).collect()),
            Self::Set(elements) => Self::Set(elements.iter().rev().map(Self::reversed).collect()),
            Self::Map(entries) => Self::Map(entries.iter().rev().map(|(k, v)| (k.reversed(), v.reversed())).collect()),
            Self::Struct(fields) => {
                Self::Struct(fields.iter().rev().map(|(name, value)| (*name, value.reversed())).collect())
            }
            Self::Variant(name, value) => Self::Variant(name, Box::new(value.reversed())),
            other => other.clone(),
        }
    }
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub(crate) const NAMES: [&str; 9] = ["", "a", "ab", "b", "b=", "true", "long_name_1", "long_name_2", "ü,("];

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&NAMES[..])
}

/// Few and nasty ones, so that different values often have the same parts.
fn string() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a0~(),=:%#'x|]{0,3}",
        1 => Just("true".to_owned()),
        1 => Just("~1".to_owned()),
        1 => ".{0,9}",
        1 => (120_usize..140).prop_map(|len| "x".repeat(len)),
    ]
}

fn key_leaf() -> impl Strategy<Value = Model> {
    prop_oneof![
        any::<bool>().prop_map(Model::Bool),
        prop_oneof![(0_u128..3), any::<u64>().prop_map(u128::from), any::<u128>()].prop_map(Model::Natural),
        prop_oneof![(0_u128..3), any::<u64>().prop_map(u128::from), 0..=i128::MAX as u128].prop_map(Model::Negative),
        prop_oneof![Just('a'), Just(','), any::<char>()].prop_map(Model::Char),
        string().prop_filter("a key is not empty", |text| !text.is_empty()).prop_map(Model::String),
        prop::collection::vec(any::<u8>(), 1..4).prop_map(Model::Bytes),
        name().prop_map(Model::UnitVariant),
    ]
}

fn fields(value: impl Strategy<Value = Model>) -> impl Strategy<Value = Vec<(&'static str, Model)>> {
    prop::collection::vec((name(), value), 0..6).prop_map(|mut fields| {
        let mut seen = std::collections::BTreeSet::new();
        fields.retain(|(name, _)| seen.insert(*name));
        fields
    })
}

/// Any value that can be a key.
pub(crate) fn any_key() -> impl Strategy<Value = Model> {
    let any = key_leaf().prop_recursive(4, 24, 4, |value| {
        prop_oneof![
            1 => value.clone().prop_map(|value| Model::Some(Box::new(value))),
            3 => prop::collection::vec(value.clone(), 0..4).prop_map(Model::Sequence),
            1 => fields(value.clone()).prop_map(Model::Struct),
            1 => (name(), value).prop_map(|(name, value)| Model::Variant(name, Box::new(value))),
        ]
    });
    any.prop_filter("it says something", |key| match key.as_key() {
        Model::Sequence(elements) => !elements.is_empty(),
        Model::Struct(fields) => !fields.is_empty(),
        _ => true,
    })
}

/// Anything.
pub(crate) fn any_model() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        4 => key_leaf(),
        1 => prop_oneof![Just(Model::String(String::new())), Just(Model::Bytes(Vec::new()))],
        1 => Just(Model::Unit),
        1 => Just(Model::None),
        1 => any::<f64>().prop_filter("no NaN", |v| !v.is_nan()).prop_map(|v| Model::Float(v.to_bits())),
    ];
    leaf.prop_recursive(5, 48, 8, |value| {
        prop_oneof![
            value.clone().prop_map(|value| Model::Some(Box::new(value))),
            prop::collection::vec(value.clone(), 0..5).prop_map(Model::Sequence),
            prop::collection::vec(value.clone(), 0..5).prop_map(Model::Set),
            prop::collection::vec((value.clone(), value.clone()), 0..8).prop_map(Model::Map),
            fields(value.clone()).prop_map(Model::Struct),
            (name(), value).prop_map(|(name, value)| Model::Variant(name, Box::new(value))),
        ]
    })
}
