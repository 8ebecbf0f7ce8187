//! The compact form, told to types as `serde_json` tells them JSON.

use std::fmt;

use serde::{
    de::{self, DeserializeSeed, Visitor},
    forward_to_deserialize_any,
};

use super::{MAX_DEPTH, PLAIN, WITH_ESCAPES, has_escapes, tag, writer::is_of_serde_json};

/// The type does not read the value, or asks for something that this form does not tell.
#[derive(Debug)]
pub(super) struct Unread;

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not read from its compact form")
    }
}

impl std::error::Error for Unread {}

impl de::Error for Unread {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }

    fn invalid_type(_: de::Unexpected<'_>, _: &dyn de::Expected) -> Self {
        Self
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self
    }
}

/// Reads values from text without its mark.
pub(super) struct Reader<'de> {
    text: &'de str,
    position: usize,
    /// The number of open sequences and maps.
    depth: u8,
    /// True where strings have to be looked at: those with escapes are not borrowed.
    may_have_escapes: bool,
    /// True once a part was not read. A type may go on all the same; JSON would then go on elsewhere.
    failed: bool,
}

impl<'de> Reader<'de> {
    /// Begins to read a form; `None` if it is none.
    pub(super) fn new(bytes: &'de [u8]) -> Option<Self> {
        let (&mark, rest) = bytes.split_first()?;
        let may_have_escapes = match mark {
            PLAIN => false,
            WITH_ESCAPES => true,
            _ => return None,
        };
        Some(Self { text: str::from_utf8(rest).ok()?, position: 0, depth: 0, may_have_escapes, failed: false })
    }

    /// True once everything has been read.
    pub(super) const fn is_at_end(&self) -> bool {
        self.position == self.text.len() && !self.failed
    }

    #[inline]
    pub(super) fn peek(&self) -> Result<u8, Unread> {
        self.text.as_bytes().get(self.position).copied().ok_or(Unread)
    }

    #[inline]
    pub(super) fn next(&mut self) -> Result<u8, Unread> {
        let byte = self.peek()?;
        self.position += 1;
        Ok(byte)
    }

    #[inline]
    pub(super) fn number(&mut self, groups: u8) -> Result<u64, Unread> {
        let end = self.position + usize::from(groups);
        let bytes = self.text.as_bytes().get(self.position..end).ok_or(Unread)?;
        self.position = end;
        // Bits beyond the 64th come only of damaged bytes, and are cut off.
        Ok(bytes.iter().rev().fold(0, |number, &group| number << tag::GROUP_BITS | u64::from(group & 0x1f)))
    }

    pub(super) fn float(&mut self) -> Result<f64, Unread> {
        self.number(13).map(f64::from_bits)
    }

    pub(super) fn single(&mut self) -> Result<f32, Unread> {
        let bits = u32::try_from(self.number(7)?).map_err(|_| Unread)?;
        Ok(f32::from_bits(bits))
    }

    /// Reads a string.
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'de str, Unread> {
        let len = match self.next()? {
            tag @ tag::SHORT..=tag::LAST_SHORT => usize::from(tag - tag::SHORT),
            tag @ tag::STRING..=tag::LAST_STRING => {
                usize::try_from(self.number(tag - tag::STRING)?).map_err(|_| Unread)?
            }
            _ => return Err(Unread),
        };
        let end = self.position.checked_add(len).ok_or(Unread)?;
        let text = self.text.get(self.position..end).ok_or(Unread)?;
        self.position = end;
        Ok(text)
    }

    /// Reads a string, and lends it or lets it be borrowed.
    #[inline]
    fn visit_string<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Unread> {
        let text = self.string()?;
        if self.may_have_escapes && has_escapes(text.as_bytes()) {
            visitor.visit_str(text)
        } else {
            visitor.visit_borrowed_str(text)
        }
    }

    /// Goes into a sequence or map, of which this is the tag. Only damaged bytes are nested more deeply than the form allows.
    #[inline]
    pub(super) fn begin(&mut self, tag: u8) -> Result<(), Unread> {
        if self.next()? != tag {
            return Err(Unread);
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH { self.refuse() } else { Ok(()) }
    }

    /// Reads the end of a sequence or map, whose reader has to have taken all of it.
    #[inline]
    pub(super) fn end<T>(&mut self, value: T) -> Result<T, Unread> {
        self.depth -= 1;
        if self.next()? == tag::END { Ok(value) } else { self.refuse() }
    }

    /// Refuses for good: the type is to be read from JSON.
    #[cold]
    fn refuse<T>(&mut self) -> Result<T, Unread> {
        self.failed = true;
        Err(Unread)
    }

    /// Reads a part. An error sticks.
    #[inline]
    fn part<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Unread>) -> Result<T, Unread> {
        let part = read(self);
        if part.is_err() {
            self.failed = true;
        }
        part
    }

    #[inline]
    fn integer_or_float<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Unread> {
        match self.next()? {
            tag @ tag::NATURAL..=tag::LAST_NATURAL => visitor.visit_u64(self.number(tag - tag::NATURAL)?),
            tag @ tag::NEGATIVE..=tag::LAST_NEGATIVE => visitor.visit_i64(self.negative(tag)?),
            tag::F64 => visitor.visit_f64(self.float()?),
            // JSON has fewer digits of it than a type that reads 64 bits would see here.
            tag::F32 => self.refuse(),
            _ => Err(Unread),
        }
    }

    #[inline]
    pub(super) fn negative(&mut self, tag: u8) -> Result<i64, Unread> {
        Ok(!self.number(tag - tag::NEGATIVE)?.cast_signed())
    }

    /// Skips a value.
    fn skip(&mut self) -> Result<(), Unread> {
        let mut open = 0_u32;
        loop {
            match self.next()? {
                tag::END => open = open.checked_sub(1).ok_or(Unread)?,
                tag::SEQUENCE | tag::MAP => open += 1,
                tag::NULL | tag::FALSE | tag::TRUE => {}
                tag::F64 => _ = self.number(13)?,
                tag::F32 => _ = self.number(7)?,
                tag @ (tag::NATURAL..=tag::LAST_NATURAL | tag::NEGATIVE..=tag::LAST_NEGATIVE) => {
                    self.number(tag & 0x0f)?;
                }
                _ => {
                    self.position -= 1;
                    self.string()?;
                }
            }
            if open == 0 {
                return Ok(());
            }
        }
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
            self.integer_or_float(visitor)
        }
    )*};
}

