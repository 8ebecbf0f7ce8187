//! The byte format of a record, which is one value. No I/O here.
//!
//! ```text
//!  0  magic "IDM1"        4
//!  4  state               1   R running, A abandoned, O ok, E err, U done without a result, X exhausted
//!  5  flags               1   '0', plus 1 where somebody listens for the end of the run, plus 2 with arguments, plus 4 with a
//!                             context
//!  6  nonce              16   of the owner; of the last owner once the run has ended
//! 22  fence               8   big endian, 0 where it was not made yet
//! 30  attempt             4   big endian
//! 34  time to live, ms    8   big endian: the time for which the record is kept after its lease or its pause has ended
//! 42  fingerprint        32
//! 74  length              4   big endian, of what lies beside: the context and the arguments; only where one of them does
//! 78  length, context     2   big endian; only with a context
//!     arguments               only with arguments
//!     payload                 O, E: the result as the codec wrote it; U: one byte, the reason; otherwise nothing
//! ```
//!
//! This is the record of a key's first run, without steps. A record that was taken over or suspended, or has steps, has the
//! magic "IDM2", and its life so far behind the fingerprint:
//!
//! ```text
//!  4  state               1   F failed, or one of those above
//! 74  generation         16   the nonce of the life's first claim
//! 90  failed              4   big endian: the number of runs that ended in an error
//! 94  before              1   the end of the run before: '0' none, F failed, A abandoned; of a running record
//! 95  since, ms           8   big endian, since 1970: when that end was; of a suspended record, when its own was
//! 103 length, beside          as above
//!     payload                 of a finished record, as above
//!     journal                 of any other: see `journal.rs`
//! ```
//!
//! Offsets are fixed, so that scripts in the server can read the header without parsing. A change of the format gets a new
//! magic. The golden tests make sure that today's formats stay readable.
//!
//! The journal lies in the record's own value, and last. One key has one slot, one expiry and one deletion, so that no journal
//! outlives its record or meets another life's. At the end it grows in place, and a completion leaves it out. The price: a
//! duplicate that meets a running record gets its journal along with it.

use std::{io, num::NonZeroU64, sync::Arc, time::Duration};

use bytes::Bytes;

use super::journal;
use crate::{
    request::fingerprint::Fingerprint,
    store::{
        Before, ClaimRequest, Finished, Generation, Nonce, NotKept, Outcome, Past, StoreError, StoreErrorKind,
        StoreResult,
        duration::{MAX_MILLIS, millis},
    },
};

#[cfg(test)]
mod tests;

/// The length of the header, and of a first run's record with nothing beside it and no payload.
pub(crate) const HEADER_LEN: usize = 74;

/// The length of the life so far.
const LIFE_LEN: usize = 29;

/// The magic of a first run's record.
const FIRST: [u8; 4] = *b"IDM1";

/// The magic of a record with its life so far.
const LATER: [u8; 4] = *b"IDM2";

/// The offset of the flags.
const FLAGS: usize = 5;

/// The offset of the fence.
const FENCE: usize = 22;

/// The offset of the time to live.
const TTL: usize = 34;

/// The limit of fences and times: scripts compute them, and their numbers are doubles, which are exact below this.
const EXACT: u64 = 1 << 53;

/// A decoded record.
#[derive(Debug)]
pub(crate) struct RedisRecord {
    pub(crate) nonce: Nonce,
    pub(crate) fence: Option<NonZeroU64>,
    pub(crate) attempt: u32,
    pub(crate) ttl_ms: u64,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) state: RedisState,
    /// `None` for a first run without steps. Boxed, so that a hit does not carry it.
    life: Option<Box<RedisLife>>,
}

/// The life of a key so far.
#[derive(Debug, PartialEq, Eq)]
struct RedisLife {
    generation: Generation,
    failed: u32,
    before: RedisBefore,
    has_steps: bool,
}

