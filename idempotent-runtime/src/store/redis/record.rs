//! The byte format of a record, which is one value. No I/O here.
//!
//! ```text
//!  0  magic "IDM1"        4
//!  4  state               1   R running, A abandoned, O ok, E err, U done without a result
//!  5  flags               1   '0', plus 1 where somebody listens for the end of the run, plus 2 with arguments
//!  6  nonce              16   of the owner; of the last owner once the run has ended
//! 22  fence               8   big endian, 0 where it was not made yet
//! 30  attempt             4   big endian
//! 34  time to live, ms    8   big endian: the time for which the record is kept after its lease has ended
//! 42  fingerprint        32
//! 74  length              4   big endian, of the arguments; only with arguments
//! 78  arguments               only with arguments
//!     payload                 O, E: the result as the codec wrote it; U: one byte, the reason; otherwise nothing
//! ```
//!
//! Offsets are fixed, so that scripts in the server can read the header without parsing. A change of the format gets a new
//! magic. The golden tests make sure that today's format stays readable.

use std::io;

use bytes::Bytes;

use crate::{
    request::fingerprint::Fingerprint,
    store::{
        ClaimRequest, Finished, Nonce, NotKept, Outcome, StoreError, StoreErrorKind, StoreResult,
        duration::{MAX_MILLIS, millis},
    },
};

/// The length of the header, and of a record without arguments and payload.
pub(crate) const HEADER_LEN: usize = 74;

const MAGIC: [u8; 4] = *b"IDM1";

/// The offset of the flags.
const FLAGS: usize = 5;

/// The limit of fences: scripts compute them, and their numbers are doubles, which are exact below this.
const FENCE_LIMIT: u64 = 1 << 53;

/// A decoded record.
#[derive(Debug)]
pub(crate) struct RedisRecord {
    pub(crate) nonce: Nonce,
    pub(crate) fence: Option<u64>,
    pub(crate) attempt: u32,
    pub(crate) ttl_ms: u64,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) state: RedisState,
}

/// The state byte, with the outcome that belongs to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RedisState {
    Running,
    Abandoned,
    Done(Outcome),
}

/// The record of a first claim, in parts: its header and, where there are any, its arguments.
pub(crate) struct ClaimRecord<'a> {
    header: [u8; HEADER_LEN],
    arguments: Option<&'a Bytes>,
}

impl<'a> ClaimRecord<'a> {
    pub(crate) fn new(request: &'a ClaimRequest) -> Self {
        Self { header: claim_header(request), arguments: request.arguments.as_ref() }
    }

    pub(crate) fn write_to(&self, out: &mut impl io::Write) -> io::Result<()> {
        out.write_all(&self.header)?;
        if let Some(arguments) = self.arguments {
            // Redis takes values of up to 512 MB, so that a longer length is never stored.
            let len = u32::try_from(arguments.len()).unwrap_or(u32::MAX);
            out.write_all(&len.to_be_bytes())?;
            out.write_all(arguments)?;
        }
        Ok(())
    }
}

fn claim_header(request: &ClaimRequest) -> [u8; HEADER_LEN] {
    let mut record = [0; HEADER_LEN];
    let parts: [&[u8]; 7] = [
        &MAGIC,
        if request.arguments.is_some() { b"R2" } else { b"R0" },
        request.nonce.as_bytes(),
        &[0; 8],
        &1_u32.to_be_bytes(),
        &millis(request.ttl).to_be_bytes(),
        request.fingerprint.as_bytes(),
    ];
    let mut rest = record.as_mut_slice();
    for part in parts {
        let (here, after) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = after;
    }
    record
}

/// The bytes before the nonce, and the payload, of a finished run.
pub(crate) fn encode_outcome(outcome: &Outcome) -> (&'static [u8], &[u8]) {
    match outcome {
        Outcome::Ok(bytes) => (b"IDM1O0", bytes),
        Outcome::Err(bytes) => (b"IDM1E0", bytes),
        Outcome::NotKept(NotKept::TooLarge) => (b"IDM1U0", b"L"),
        Outcome::NotKept(NotKept::NotSerializable) => (b"IDM1U0", b"S"),
    }
}

/// Reads a record; the result is a slice of `bytes`, not a copy.
///
/// # Errors
///
/// [`StoreErrorKind::Corrupt`] for anything that this module would not have written.
pub(crate) fn decode(bytes: &Bytes) -> StoreResult<RedisRecord> {
    parse(bytes).ok_or_else(corrupt)
}

/// The error for a value that is not a record.
pub(crate) fn corrupt() -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "what is stored under the key is not a record of this library")
}

