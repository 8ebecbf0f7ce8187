//! The bytes of a message, as the fingerprint reads them.

use serde::{Serialize, Serializer};

pub(super) struct Payload<'a>(pub(super) &'a [u8]);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}