/// The end of the run before a running one.
#[derive(Debug, PartialEq, Eq)]
enum RedisBefore {
    Fresh,
    Failed,
    /// At this time in ms since 1970.
    Abandoned {
        since_ms: u64,
    },
}

/// The state byte, with the outcome that belongs to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RedisState {
    Running,
    Failed,
    Abandoned,
    Done(Outcome),
}

/// The running record of a first claim, in parts: its header, and what lies beside.
#[derive(Clone)]
pub(crate) struct ClaimRecord {
    header: [u8; HEADER_LEN],
    arguments: Option<Bytes>,
    context: Option<Arc<str>>,
}

impl ClaimRecord {
    pub(crate) fn new(request: &ClaimRequest) -> Self {
        Self { header: claim_header(request), arguments: request.arguments.clone(), context: request.context.clone() }
    }

    pub(crate) fn beside_len(&self) -> usize {
        let context = self.context.as_deref().map_or(0, |context| 2 + context_of(context).len());
        self.arguments.as_ref().map_or(0, Bytes::len) + context
    }

    /// The record with this fence.
    pub(crate) fn with_fence(self, fence: u64) -> Self {
        self.with(FENCE, fence)
    }

    /// The record with this time to live.
    pub(crate) fn with_ttl(self, ttl_ms: u64) -> Self {
        self.with(TTL, ttl_ms)
    }

    fn with(mut self, offset: usize, number: u64) -> Self {
        let bytes = self.header.iter_mut().skip(offset);
        bytes.zip(number.to_be_bytes()).for_each(|(byte, new)| *byte = new);
        self
    }

    pub(crate) fn write_to(&self, out: &mut impl io::Write) -> io::Result<()> {
        out.write_all(&self.header)?;
        self.write_beside(out)
    }

    fn write_beside(&self, out: &mut impl io::Write) -> io::Result<()> {
        if self.arguments.is_none() && self.context.is_none() {
            return Ok(());
        }
        // Redis takes values of up to 512 MB, so that a longer length is never stored.
        let len = u32::try_from(self.beside_len()).unwrap_or(u32::MAX);
        out.write_all(&len.to_be_bytes())?;
        if let Some(context) = &self.context {
            write_context(context, out)?;
        }
        out.write_all(self.arguments.as_deref().unwrap_or_default())
    }
}

/// Writes a context with its length in front.
pub(crate) fn write_context(context: &str, out: &mut impl io::Write) -> io::Result<()> {
    let context = context_of(context);
    out.write_all(&u16::try_from(context.len()).unwrap_or(u16::MAX).to_be_bytes())?;
    out.write_all(context)
}

/// The part of a context that its length can tell. The engine's are far shorter.
fn context_of(context: &str) -> &[u8] {
    context.as_bytes().get(..usize::from(u16::MAX)).unwrap_or(context.as_bytes())
}

/// The finished record of a first run, which has its header and what lies beside from the running one.
pub(crate) struct FinishedRecord<'a> {
    pub(crate) running: &'a ClaimRecord,
    pub(crate) outcome: &'a Outcome,
}

impl FinishedRecord<'_> {
    pub(crate) fn write_to(&self, out: &mut impl io::Write) -> io::Result<()> {
        let (start, payload) = encode_outcome(self.outcome);
        let (_, flags_and_rest) = self.running.header.split_at(FLAGS);
        out.write_all(start.split_at(FLAGS).0)?;
        out.write_all(flags_and_rest)?;
        self.running.write_beside(out)?;
        out.write_all(payload)
    }
}

