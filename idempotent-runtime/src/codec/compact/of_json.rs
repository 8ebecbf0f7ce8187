//! The compact form of JSON, without the type of the value.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{PLAIN, mark, numbers_are_plain, tag, to_json, writer::Writer};
use crate::buffer::Buffer;

/// The compact form of JSON, if it holds every byte of it: the same JSON comes back from it.
pub(crate) fn of_json(json: &[u8]) -> Option<Bytes> {
    if !numbers_are_plain() {
        return None;
    }
    let mut buffer = Buffer::default();
    buffer.array([PLAIN]);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Transcoder(&mut Writer::new(&mut buffer)).deserialize(&mut deserializer).ok()?;
    mark(&mut buffer);
    (to_json(buffer.as_slice())? == json).then(|| Bytes::copy_from_slice(buffer.as_slice()))
}

/// Writes what a deserializer of JSON tells it.
struct Transcoder<'a, 'b>(&'b mut Writer<'a>);

impl<'de> DeserializeSeed<'de> for Transcoder<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Transcoder<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.tag(tag::NULL);
        Ok(())
    }

    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.0.tag(if v { tag::TRUE } else { tag::FALSE });
        Ok(())
    }

    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        self.0.number(tag::NATURAL, v);
        Ok(())
    }

    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        self.0.integer(v);
        Ok(())
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<(), E> {
        self.0.float(v).map_err(E::custom)
    }

    fn visit_str<E>(self, v: &str) -> Result<(), E> {
        self.0.string(v);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        self.0.open(tag::SEQUENCE, 1).map_err(A::Error::custom)?;
        while elements.next_element_seed(Transcoder(&mut *self.0))?.is_some() {}
        self.0.close(1);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.0.open(tag::MAP, 1).map_err(A::Error::custom)?;
        while entries.next_key_seed(Transcoder(&mut *self.0))?.is_some() {
            entries.next_value_seed(Transcoder(&mut *self.0))?;
        }
        self.0.close(1);
        Ok(())
    }
}
