//! serde's data model, mapped to the compact form, as `serde_json` maps it to JSON.

use std::fmt::{self, Write as _};

use serde::ser::{self, Impossible, Serialize};

use super::{MAX_DEPTH, tag};
use crate::buffer::{Buffer, copy};

/// The value has no compact form.
#[derive(Debug)]
pub(super) struct NoForm;

impl fmt::Display for NoForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no compact form")
    }
}

impl std::error::Error for NoForm {}

impl ser::Error for NoForm {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// Appends values to a buffer.
pub(super) struct Writer<'a> {
    buffer: &'a mut Buffer,
    /// The number of open brackets in the JSON of this.
    depth: u8,
    /// True once a part has failed. A `Serialize` may go on all the same; JSON would be broken then.
    failed: bool,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(buffer: &'a mut Buffer) -> Self {
        Self { buffer, depth: 0, failed: false }
    }

    /// Writes a whole value.
    pub(super) fn whole<T: Serialize>(&mut self, value: &T) -> Result<(), NoForm> {
        value.serialize(&mut *self)?;
        if self.failed { Err(NoForm) } else { Ok(()) }
    }

    /// Writes a part of a value. An error sticks.
    #[inline]
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoForm> {
        let written = value.serialize(&mut *self);
        if written.is_err() {
            self.failed = true;
        }
        written
    }

    #[inline]
    pub(super) fn tag(&mut self, tag: u8) {
        self.buffer.array([tag]);
    }

    /// `base` plus the number of groups that the number has, and these, the lowest first.
    #[inline]
    pub(super) fn number(&mut self, base: u8, number: u64) {
        let groups = (u64::BITS - number.leading_zeros()).div_ceil(tag::GROUP_BITS) as usize;
        #[expect(clippy::cast_possible_truncation, reason = "at most 13")]
        self.tag(base + groups as u8);
        // All of them, then cut: faster than a loop of varying length.
        self.buffer.prefix(groups_of(number), groups);
    }

    #[inline]
    pub(super) fn integer(&mut self, v: i64) {
        if v < 0 {
            self.number(tag::NEGATIVE, !v.cast_unsigned());
        } else {
            self.number(tag::NATURAL, v.cast_unsigned());
        }
    }

    pub(super) fn float(&mut self, v: f64) -> Result<(), NoForm> {
        if !v.is_finite() {
            return Err(NoForm);
        }
        self.tag(tag::F64);
        self.buffer.array(groups_of(v.to_bits()));
        Ok(())
    }

    #[inline]
    pub(super) fn string(&mut self, text: &str) {
        let text = text.as_bytes();
        if text.len() < 32
            && let [to_tag, to @ ..] = self.buffer.room(1 + text.len())
        {
            #[expect(clippy::cast_possible_truncation, reason = "below 32")]
            let len = text.len() as u8;
            *to_tag = tag::SHORT + len;
            copy(to, text);
        } else {
            self.number(tag::STRING, text.len() as u64);
            self.buffer.append(text);
        }
    }

    /// Opens `levels` brackets, of which the last begins with this tag.
    #[inline]
    pub(super) fn open(&mut self, tag: u8, levels: u8) -> Result<(), NoForm> {
        if self.depth + levels > MAX_DEPTH {
            return Err(NoForm);
        }
        self.depth += levels;
        self.tag(tag);
        Ok(())
    }

    #[inline]
    pub(super) fn close(&mut self, levels: u8) {
        self.depth -= levels;
        for _ in 0..levels {
            self.tag(tag::END);
        }
    }
}

/// The groups of a number, the lowest first.
#[inline]
fn groups_of(number: u64) -> [u8; tag::MOST_GROUPS as usize] {
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are wanted")]
    std::array::from_fn(|group| (number >> (tag::GROUP_BITS as usize * group)) as u8 & 0x1f | 0x60)
}

/// The names of the structs by which `serde_json` recognises its own numbers and raw text.
pub(super) fn is_of_serde_json(name: &str) -> bool {
    name.starts_with('$')
}

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {$(
        #[inline]
        fn $method(self, v: $type) -> Result<(), NoForm> {
            self.integer(v.into());
            Ok(())
        }
    )*};
}

macro_rules! naturals {
    ($($method:ident: $type:ty),*) => {$(
        #[inline]
        fn $method(self, v: $type) -> Result<(), NoForm> {
            self.number(tag::NATURAL, v.into());
            Ok(())
        }
    )*};
}

impl<'a, 'b> ser::Serializer for &'b mut Writer<'a> {
    type Ok = ();
    type Error = NoForm;
    type SerializeSeq = Compound<'a, 'b>;
    type SerializeTuple = Compound<'a, 'b>;
    type SerializeTupleStruct = Compound<'a, 'b>;
    type SerializeTupleVariant = Compound<'a, 'b>;
    type SerializeMap = Compound<'a, 'b>;
    type SerializeStruct = Compound<'a, 'b>;
    type SerializeStructVariant = Compound<'a, 'b>;