fn claim_header(request: &ClaimRequest) -> [u8; HEADER_LEN] {
    let mut record = [0; HEADER_LEN];
    let parts: [&[u8]; 7] = [
        &FIRST,
        match (&request.arguments, &request.context) {
            (None, None) => b"R0",
            (Some(_), None) => b"R2",
            (None, Some(_)) => b"R4",
            (Some(_), Some(_)) => b"R6",
        },
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

/// The bytes before the nonce, and the payload, of a finished first run.
pub(crate) fn encode_outcome(outcome: &Outcome) -> (&'static [u8], &[u8]) {
    match outcome {
        Outcome::Ok(bytes) => (b"IDM1O0", bytes),
        Outcome::Err(bytes) => (b"IDM1E0", bytes),
        Outcome::NotKept(why) => (b"IDM1U0", reason(*why)),
        Outcome::Exhausted => (b"IDM1X0", b""),
        Outcome::Dead => (b"IDM1D0", b""),
    }
}

/// The byte for a reason.
pub(crate) const fn reason(why: NotKept) -> &'static [u8] {
    match why {
        NotKept::TooLarge => b"L",
        NotKept::NotSerializable => b"S",
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
    let (life, rest) = match *magic {
        FIRST => (None, rest),
        LATER => rest.split_first_chunk::<LIFE_LEN>().map(|(life, rest)| (Some(life), rest))?,
        _ => return None,
    };
    let (_, payload) = split_beside(flags, rest)?;

    let fence = u64::from_be_bytes(*fence);
    let attempt = u32::from_be_bytes(*attempt);
    let ttl_ms = u64::from_be_bytes(*ttl);
    // A failed record that an operator has reopened is before its first run.
    let has_run = attempt > 0 || state == b'F';
    let plausible = matches!(flags, b'0'..=b'7') && fence < EXACT && has_run && (1..=MAX_MILLIS).contains(&ttl_ms);
    let (state, has_steps) = match (state, payload) {
        (b'R', []) => (RedisState::Running, false),
        (b'A', []) => (RedisState::Abandoned, false),
        (b'F', []) if life.is_some() => (RedisState::Failed, false),
        (b'R', _) if life.is_some() => (RedisState::Running, true),
        (b'A', _) if life.is_some() => (RedisState::Abandoned, true),
        (b'F', _) if life.is_some() => (RedisState::Failed, true),
        // Behind it is the journal, for when an operator has the key run again.
        (b'X', _) if life.is_some() && journal::decode(&bytes.slice_ref(payload)).is_some() => {
            (RedisState::Done(Outcome::Exhausted), false)
        }
        _ => (RedisState::Done(outcome(state, payload, bytes)?), false),
    };
    let life = match life {
        Some(life) => Some(Box::new(parse_life(life, has_steps)?)),
        None => None,
    };
    plausible.then_some(RedisRecord {
        nonce: Nonce::from_bytes(*nonce),
        fence: NonZeroU64::new(fence),
        attempt,
        ttl_ms,
        fingerprint: Fingerprint::from_bytes(*fingerprint),
        state,
        life,
    })
}

fn outcome(state: u8, payload: &[u8], bytes: &Bytes) -> Option<Outcome> {
    Some(match (state, payload) {
        (b'O', _) => Outcome::Ok(bytes.slice_ref(payload)),
        (b'E', _) => Outcome::Err(bytes.slice_ref(payload)),
        (b'U', [reason]) => Outcome::NotKept(not_kept(*reason)?),
        (b'X', []) => Outcome::Exhausted,
        (b'D', []) => Outcome::Dead,
        _ => return None,
    })
}

/// The reason that [`reason`] wrote.
pub(crate) const fn not_kept(reason: u8) -> Option<NotKept> {
    match reason {
        b'L' => Some(NotKept::TooLarge),
        b'S' => Some(NotKept::NotSerializable),
        _ => None,
    }
}

fn parse_life(life: &[u8; LIFE_LEN], has_steps: bool) -> Option<RedisLife> {
    let (generation, rest) = life.split_first_chunk::<{ Generation::LEN }>()?;
    let (failed, rest) = rest.split_first_chunk::<4>()?;
    let (&[before], since) = rest.split_first_chunk::<1>()?;
    let since_ms = u64::from_be_bytes(since.try_into().ok()?);
    let before = match before {
        b'0' => RedisBefore::Fresh,
        b'F' => RedisBefore::Failed,
        b'A' => RedisBefore::Abandoned { since_ms },
        _ => return None,
    };
    let (generation, failed) = (Generation::from_bytes(*generation), u32::from_be_bytes(*failed));
    (since_ms < EXACT).then_some(RedisLife { generation, failed, before, has_steps })
}

/// Splits what lies beside from what is behind it.
fn split_beside(flags: u8, rest: &[u8]) -> Option<(&[u8], &[u8])> {
    if flags < b'2' {
        return Some((&[], rest));
    }
    let (len, rest) = rest.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

/// The arguments of a record, as a slice of `bytes`, and its context. [`decode`] leaves them out, since a hit does not need
/// them.
pub(crate) fn beside(bytes: &Bytes) -> Option<(Option<Bytes>, Option<Arc<str>>)> {
    let start = if bytes.starts_with(&LATER) { HEADER_LEN + LIFE_LEN } else { HEADER_LEN };
    let flags = *bytes.get(FLAGS)?;
    let (beside, _) = split_beside(flags, bytes.get(start..)?)?;
    let bits = flags.saturating_sub(b'0');
    let (has_arguments, has_context) = (bits & 2 != 0, bits & 4 != 0);
    let (context, arguments) = if has_context {
        let (len, rest) = beside.split_first_chunk::<2>()?;
        let (context, arguments) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        (Some(String::from_utf8_lossy(context).into()), arguments)
    } else {
        (None, beside)
    };
    Some((has_arguments.then(|| bytes.slice_ref(arguments)), context))
}

/// The letter of the state that [`Seen::state`](crate::store::Seen::state) names.
pub(crate) fn letter(state: &str) -> &'static [u8] {
    match state {
        "running" => b"R",
        "failed" => b"F",
        "abandoned" => b"A",
        "ok" => b"O",
        "error" => b"E",
        "not-kept" => b"U",
        "exhausted" => b"X",
        "dead" => b"D",
        _ => b"?",
    }
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

    /// The nonce of the life's first claim.
    pub(crate) fn generation(&self) -> Generation {
        self.life.as_ref().map_or_else(|| self.nonce.into(), |life| life.generation)
    }

    /// The number of runs that ended in an error.
    pub(crate) fn failed(&self) -> u32 {
        self.life.as_ref().map_or(0, |life| life.failed)
    }

    /// The life before the claim that has the record. The server's time, in ms since 1970, tells the age of an abandoned run:
    /// `None` where it is needed and not known.
    pub(crate) fn past(&self, now_ms: Option<u64>) -> Option<Past> {
        let Some(life) = &self.life else { return Some(Past::none(self.nonce)) };
        let before = match life.before {
            RedisBefore::Fresh => Before::Fresh,
            RedisBefore::Failed => Before::Failed,
            RedisBefore::Abandoned { since_ms } => {
                Before::abandoned(Duration::from_millis(now_ms?.saturating_sub(since_ms)))
            }
        };
        Some(Past::new(life.generation, before, life.failed, life.has_steps))
    }

    /// The rest of the lease, given the rest of the record's time; `None` where there is no lease or it has lapsed.
    pub(crate) fn lease_left(&self, record_left_ms: i64) -> Option<Duration> {
        if self.state == RedisState::Running { self.left(record_left_ms) } else { None }
    }

    /// The rest of the pause before somebody may take over; `None` where that may be now.
    pub(crate) fn pause_left(&self, record_left_ms: i64) -> Option<Duration> {
        match self.state {
            RedisState::Failed | RedisState::Abandoned => self.left(record_left_ms),
            RedisState::Running | RedisState::Done(_) => None,
        }
    }

    /// The rest of the lease or the pause, at whose end the record's time to live begins.
    fn left(&self, record_left_ms: i64) -> Option<Duration> {
        let left_ms = u64::try_from(record_left_ms).ok()?.checked_sub(self.ttl_ms)?;
        (left_ms > 0).then(|| Duration::from_millis(left_ms))
    }
}