fn parse(bytes: &Bytes) -> Option<RedisRecord> {
    let rest: &[u8] = bytes;
    let (magic, rest) = rest.split_first_chunk::<4>()?;
    let (&[state, flags], rest) = rest.split_first_chunk::<2>()?;
    let (nonce, rest) = rest.split_first_chunk::<{ Nonce::LEN }>()?;
    let (fence, rest) = rest.split_first_chunk::<8>()?;
    let (attempt, rest) = rest.split_first_chunk::<4>()?;
    let (ttl, rest) = rest.split_first_chunk::<8>()?;
    let (fingerprint, rest) = rest.split_first_chunk::<{ Fingerprint::LEN }>()?;
    let (_, payload) = split_arguments(flags, rest)?;

    let fence = u64::from_be_bytes(*fence);
    let attempt = u32::from_be_bytes(*attempt);
    let ttl_ms = u64::from_be_bytes(*ttl);
    let plausible = *magic == MAGIC
        && matches!(flags, b'0'..=b'3')
        && fence < FENCE_LIMIT
        && attempt > 0
        && (1..=MAX_MILLIS).contains(&ttl_ms);
    let state = match (state, payload) {
        (b'R', []) => RedisState::Running,
        (b'A', []) => RedisState::Abandoned,
        (b'O', _) => RedisState::Done(Outcome::Ok(bytes.slice_ref(payload))),
        (b'E', _) => RedisState::Done(Outcome::Err(bytes.slice_ref(payload))),
        (b'U', b"L") => RedisState::Done(Outcome::NotKept(NotKept::TooLarge)),
        (b'U', b"S") => RedisState::Done(Outcome::NotKept(NotKept::NotSerializable)),
        _ => return None,
    };
    plausible.then_some(RedisRecord {
        nonce: Nonce::from_bytes(*nonce),
        fence: (fence != 0).then_some(fence),
        attempt,
        ttl_ms,
        fingerprint: Fingerprint::from_bytes(*fingerprint),
        state,
    })
}

/// The arguments, where they are, and the payload.
fn split_arguments(flags: u8, rest: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    if !matches!(flags, b'2' | b'3') {
        return Some((None, rest));
    }
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (arguments, payload) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some((Some(arguments), payload))
}

/// The arguments of a record, as a slice of `bytes`, not a copy. [`decode`] leaves them out, since a hit does not need them.
pub(crate) fn arguments(bytes: &Bytes) -> Option<Bytes> {
    let (arguments, _) = split_arguments(*bytes.get(FLAGS)?, bytes.get(HEADER_LEN..)?)?;
    arguments.map(|arguments| bytes.slice_ref(arguments))
}

impl RedisRecord {
    /// The finished run; gives the record back if it is not finished.
    pub(crate) fn into_finished(self) -> Result<Finished, Self> {
        match self {
            Self { state: RedisState::Done(outcome), fingerprint, attempt, .. } => {
                Ok(Finished { fingerprint, attempt, outcome })
            }
            unfinished => Err(unfinished),
        }
    }

