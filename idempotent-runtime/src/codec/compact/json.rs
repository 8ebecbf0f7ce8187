//! Between the compact form and JSON, without the type of the value.

use std::fmt;

use bytes::Bytes;
use serde::{
    Serialize,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
};

use super::{
    MARK, numbers_are_plain,
    reader::{Reader, Text, Unread},
    tag,
    writer::Writer,
};
use crate::buffer::Buffer;

/// The JSON of a compact form; `None` if the bytes are not of this form.
pub(crate) fn to_json(bytes: &[u8]) -> Option<Bytes> {
    let (&MARK, rest) = bytes.split_first()? else { return None };
    let mut reader = Reader::new(str::from_utf8(rest).ok()?);
    let mut json = Vec::with_capacity(bytes.len() + bytes.len() / 2);
    value(&mut reader, &mut json).ok()?;
    reader.is_at_end().then(|| json.into_boxed_slice().into())
}

/// The compact form of JSON, if it holds every byte of it: the same JSON comes back from it.
pub(crate) fn of_json(json: &[u8]) -> Option<Bytes> {
    if !numbers_are_plain() {
        return None;
    }
    let mut buffer = Buffer::default();
    buffer.array([MARK]);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Transcoder(&mut Writer::new(&mut buffer)).deserialize(&mut deserializer).ok()?;
    (to_json(buffer.as_slice())? == json).then(|| Bytes::copy_from_slice(buffer.as_slice()))
}

fn value(reader: &mut Reader<'_>, json: &mut Vec<u8>) -> Result<(), Unread> {
    match reader.next()? {
        tag::NULL => json.extend_from_slice(b"null"),
        tag::FALSE => json.extend_from_slice(b"false"),
        tag::TRUE => json.extend_from_slice(b"true"),
        tag::F64 => write(json, &reader.float()?)?,
        tag::F32 => write(json, &reader.single()?)?,
        tag::SEQUENCE => {
            json.push(b'[');
            parts(reader, json, value)?;
            json.push(b']');
        }
        tag::MAP => {
            json.push(b'{');
            parts(reader, json, |reader, json| {
                let tag = reader.next()?;
                string(reader, tag, json)?;
                json.push(b':');
                value(reader, json)
            })?;
            json.push(b'}');
        }
        tag @ tag::NATURAL..=0x1a => write(json, &reader.number(tag - tag::NATURAL)?)?,
        tag @ tag::NEGATIVE..=0x2a => write(json, &reader.negative(tag)?)?,
        tag => string(reader, tag, json)?,
    }
    Ok(())
}

/// Parts up to the end, with commas between them.
fn parts(
    reader: &mut Reader<'_>,
    json: &mut Vec<u8>,
    mut part: impl FnMut(&mut Reader<'_>, &mut Vec<u8>) -> Result<(), Unread>,
) -> Result<(), Unread> {
    let mut is_first = true;
    while reader.peek()? != tag::END {
        if !is_first {
            json.push(b',');
        }
        is_first = false;
        part(reader, json)?;
    }
    reader.next().map(|_| ())
}

fn string(reader: &mut Reader<'_>, tag: u8, json: &mut Vec<u8>) -> Result<(), Unread> {
    match reader.string(tag)? {
        Text::Plain(text) | Text::Escaped(text) => write(json, text),
    }
}

fn write<T: Serialize + ?Sized>(json: &mut Vec<u8>, value: &T) -> Result<(), Unread> {
    serde_json::to_writer(json, value).map_err(|_| Unread)
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
