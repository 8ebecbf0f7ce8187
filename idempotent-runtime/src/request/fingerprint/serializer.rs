//! serde's data model, mapped to the encoding.

use std::fmt::{self, Write as _};

use serde::ser::{self, Serialize};

use super::{
    encoder::{Encoder, Unordered, tag},
    set::set_name,
};
use crate::request::{
    compound::{compound_sequence, compound_struct},
    number::{self, Number},
};

/// Why a value has no encoding. The texts of `Serialize` implementations are not kept: they may quote the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reason(pub(super) &'static str);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Reason {}

impl ser::Error for Reason {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self("its `Serialize` implementation failed")
    }
}

impl Encoder {
    /// A value within a value.
    fn nested<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Reason> {
        self.enter()?;
        value.serialize(&mut *self)?;
        self.leave();
        Ok(())
    }

    fn sequence(&mut self) -> Result<Sequence<'_>, Reason> {
        self.enter()?;
        self.tag(tag::SEQUENCE);
        Ok(Sequence(self))
    }

    fn map(&mut self) -> Result<Map<'_>, Reason> {
        let entries = Some(self.open(tag::MAP)?);
        Ok(Map { encoder: self, entries })
    }
}

impl<'a> ser::Serializer for &'a mut Encoder {
    type Ok = ();
    type Error = Reason;
    type SerializeSeq = Sequence<'a>;
    type SerializeTuple = Sequence<'a>;
    type SerializeTupleStruct = Sequence<'a>;
    type SerializeTupleVariant = Sequence<'a>;
    type SerializeMap = Map<'a>;
    type SerializeStruct = Map<'a>;
    type SerializeStructVariant = Map<'a>;

    fn serialize_bool(self, v: bool) -> Result<(), Reason> {
        self.tag(if v { tag::TRUE } else { tag::FALSE });
        Ok(())
    }

    fn serialize_i8(self, v: i8) -> Result<(), Reason> {
        self.serialize_i64(v.into())
    }

    fn serialize_i16(self, v: i16) -> Result<(), Reason> {
        self.serialize_i64(v.into())
    }

    fn serialize_i32(self, v: i32) -> Result<(), Reason> {
        self.serialize_i64(v.into())
    }

    fn serialize_i64(self, v: i64) -> Result<(), Reason> {
        if v < 0 {
            self.integer(tag::NEGATIVE, v.unsigned_abs() - 1);
        } else {
            self.integer(tag::NATURAL, v.unsigned_abs());
        }
        Ok(())
    }

    fn serialize_i128(self, v: i128) -> Result<(), Reason> {
        if v < 0 {
            self.long_integer(tag::NEGATIVE, v.unsigned_abs() - 1);
        } else {
            self.long_integer(tag::NATURAL, v.unsigned_abs());
        }
        Ok(())
    }

    fn serialize_u8(self, v: u8) -> Result<(), Reason> {
        self.serialize_u64(v.into())
    }

    fn serialize_u16(self, v: u16) -> Result<(), Reason> {
        self.serialize_u64(v.into())
    }

    fn serialize_u32(self, v: u32) -> Result<(), Reason> {
        self.serialize_u64(v.into())
    }

    fn serialize_u64(self, v: u64) -> Result<(), Reason> {
        self.integer(tag::NATURAL, v);
        Ok(())
    }

    fn serialize_u128(self, v: u128) -> Result<(), Reason> {
        self.long_integer(tag::NATURAL, v);
        Ok(())
    }

    fn serialize_f32(self, v: f32) -> Result<(), Reason> {
        self.serialize_f64(v.into())
    }

    fn serialize_f64(self, v: f64) -> Result<(), Reason> {
        if v.is_nan() {
            return Err(Reason("it contains a NaN, which equals nothing"));
        }
        self.tag(tag::FLOAT);
        self.bytes(v.to_bits().to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, v: char) -> Result<(), Reason> {
        self.tag(tag::CHAR);
        self.bytes(u32::from(v).to_le_bytes());
        Ok(())
    }

    fn serialize_str(self, v: &str) -> Result<(), Reason> {
        self.string(tag::STRING, v.as_bytes());
        Ok(())
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Reason> {
        self.pieces(|buffer| write!(buffer, "{value}").map_err(ser::Error::custom))
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), Reason> {
        self.string(tag::BYTES, v);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Reason> {
        self.tag(tag::NONE);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Reason> {
        self.tag(tag::SOME);
        self.nested(value)
    }

    fn serialize_unit(self) -> Result<(), Reason> {
        self.tag(tag::UNIT);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Reason> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Reason> {
        self.string(tag::UNIT_VARIANT, variant.as_bytes());
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Reason> {
        self.nested(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Reason> {
        self.string(tag::VARIANT, variant.as_bytes());
        self.nested(value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Sequence<'a>, Reason> {
        self.sequence()
    }

    fn serialize_tuple(self, _: usize) -> Result<Sequence<'a>, Reason> {
        self.sequence()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Sequence<'a>, Reason> {
        self.sequence()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Sequence<'a>, Reason> {
        self.string(tag::VARIANT, variant.as_bytes());
        self.sequence()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Map<'a>, Reason> {
        self.map()
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Map<'a>, Reason> {
        if name == number::NAME { Ok(Map { encoder: self, entries: None }) } else { self.map() }
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Map<'a>, Reason> {
        self.string(tag::VARIANT, variant.as_bytes());
        self.map()
    }

    fn collect_seq<I>(self, iter: I) -> Result<(), Reason>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        if set_name::<I>().is_some() {
            let entries = self.open(tag::SET)?;
            iter.into_iter().try_for_each(|element| self.key(&element))?;
            self.close(entries);
            Ok(())
        } else {
            let mut sequence = self.sequence()?;
            iter.into_iter().try_for_each(|element| sequence.element(&element))?;
            sequence.finish()
        }
    }
}

/// A sequence or tuple that is being written.
pub(super) struct Sequence<'a>(&'a mut Encoder);

impl Sequence<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Reason> {
        self.0.part(value)?;
        self.0.drain();
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "serde's traits want it")]
    fn finish(self) -> Result<(), Reason> {
        self.0.leave();
        self.0.tag(tag::END);
        Ok(())
    }
}

/// A map or struct that is being written.
pub(super) struct Map<'a> {
    encoder: &'a mut Encoder,
    /// `None` for a number of `serde_json`, which is written as the struct's only field.
    entries: Option<Unordered>,
}

impl Map<'_> {
    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Reason> {
        if self.entries.is_none() {
            return self.number(value);
        }
        self.encoder.name(name);
        self.encoder.value(value)
    }

    #[cold]
    fn number<T: Serialize + ?Sized>(&mut self, field: &T) -> Result<(), Reason> {
        let number = Number::of(field).ok_or(Reason("it contains a number beyond the largest `f64`"))?;
        number.serialize(&mut *self.encoder)
    }

    #[expect(clippy::unnecessary_wraps, reason = "serde's traits want it")]
    fn finish(self) -> Result<(), Reason> {
        if let Some(entries) = self.entries {
            self.encoder.close(entries);
        }
        Ok(())
    }
}

impl ser::SerializeMap for Map<'_> {
    type Ok = ();
    type Error = Reason;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Reason> {
        self.encoder.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Reason> {
        self.encoder.value(value)
    }

    fn end(self) -> Result<(), Reason> {
        self.finish()
    }
}

compound_sequence!(Reason, Sequence, Sequence::finish);
compound_struct!(Reason, Map, Map::finish);
