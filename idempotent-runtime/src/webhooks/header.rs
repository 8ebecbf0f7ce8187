//! Reads the headers of a delivery.

use http::HeaderMap;

use super::VerifyError;

/// The longest header, in bytes. A signature has less than 100, and the sender sends one for each of its secrets.
pub(super) const MAX_LEN: usize = 4096;

/// The longest id of an event, in bytes.
pub(super) const MAX_ID_LEN: usize = 255;

/// Reads a header that must be given once, in visible ASCII and spaces.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, VerifyError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(VerifyError::MissingHeader(name))?;
    let value = value.to_str().ok().filter(|value| value.len() <= MAX_LEN);
    // Two lines are refused: a proxy may have checked the one that we would not read.
    value.filter(|_| values.next().is_none()).ok_or(VerifyError::MalformedHeader(name))
}

/// Reads a header that must be given once and hold the id of an event.
pub(super) fn id<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, VerifyError> {
    let id = only(headers, name)?;
    if is_id(id) { Ok(id) } else { Err(VerifyError::MalformedHeader(name)) }
}

pub(super) fn is_id(id: &str) -> bool {
    (1..=MAX_ID_LEN).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Parses seconds since 1970, written in digits.
pub(super) fn seconds(text: &str) -> Option<u64> {
    // `parse` alone would accept a plus sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}