    /// The rest of the lease, given the rest of the record's time; `None` where there is no lease or it has lapsed.
    pub(crate) fn lease_left_ms(&self, record_left_ms: i64) -> Option<u64> {
        let left_ms = u64::try_from(record_left_ms).ok()?.checked_sub(self.ttl_ms)?;
        (self.state == RedisState::Running && left_ms > 0).then_some(left_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn request() -> ClaimRequest {
        ClaimRequest::new(
            Fingerprint::from_bytes([0xF0; 32]),
            Nonce::from_bytes([0xA1; 16]),
            Duration::from_secs(30),
            Duration::from_secs(86_400),
        )
    }

    /// The bytes of release 0.1. Later releases read them, whatever they write.
    fn golden(state: [u8; 2], fence: u64, attempt: u32, payload: &[u8]) -> Bytes {
        let mut bytes = b"IDM1".to_vec();
        bytes.extend_from_slice(&state);
        bytes.extend_from_slice(&[0xA1; 16]);
        bytes.extend_from_slice(&fence.to_be_bytes());
        bytes.extend_from_slice(&attempt.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0, 0x05, 0x26, 0x5C, 0x00]);
        bytes.extend_from_slice(&[0xF0; 32]);
        bytes.extend_from_slice(payload);
        Bytes::from(bytes)
    }

    #[test]
    fn a_claim_is_written_as_the_golden_bytes() {
        let arguments = |arguments| request().with_arguments(Bytes::from_static(arguments));
        for (request, expected) in [
            (request(), golden(*b"R0", 0, 1, b"")),
            (arguments(b"{\"a\":1}"), golden(*b"R2", 0, 1, b"\0\0\0\x07{\"a\":1}")),
            (arguments(b""), golden(*b"R2", 0, 1, b"\0\0\0\0")),
        ] {
            let mut written = Vec::new();
            ClaimRecord::new(&request).write_to(&mut written).expect("memory");
            assert_eq!(written, expected);
            let stored = decode(&expected).expect("a record");
            assert_eq!((super::arguments(&expected), stored.state), (request.arguments, RedisState::Running));
        }
    }

    #[test]
    fn golden_records_are_read() {
        let cases = [
            (*b"R0", 0, 1, "", RedisState::Running),
            (*b"R1", 1_700_000_000_000_000, 7, "", RedisState::Running),
            (*b"A0", 5, 2, "", RedisState::Abandoned),
            (*b"O0", 0, 1, "{\"a\":1}", RedisState::Done(Outcome::Ok(Bytes::from_static(b"{\"a\":1}")))),
            (*b"E0", 0, 1, "", RedisState::Done(Outcome::Err(Bytes::new()))),
            (*b"U0", 0, 1, "L", RedisState::Done(Outcome::NotKept(NotKept::TooLarge))),
            (*b"U0", 0, 1, "S", RedisState::Done(Outcome::NotKept(NotKept::NotSerializable))),
        ];
        for (start, fence, attempt, payload, state) in cases {
            let record = golden(start, fence, attempt, payload.as_bytes());
            let stored = decode(&record).expect("a record");
            assert_eq!(stored.nonce.as_bytes(), &[0xA1; 16]);
            assert_eq!(stored.fence, (fence != 0).then_some(fence));
            assert_eq!(stored.attempt, attempt);
            assert_eq!(stored.ttl_ms, 86_400_000);
            assert_eq!(stored.fingerprint.as_bytes(), &[0xF0; 32]);
            assert_eq!(arguments(&record), None);
            assert_eq!(stored.state, state);
        }
    }

    #[test]
    fn golden_records_with_arguments_are_read() {
        let done = RedisState::Done(Outcome::Ok(Bytes::from_static(b"{\"a\":1}")));
        let cases = [
            (*b"R2", "", RedisState::Running),
            (*b"R3", "", RedisState::Running),
            (*b"A2", "", RedisState::Abandoned),
            (*b"O2", "{\"a\":1}", done),
            (*b"E3", "", RedisState::Done(Outcome::Err(Bytes::new()))),
            (*b"U2", "L", RedisState::Done(Outcome::NotKept(NotKept::TooLarge))),
        ];
        for (start, payload, state) in cases {
            let payload = [b"\0\0\0\x05[1,2]", payload.as_bytes()].concat();
            let record = golden(start, 0, 1, &payload);
            assert_eq!(arguments(&record).as_deref(), Some(&b"[1,2]"[..]));
            assert_eq!(decode(&record).expect("a record").state, state);
        }
    }

    #[test]
    fn outcomes_are_written_as_they_are_read() {
        let outcomes = [
            Outcome::Ok(Bytes::from_static(b"0")),
            Outcome::Err(Bytes::new()),
            Outcome::NotKept(NotKept::TooLarge),
            Outcome::NotKept(NotKept::NotSerializable),
        ];
        for outcome in outcomes {
            let (start, payload) = encode_outcome(&outcome);
            let record = golden([start[4], start[5]], 9, 3, payload);
            assert!(record.starts_with(start));
            let finished = decode(&record).expect("a record").into_finished().expect("finished");
            assert_eq!(finished.outcome, outcome);
            assert_eq!(finished.attempt, 3);
        }
    }

    #[test]
    fn the_result_is_not_copied() {
        let record = golden(*b"O0", 0, 1, b"result");
        let RedisState::Done(Outcome::Ok(result)) = decode(&record).expect("a record").state else {
            panic!("not a result");
        };
        assert_eq!(result.as_ptr(), record[HEADER_LEN..].as_ptr());
    }

    #[test]
    fn what_was_never_written_is_corrupt() {
        let damaged = [
            Bytes::new(),
            Bytes::from_static(b"a string of somebody else"),
            golden(*b"R0", 0, 1, b"x"),
            golden(*b"A0", 0, 1, b"x"),
            golden(*b"U0", 0, 1, b""),
            golden(*b"U0", 0, 1, b"?"),
            golden(*b"X0", 0, 1, b""),
            golden(*b"R2", 0, 1, b""),
            golden(*b"R2", 0, 1, b"\0\0\0\x02x"),
            golden(*b"R2", 0, 1, b"\0\0\0\x01xx"),
            golden(*b"O2", 0, 1, b"\0\0\x01\0x"),
            golden(*b"O2", 0, 1, b"\0\0\0"),
            golden(*b"U2", 0, 1, b"\0\0\0\x01L"),
            golden(*b"R4", 0, 1, b""),
            golden(*b"R0", 0, 0, b""),
            golden(*b"R0", FENCE_LIMIT, 1, b""),
            golden(*b"R0", 0, 1, b"").slice(..HEADER_LEN - 1),
        ];
        for bytes in damaged {
            let error = decode(&bytes).expect_err("corrupt");
            assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let (_, _) = (decode(&bytes), arguments(&bytes));
        }
    }
}