macro_rules! strings {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
            self.visit_string(visitor)
        }
    )*};
}

macro_rules! refused {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unread> {
            self.refuse()
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Unread;

    numbers!(
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f64
    );
    strings!(deserialize_char deserialize_str deserialize_string deserialize_identifier);
    refused!(deserialize_i128 deserialize_u128 deserialize_bytes deserialize_byte_buf);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        match self.peek()? {
            tag::NULL => self.deserialize_unit(visitor),
            tag::FALSE | tag::TRUE => self.deserialize_bool(visitor),
            tag::SEQUENCE => self.deserialize_seq(visitor),
            tag::MAP => self.deserialize_map(visitor),
            tag if tag < tag::STRING => self.integer_or_float(visitor),
            _ => self.deserialize_str(visitor),
        }
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        match self.next()? {
            tag::FALSE => visitor.visit_bool(false),
            tag::TRUE => visitor.visit_bool(true),
            _ => Err(Unread),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        match self.peek()? {
            tag::F32 => {
                self.position += 1;
                visitor.visit_f64(self.single()?.into())
            }
            // JSON rounds its digits to 32 bits, and not the number that they stand for.
            tag::F64 => self.refuse(),
            _ => self.integer_or_float(visitor),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        if self.peek()? == tag::NULL {
            self.position += 1;
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        if self.next()? == tag::NULL { visitor.visit_unit() } else { Err(Unread) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unread> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Unread> {
        if is_of_serde_json(name) { self.refuse() } else { visitor.visit_newtype_struct(self) }
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        self.begin(tag::SEQUENCE)?;
        let value = visitor.visit_seq(Parts(&mut *self))?;
        self.end(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Unread> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Unread> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        self.begin(tag::MAP)?;
        let value = visitor.visit_map(Parts(&mut *self))?;
        self.end(value)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unread> {
        if self.peek()? == tag::SEQUENCE { self.deserialize_seq(visitor) } else { self.deserialize_map(visitor) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unread> {
        match self.peek()? {
            tag::MAP => {
                self.begin(tag::MAP)?;
                let value = visitor.visit_enum(Parts(&mut *self))?;
                self.end(value)
            }
            tag if tag >= tag::STRING => visitor.visit_enum(UnitVariant(self)),
            _ => Err(Unread),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        self.skip()?;
        visitor.visit_unit()
    }
}

/// The parts of a sequence or map, or the variant in a map.
struct Parts<'a, 'de>(&'a mut Reader<'de>);

impl<'de> de::SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Unread;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Unread> {
        if self.0.peek()? == tag::END {
            return Ok(None);
        }
        self.0.part(|reader| seed.deserialize(reader)).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Parts<'_, 'de> {
    type Error = Unread;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Unread> {
        if self.0.peek()? == tag::END {
            return Ok(None);
        }
        self.0.part(|reader| seed.deserialize(Key(reader))).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Unread> {
        self.0.part(|reader| seed.deserialize(reader))
    }
}

impl<'de> de::EnumAccess<'de> for Parts<'_, 'de> {
    type Error = Unread;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Unread> {
        let variant = self.0.part(|reader| seed.deserialize(reader))?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for Parts<'_, 'de> {
    type Error = Unread;

    fn unit_variant(self) -> Result<(), Unread> {
        self.0.part(|reader| de::Deserialize::deserialize(reader))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Unread> {
        self.0.part(|reader| seed.deserialize(reader))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Unread> {
        self.0.part(|reader| de::Deserializer::deserialize_seq(reader, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Unread> {
        self.0.part(|reader| de::Deserializer::deserialize_struct(reader, "", fields, visitor))
    }
}

/// A variant that is a string of its own.
struct UnitVariant<'a, 'de>(&'a mut Reader<'de>);

impl<'de> de::EnumAccess<'de> for UnitVariant<'_, 'de> {
    type Error = Unread;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Unread> {
        let variant = self.0.part(|reader| seed.deserialize(reader))?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for UnitVariant<'_, 'de> {
    type Error = Unread;

    fn unit_variant(self) -> Result<(), Unread> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Unread> {
        Err(Unread)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Unread> {
        Err(Unread)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Unread> {
        Err(Unread)
    }
}

/// The key of a map, which is a string.
struct Key<'a, 'de>(&'a mut Reader<'de>);

macro_rules! refused_keys {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unread> {
            self.0.refuse()
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Key<'_, 'de> {
    type Error = Unread;

    refused_keys!(
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_bytes deserialize_byte_buf
    );
    forward_to_deserialize_any! {
        char str string unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        self.0.visit_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Unread> {
        if is_of_serde_json(name) { self.0.refuse() } else { visitor.visit_newtype_struct(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unread> {
        de::Deserializer::deserialize_enum(self.0, name, variants, visitor)
    }
}
