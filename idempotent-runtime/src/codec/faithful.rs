//! A layer over `serde_json`'s serializer that refuses what JSON would silently change.
//!
//! JSON has one `null`, so a `Some` of something that is written as `null` would come back as `None`, and a float that
//! is not finite as an error or as `None`. Text nested deeper than `serde_json` reads is refused too, since a result
//! that was kept and cannot be read is worth no more than one that was not kept.

use std::fmt::Display;

use serde::ser::{self, Error as _, Serialize, Serializer};

/// `serde_json` reads up to 127 levels of brackets.
const MAX_DEPTH: u8 = 127;

const NULL: &str = "`Some` of a value that is null in JSON";

/// The name of the struct that a `RawValue` is written as: `TOKEN` in `serde_json`, `src/raw.rs`.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Writes the value as JSON.
pub(crate) fn write<T: Serialize + ?Sized>(json: &mut Vec<u8>, value: &T) -> serde_json::Result<()> {
    // Room for most results, so that there is one allocation.
    json.reserve(256);
    serde_json::to_writer(json, &Faithful { inner: value, optional: false, depth: 0 })
}

/// A value or a serializer, and its place in the whole value.
struct Faithful<S> {
    inner: S,
    /// True for the content of a `Some`.
    optional: bool,
    /// The number of open brackets.
    depth: u8,
}

impl<T: Serialize + ?Sized> Serialize for Faithful<&T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { inner, optional, depth } = *self;
        inner.serialize(Faithful { inner: serializer, optional, depth })
    }
}

/// A part of a value, `depth` brackets deep.
const fn part<T: ?Sized>(value: &T, depth: u8) -> Faithful<&T> {
    Faithful { inner: value, optional: false, depth }
}

impl<S: Serializer> Faithful<S> {
    fn null(&self) -> Result<(), S::Error> {
        if self.optional { Err(S::Error::custom(NULL)) } else { Ok(()) }
    }

    /// The depth within `levels` more brackets.
    fn deeper(&self, levels: u8) -> Result<u8, S::Error> {
        let depth = self.depth + levels;
        if depth > MAX_DEPTH { Err(S::Error::custom("nested too deeply")) } else { Ok(depth) }
    }
}

macro_rules! forward {
    ($($method:ident($type:ty)),*) => {$(
        #[inline]
        fn $method(self, v: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(v)
        }
    )*};
}

impl<S: Serializer> Serializer for Faithful<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Compound<S::SerializeSeq>;
    type SerializeTuple = Compound<S::SerializeTuple>;
    type SerializeTupleStruct = Compound<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Compound<S::SerializeTupleVariant>;
    type SerializeMap = Compound<S::SerializeMap>;
    type SerializeStruct = Compound<S::SerializeStruct>;
    type SerializeStructVariant = Compound<S::SerializeStructVariant>;

    forward!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_char(char),
        serialize_str(&str)
    );

    #[inline]
    fn serialize_f32(self, v: f32) -> Result<S::Ok, S::Error> {
        if v.is_finite() { self.inner.serialize_f32(v) } else { Err(S::Error::custom("float that is not finite")) }
    }

    #[inline]
    fn serialize_f64(self, v: f64) -> Result<S::Ok, S::Error> {
        if v.is_finite() { self.inner.serialize_f64(v) } else { Err(S::Error::custom("float that is not finite")) }
    }

    #[inline]
    fn serialize_bytes(self, v: &[u8]) -> Result<S::Ok, S::Error> {
        self.deeper(1)?;
        self.inner.serialize_bytes(v)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.null()?;
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let Self { inner, depth, .. } = self;
        inner.serialize_some(&Faithful { inner: value, optional: true, depth })
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.null()?;
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.null()?;
        self.inner.serialize_unit_struct(name)
    }

    #[inline]
    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        let Self { inner, optional, depth } = self;
        inner.serialize_newtype_struct(name, &Faithful { inner: value, optional, depth })
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let depth = self.deeper(1)?;
        self.inner.serialize_newtype_variant(name, index, variant, &part(value, depth))
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let depth = self.deeper(1)?;
        Ok(Compound { inner: self.inner.serialize_seq(len)?, depth, is_optional_text: false })
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        let depth = self.deeper(1)?;
        Ok(Compound { inner: self.inner.serialize_tuple(len)?, depth, is_optional_text: false })
    }

    #[inline]
    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        let depth = self.deeper(1)?;
        Ok(Compound { inner: self.inner.serialize_tuple_struct(name, len)?, depth, is_optional_text: false })
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let depth = self.deeper(2)?;
        Ok(Compound {
            inner: self.inner.serialize_tuple_variant(name, index, variant, len)?,
            depth,
            is_optional_text: false,
        })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let depth = self.deeper(1)?;
        Ok(Compound { inner: self.inner.serialize_map(len)?, depth, is_optional_text: false })
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        let depth = self.deeper(1)?;
        Ok(Compound {
            inner: self.inner.serialize_struct(name, len)?,
            depth,
            is_optional_text: self.optional && name == RAW_VALUE,
        })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let depth = self.deeper(2)?;
        Ok(Compound {
            inner: self.inner.serialize_struct_variant(name, index, variant, len)?,
            depth,
            is_optional_text: false,
        })
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A value of several parts that is being written, whose parts are `depth` brackets deep.
struct Compound<C> {
    inner: C,
    depth: u8,
    /// True for a `Some` of a `RawValue`, whose only part is its JSON.
    is_optional_text: bool,
}

macro_rules! elements {
    ($($trait:ident::$method:ident),*) => {$(
        impl<C: ser::$trait> ser::$trait for Compound<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.inner.$method(&part(value, self.depth))
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
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
        impl<C: ser::$trait> ser::$trait for Compound<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), C::Error> {
                if self.is_optional_text && serde_json::to_string(value).is_ok_and(|text| text == "\"null\"") {
                    return Err(C::Error::custom(NULL));
                }
                self.inner.serialize_field(key, &part(value, self.depth))
            }

            #[inline]
            fn skip_field(&mut self, key: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(key)
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

impl<C: ser::SerializeMap> ser::SerializeMap for Compound<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(&part(key, self.depth))
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_value(&part(value, self.depth))
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}
