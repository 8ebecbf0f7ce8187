//! serde's data model, mapped to the text of a key.

use std::{fmt, ops::Range};

use serde::ser::{self, Impossible, Serialize};

use super::text::Text;
use crate::request::{
    compound::{compound_sequence, compound_struct},
    error::KeyError,
    fingerprint::{MAX_DEPTH, set_name},
    number::{self, Number},
};

/// A [`KeyError`] as serde wants it.
#[derive(Debug)]
pub(super) struct Failure(pub(super) KeyError);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failure {}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self(error)
    }
}

impl ser::Error for Failure {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(KeyError::Failed)
    }
}

fn unsupported<T>(kind: &'static str) -> Result<T, Failure> {
    Err(Failure(KeyError::Unsupported(kind)))
}

const fn missing() -> Result<(), Failure> {
    Err(Failure(KeyError::Missing))
}

/// What a value is for a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// All of a key or of a hole: it must say something.
    Key,
    /// All of a variant.
    Variant,
    /// One of several.
    Part,
}

impl Place {
    /// True if the value ends where its enclosure ends. Then the elements of a sequence of two or more need no parentheses of
    /// their own.
    fn is_whole(self) -> bool {
        self != Self::Part
    }
}

/// Writes one value.
pub(super) struct Writer<'a> {
    text: &'a mut Text,
    place: Place,
    depth: u8,
}

impl<'a> Writer<'a> {
    pub(super) const fn whole(text: &'a mut Text) -> Self {
        Self { text, place: Place::Key, depth: 0 }
    }

    fn integer(self, value: impl fmt::Display) -> Result<(), Failure> {
        self.text.raw("~")?;
        Ok(self.text.display(&value)?)
    }

    fn variant(&mut self, name: &str) -> Result<(), Failure> {
        self.text.raw("~:")?;
        Ok(self.text.escaped(name)?)
    }

    fn sequence(self, depth: u8, closing: &'static str) -> Result<Sequence<'a>, Failure> {
        let Self { text, place, .. } = self;
        if !place.is_whole() {
            text.raw("(")?;
        }
        Ok(Sequence { start: text.position(), text, place, depth, len: 0, closing })
    }

    fn fields(self, depth: u8, closing: &'static str) -> Result<Fields<'a>, Failure> {
        let Self { text, place, .. } = self;
        text.raw("~(")?;
        let start = text.position();
        Ok(Fields { start, text, place, depth, written: Vec::new(), closing, is_number: false })
    }

    fn deeper(&self) -> Result<u8, Failure> {
        if self.depth == MAX_DEPTH { unsupported("value nested more than 128 levels deep") } else { Ok(self.depth + 1) }
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, v: $type) -> Result<(), Failure> {
            self.integer(v)
        }
    )*};
}

