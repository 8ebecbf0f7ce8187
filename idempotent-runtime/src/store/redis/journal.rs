//! The byte format of a journal: entries, one behind the other, in the order in which they were recorded.
//!
//! ```text
//! length    4   big endian, of the name
//! name
//! nonce    16   of the claim that recorded it
//! kind      1   O with a value; L, S without, by the reason
//! length    4   big endian, of the value
//! value
//! ```

use bytes::Bytes;

use super::record::{not_kept, reason};
use crate::store::{Nonce, NotKept, Step};

/// The entry of a step that this claim records.
pub(crate) fn encode(step: &Step, nonce: &Nonce) -> Vec<u8> {
    let (kind, value): (_, &[u8]) = match &step.value {
        Ok(value) => (b"O".as_slice(), value),
        Err(why) => (reason(*why), &[]),
    };
    [&len(step.name.as_bytes()), step.name.as_bytes(), nonce.as_bytes(), kind, &len(value), value].concat()
}

/// Redis takes values of up to 512 MB, so that a longer length is never stored.
fn len(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// The steps of a journal; their values are slices of `journal`, not copies. `None` for what [`encode`] does not write.
pub(crate) fn decode(journal: &Bytes) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest: &[u8] = journal;
    while !rest.is_empty() {
        let (name, after) = split(rest)?;
        let (_, after) = after.split_first_chunk::<{ Nonce::LEN }>()?;
        let (&[kind], after) = after.split_first_chunk::<1>()?;
        let (value, after) = split(after)?;
        steps.push(Step::new(str::from_utf8(name).ok()?.to_owned(), outcome(kind, journal.slice_ref(value))?));
        rest = after;
    }
    Some(steps)
}

/// A value of this kind, or the reason why there is none.
pub(crate) fn outcome(kind: u8, value: Bytes) -> Option<Result<Bytes, NotKept>> {
    if kind == b'O' { Some(Ok(value)) } else { not_kept(kind).filter(|_| value.is_empty()).map(Err) }
}

/// Splits what a length is in front of off.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONCE: Nonce = Nonce::from_bytes([0xA1; 16]);

    /// The bytes of the first release with journals. Later releases read them, whatever they write.
    #[test]
    fn steps_are_written_and_read_as_the_golden_bytes() {
        let nonce = "\u{7f}".repeat(16);
        let cases = [
            (Ok(Bytes::from_static(b"{\"a\":1}")), "O\0\0\0\x07{\"a\":1}"),
            (Ok(Bytes::new()), "O\0\0\0\0"),
            (Err(NotKept::TooLarge), "L\0\0\0\0"),
            (Err(NotKept::NotSerializable), "S\0\0\0\0"),
        ];
        let (mut steps, mut journal) = (Vec::new(), Vec::new());
        for (value, end) in cases {
            let step = Step::new("charge".to_owned(), value);
            let entry = encode(&step, &Nonce::from_bytes([0x7F; 16]));
            assert_eq!(entry, format!("\0\0\0\x06charge{nonce}{end}").as_bytes());
            steps.push(step);
            journal.extend(entry);
        }
        assert_eq!(decode(&journal.into()), Some(steps));
        assert_eq!(decode(&Bytes::new()), Some(Vec::new()));
    }

    #[test]
    fn a_value_is_not_copied() {
        let journal = Bytes::from(encode(&Step::new("a".to_owned(), Ok(Bytes::from_static(b"value"))), &NONCE));
        let steps = decode(&journal).expect("a journal");
        let value = steps.first().and_then(|step| step.value.as_ref().ok()).expect("a value");
        assert_eq!(value.as_ptr(), journal[journal.len() - 5..].as_ptr());
    }

    #[test]
    fn what_was_never_written_is_refused() {
        let good = encode(&Step::new("a".to_owned(), Ok(Bytes::from_static(b"v"))), &NONCE);
        for len in 1..good.len() {
            assert_eq!(decode(&Bytes::copy_from_slice(&good[..len])), None, "{len} bytes");
        }
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            decode(&bad.into())
        };
        assert_eq!(with(4, 0xFF), None, "a name that is no text");
        assert_eq!(with(21, b'X'), None, "an unknown kind");
        assert_eq!(with(21, b'L'), None, "a value where there is none");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes.into());
        }
    }
}
