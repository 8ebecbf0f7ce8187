//! JSON that is compared while it is written, so that it needs no buffer.

use std::io;

use serde::Serialize;

/// Tells whether this is the JSON of a value.
pub(super) fn is_json_of<T: Serialize>(json: &[u8], value: &T) -> bool {
    let mut rest = Rest(json);
    serde_json::to_writer(&mut rest, value).is_ok() && rest.0.is_empty()
}

/// The bytes that are still to be written. Writing others fails.
struct Rest<'a>(&'a [u8]);

impl io::Write for Rest<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.write_all(piece).map(|()| piece.len())
    }

    #[inline]
    fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        self.0 = self.0.strip_prefix(piece).ok_or(io::ErrorKind::InvalidData)?;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