impl<'a> ser::Serializer for Writer<'a> {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Sequence<'a>;
    type SerializeTuple = Sequence<'a>;
    type SerializeTupleStruct = Sequence<'a>;
    type SerializeTupleVariant = Sequence<'a>;
    type SerializeMap = Impossible<(), Failure>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    integers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    );

    fn serialize_bool(self, v: bool) -> Result<(), Failure> {
        Ok(self.text.raw(if v { "~true" } else { "~false" })?)
    }

    fn serialize_f32(self, _: f32) -> Result<(), Failure> {
        unsupported("float")
    }

    fn serialize_f64(self, _: f64) -> Result<(), Failure> {
        unsupported("float")
    }

    fn serialize_char(self, v: char) -> Result<(), Failure> {
        self.text.raw("~'")?;
        Ok(self.text.escaped(v.encode_utf8(&mut [0; 4]))?)
    }

    fn serialize_str(self, v: &str) -> Result<(), Failure> {
        if v.is_empty() { missing() } else { Ok(self.text.escaped(v)?) }
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Failure> {
        let start = self.text.position();
        self.text.display(value)?;
        if self.text.position() == start { missing() } else { Ok(()) }
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), Failure> {
        if v.is_empty() {
            return missing();
        }
        self.text.raw("~x")?;
        Ok(self.text.hex(v)?)
    }

    fn serialize_none(self) -> Result<(), Failure> {
        missing()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        // Since `None` is refused, `Some(x)` shares its text with no other value of its type.
        value.serialize(Self { depth: self.deeper()?, ..self })
    }

    fn serialize_unit(self) -> Result<(), Failure> {
        // Also what the null of a JSON value comes as.
        missing()
    }

    fn serialize_unit_struct(mut self, name: &'static str) -> Result<(), Failure> {
        if self.place == Place::Key { missing() } else { self.variant(name) }
    }

    fn serialize_unit_variant(mut self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Failure> {
        self.variant(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Failure> {
        value.serialize(Self { depth: self.deeper()?, ..self })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        let depth = self.deeper()?;
        self.variant(variant)?;
        self.text.raw("(")?;
        value.serialize(Writer { text: &mut *self.text, place: Place::Variant, depth })?;
        Ok(self.text.raw(")")?)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Sequence<'a>, Failure> {
        let depth = self.deeper()?;
        self.sequence(depth, "")
    }

    fn serialize_tuple(self, len: usize) -> Result<Sequence<'a>, Failure> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Sequence<'a>, Failure> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Sequence<'a>, Failure> {
        let depth = self.deeper()?;
        self.variant(variant)?;
        self.text.raw("(")?;
        Self { place: Place::Variant, ..self }.sequence(depth, ")")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Failure> {
        unsupported("map")
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Fields<'a>, Failure> {
        let depth = self.deeper()?;
        if name == number::NAME {
            let Self { text, place, .. } = self;
            let start = text.position();
            return Ok(Fields { start, text, place, depth, written: Vec::new(), closing: "", is_number: true });
        }
        self.fields(depth, "")
    }

    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Failure> {
        let depth = self.deeper()?;
        self.variant(variant)?;
        self.text.raw("(")?;
        Self { place: Place::Variant, ..self }.fields(depth, ")")
    }

    fn collect_seq<I>(self, iter: I) -> Result<(), Failure>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        // These are iterated in another order each time, or in one that does not count.
        if matches!(set_name::<I>(), Some("HashSet" | "IndexSet")) {
            return unsupported("set without an order");
        }
        let mut sequence = self.serialize_seq(None)?;
        iter.into_iter().try_for_each(|element| sequence.element(&element))?;
        sequence.finish()
    }
}

/// Writes a part of a value, and does not forget it if that fails.
fn part<T: Serialize + ?Sized>(text: &mut Text, depth: u8, value: &T) -> Result<(), Failure> {
    value
        .serialize(Writer { text: &mut *text, place: Place::Part, depth })
        .map_err(|Failure(error)| Failure(text.fail(error)))
}

/// A sequence or tuple that is being written.
pub(super) struct Sequence<'a> {
    text: &'a mut Text,
    place: Place,
    depth: u8,
    start: usize,
    len: usize,
    closing: &'static str,
}

impl Sequence<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        if self.len > 0 {
            self.text.raw(",")?;
        }
        self.len += 1;
        part(self.text, self.depth, value)
    }

    fn finish(self) -> Result<(), Failure> {
        if self.len == 0 && self.place == Place::Key {
            return missing();
        }
        if !self.place.is_whole() {
            self.text.raw(")")?;
        } else if self.len < 2 {
            // Without the comma of a pair it would look like its only element, or like nothing.
            self.text.enclose(self.start)?;
        }
        Ok(self.text.raw(self.closing)?)
    }
}

/// A struct that is being written.
pub(super) struct Fields<'a> {
    text: &'a mut Text,
    place: Place,
    depth: u8,
    start: usize,
    written: Vec<(&'static str, Range<usize>)>,
    closing: &'static str,
    /// True for a number of `serde_json`, which is written as the struct's only field.
    is_number: bool,
}

impl Fields<'_> {
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Failure> {
        if self.is_number {
            let number = Number::of(value).ok_or(Failure(KeyError::Failed))?;
            return part(self.text, self.depth, &number);
        }
        if !self.written.is_empty() {
            self.text.raw(",")?;
        }
        let start = self.text.position();
        self.text.field_name(name)?;
        self.text.raw("=")?;
        part(self.text, self.depth, value)?;
        self.written.push((name, start..self.text.position()));
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        if self.is_number {
            return Ok(());
        }
        if self.written.is_empty() && self.place == Place::Key {
            return missing();
        }
        if !self.written.is_sorted_by_key(|(name, _)| *name) {
            self.written.sort_by_key(|(name, _)| *name);
            let sorted: Vec<_> = self.written.into_iter().map(|(_, range)| self.text.written(range)).collect();
            let sorted = sorted.join(",");
            self.text.replace(self.start, &sorted);
        }
        self.text.raw(")")?;
        Ok(self.text.raw(self.closing)?)
    }
}

compound_sequence!(Failure, Sequence, Sequence::finish);
compound_struct!(Failure, Fields, Fields::finish);
