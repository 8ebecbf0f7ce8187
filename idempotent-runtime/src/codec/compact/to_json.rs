//! The JSON of a compact form, without the type of the value.

use bytes::Bytes;
use serde::Serialize;

use super::{
    reader::{Reader, Unread},
    tag,
};
#[cfg(any(feature = "memory", feature = "local-cache"))]
use crate::store::Outcome;

/// Gives an outcome as other stores have it: with its result as JSON.
#[cfg(any(feature = "memory", feature = "local-cache"))]
pub(crate) fn shown(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Ok(bytes) => Outcome::Ok(to_json(&bytes).unwrap_or(bytes)),
        other => other,
    }
}

/// The JSON of a compact form; `None` if the bytes are not of this form.
pub(crate) fn to_json(bytes: &[u8]) -> Option<Bytes> {
    let mut reader = Reader::new(bytes)?;
    let mut json = Vec::with_capacity(bytes.len() + bytes.len() / 2);
    value(&mut reader, &mut json).ok()?;
    reader.is_at_end().then(|| json.into_boxed_slice().into())
}

fn value(reader: &mut Reader<'_>, json: &mut Vec<u8>) -> Result<(), Unread> {
    if reader.peek()? >= tag::STRING {
        return write(json, reader.string()?);
    }
    match reader.peek()? {
        tag::SEQUENCE => {
            reader.begin(tag::SEQUENCE)?;
            json.push(b'[');
            parts(reader, json, value)?;
            json.push(b']');
            return reader.end(());
        }
        tag::MAP => {
            reader.begin(tag::MAP)?;
            json.push(b'{');
            parts(reader, json, |reader, json| {
                write(json, reader.string()?)?;
                json.push(b':');
                value(reader, json)
            })?;
            json.push(b'}');
            return reader.end(());
        }
        _ => {}
    }
    match reader.next()? {
        tag::NULL => json.extend_from_slice(b"null"),
        tag::FALSE => json.extend_from_slice(b"false"),
        tag::TRUE => json.extend_from_slice(b"true"),
        tag::F64 => write(json, &reader.float()?)?,
        tag::F32 => write(json, &reader.single()?)?,
        tag @ tag::NATURAL..=tag::LAST_NATURAL => write(json, &reader.number(tag - tag::NATURAL)?)?,
        tag @ tag::NEGATIVE..=tag::LAST_NEGATIVE => write(json, &reader.negative(tag)?)?,
        _ => return Err(Unread),
    }
    Ok(())
}

/// Writes the parts up to the end, with commas between them.
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
    Ok(())
}

fn write<T: Serialize + ?Sized>(json: &mut Vec<u8>, value: &T) -> Result<(), Unread> {
    serde_json::to_writer(json, value).map_err(|_| Unread)
}
