//! The numbers of `serde_json`, which do not depend on its features here.
//!
//! With its feature `arbitrary_precision`, which any crate of a program can switch on, `serde_json::Number` serializes as
//! a struct with a name of its own, and keeps the text that was parsed. Here it counts as the number that it is without
//! that feature: an integer if it fits 64 bits, otherwise the nearest `f64`.

use std::fmt;

use serde::ser::{self, Impossible, Serialize, Serializer};

/// The name of that struct and of its only field: `TOKEN` in `serde_json`, `src/number.rs`.
pub(super) const NAME: &str = "$serde_json::private::Number";

/// A number of `serde_json`.
pub(super) enum Number {
    Natural(u64),
    Negative(i64),
    Float(f64),
}

impl Number {
    /// Reads the number from the field of the struct. `None` if it holds something else, or a number beyond all `f64`.
    pub(super) fn of<T: Serialize + ?Sized>(field: &T) -> Option<Self> {
        field.serialize(Text).ok()
    }

    fn parse(text: &str) -> Option<Self> {
        if let Ok(natural) = text.parse() {
            return Some(Self::Natural(natural));
        }
        match text.parse::<i64>() {
            Ok(negative) if negative < 0 => Some(Self::Negative(negative)),
            // Also `-0`, which is a float to serde_json.
            _ => text.parse().ok().filter(|float: &f64| float.is_finite()).map(Self::Float),
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Natural(number) => serializer.serialize_u64(number),
            Self::Negative(number) => serializer.serialize_i64(number),
            Self::Float(number) => serializer.serialize_f64(number),
        }
    }
}

/// Takes the text of a number, and nothing else.
struct Text;

#[derive(Debug)]
struct NoNumber;

impl fmt::Display for NoNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no number")
    }
}

impl std::error::Error for NoNumber {}

impl ser::Error for NoNumber {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! refuse {
    ($($method:ident($($type:ty),*) -> $ok:ty),* $(,)?) => {$(
        fn $method(self, $(_: $type),*) -> Result<$ok, NoNumber> {
            Err(NoNumber)
        }
    )*};
}

impl Serializer for Text {
    type Ok = Number;
    type Error = NoNumber;
    type SerializeSeq = Impossible<Number, NoNumber>;
    type SerializeTuple = Impossible<Number, NoNumber>;
    type SerializeTupleStruct = Impossible<Number, NoNumber>;
    type SerializeTupleVariant = Impossible<Number, NoNumber>;
    type SerializeMap = Impossible<Number, NoNumber>;
    type SerializeStruct = Impossible<Number, NoNumber>;
    type SerializeStructVariant = Impossible<Number, NoNumber>;

    fn serialize_str(self, text: &str) -> Result<Number, NoNumber> {
        Number::parse(text).ok_or(NoNumber)
    }

    refuse!(
        serialize_bool(bool) -> Number,
        serialize_i8(i8) -> Number,
        serialize_i16(i16) -> Number,
        serialize_i32(i32) -> Number,
        serialize_i64(i64) -> Number,
        serialize_u8(u8) -> Number,
        serialize_u16(u16) -> Number,
        serialize_u32(u32) -> Number,
        serialize_u64(u64) -> Number,
        serialize_f32(f32) -> Number,
        serialize_f64(f64) -> Number,
        serialize_char(char) -> Number,
        serialize_bytes(&[u8]) -> Number,
        serialize_none() -> Number,
        serialize_unit() -> Number,
        serialize_unit_struct(&'static str) -> Number,
        serialize_unit_variant(&'static str, u32, &'static str) -> Number,
        serialize_seq(Option<usize>) -> Self::SerializeSeq,
        serialize_tuple(usize) -> Self::SerializeTuple,
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant,
        serialize_map(Option<usize>) -> Self::SerializeMap,
        serialize_struct(&'static str, usize) -> Self::SerializeStruct,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant,
    );

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Number, NoNumber> {
        Err(NoNumber)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<Number, NoNumber> {
        Err(NoNumber)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Number, NoNumber> {
        Err(NoNumber)
    }
}