    integers!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64);
    naturals!(serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    fn serialize_i128(self, _: i128) -> Result<(), NoForm> {
        Err(NoForm)
    }

    fn serialize_u128(self, _: u128) -> Result<(), NoForm> {
        Err(NoForm)
    }

    #[inline]
    fn serialize_bool(self, v: bool) -> Result<(), NoForm> {
        self.tag(if v { tag::TRUE } else { tag::FALSE });
        Ok(())
    }

    fn serialize_f32(self, v: f32) -> Result<(), NoForm> {
        if !v.is_finite() {
            return Err(NoForm);
        }
        self.tag(tag::F32);
        self.buffer.prefix(groups_of(v.to_bits().into()), 7);
        Ok(())
    }

    fn serialize_f64(self, v: f64) -> Result<(), NoForm> {
        self.float(v)
    }

    fn serialize_char(self, v: char) -> Result<(), NoForm> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, v: &str) -> Result<(), NoForm> {
        self.string(v);
        Ok(())
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), NoForm> {
        let mut text = String::new();
        write!(text, "{value}").map_err(|_| NoForm)?;
        self.serialize_str(&text)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), NoForm> {
        Err(NoForm)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), NoForm> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NoForm> {
        let start = self.buffer.len();
        value.serialize(&mut *self)?;
        // It would come back as `None`.
        if self.buffer.get(start, self.buffer.len()) == [tag::NULL] { Err(NoForm) } else { Ok(()) }
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), NoForm> {
        self.tag(tag::NULL);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NoForm> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), NoForm> {
        self.serialize_str(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NoForm> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), NoForm> {
        self.open(tag::MAP, 1)?;
        self.string(variant);
        value.serialize(&mut *self)?;
        self.close(1);
        Ok(())
    }

    #[inline]
    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'a, 'b>, NoForm> {
        self.open(tag::SEQUENCE, 1)?;
        Ok(Compound { writer: self, levels: 1 })
    }

    fn serialize_tuple(self, len: usize) -> Result<Compound<'a, 'b>, NoForm> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Compound<'a, 'b>, NoForm> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a, 'b>, NoForm> {
        self.open(tag::MAP, 2)?;
        self.string(variant);
        self.tag(tag::SEQUENCE);
        Ok(Compound { writer: self, levels: 2 })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Compound<'a, 'b>, NoForm> {
        self.open(tag::MAP, 1)?;
        Ok(Compound { writer: self, levels: 1 })
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Compound<'a, 'b>, NoForm> {
        if is_of_serde_json(name) {
            return Err(NoForm);
        }
        self.open(tag::MAP, 1)?;
        Ok(Compound { writer: self, levels: 1 })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a, 'b>, NoForm> {
        self.open(tag::MAP, 2)?;
        self.string(variant);
        self.tag(tag::MAP);
        Ok(Compound { writer: self, levels: 2 })
    }
}

/// A value of several parts that is being written, within so many brackets of its own.
pub(super) struct Compound<'a, 'b> {
    writer: &'b mut Writer<'a>,
    levels: u8,
}

macro_rules! elements {
    ($($trait:ident::$method:ident),*) => {$(
        impl ser::$trait for Compound<'_, '_> {
            type Ok = ();
            type Error = NoForm;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoForm> {
                self.writer.part(value)
            }

            #[inline]
            fn end(self) -> Result<(), NoForm> {
                self.writer.close(self.levels);
                Ok(())
            }
        }
    )*};
}

elements!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl ser::$trait for Compound<'_, '_> {
            type Ok = ();
            type Error = NoForm;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), NoForm> {
                self.writer.string(name);
                self.writer.part(value)
            }

            #[inline]
            fn end(self) -> Result<(), NoForm> {
                self.writer.close(self.levels);
                Ok(())
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = NoForm;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NoForm> {
        key.serialize(Key(self.writer)).inspect_err(|_| self.writer.failed = true)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoForm> {
        self.writer.part(value)
    }

    fn end(self) -> Result<(), NoForm> {
        self.writer.close(self.levels);
        Ok(())
    }
}

/// Writes the key of a map, which is a string in JSON. Keys that are none have no compact form.
struct Key<'a, 'b>(&'b mut Writer<'a>);

macro_rules! no_key {
    ($($method:ident($($type:ty),*)),*) => {$(
        fn $method(self $(, _: $type)*) -> Result<(), NoForm> {
            Err(NoForm)
        }
    )*};
}

macro_rules! no_compound_key {
    ($($method:ident($($type:ty),*)),*) => {$(
        fn $method(self $(, _: $type)*) -> Result<Impossible<(), NoForm>, NoForm> {
            Err(NoForm)
        }
    )*};
}

impl ser::Serializer for Key<'_, '_> {
    type Ok = ();
    type Error = NoForm;
    type SerializeSeq = Impossible<(), NoForm>;
    type SerializeTuple = Impossible<(), NoForm>;
    type SerializeTupleStruct = Impossible<(), NoForm>;
    type SerializeTupleVariant = Impossible<(), NoForm>;
    type SerializeMap = Impossible<(), NoForm>;
    type SerializeStruct = Impossible<(), NoForm>;
    type SerializeStructVariant = Impossible<(), NoForm>;

    no_key!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_f32(f32),
        serialize_f64(f64),
        serialize_bytes(&[u8]),
        serialize_none(),
        serialize_unit(),
        serialize_unit_struct(&'static str)
    );
    no_compound_key!(
        serialize_seq(Option<usize>),
        serialize_tuple(usize),
        serialize_tuple_struct(&'static str, usize),
        serialize_tuple_variant(&'static str, u32, &'static str, usize),
        serialize_map(Option<usize>),
        serialize_struct(&'static str, usize),
        serialize_struct_variant(&'static str, u32, &'static str, usize)
    );

    fn serialize_char(self, v: char) -> Result<(), NoForm> {
        self.0.serialize_char(v)
    }

    fn serialize_str(self, v: &str) -> Result<(), NoForm> {
        self.0.serialize_str(v)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), NoForm> {
        self.0.collect_str(value)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), NoForm> {
        self.0.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NoForm> {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), NoForm> {
        Err(NoForm)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), NoForm> {
        Err(NoForm)
    }
}
