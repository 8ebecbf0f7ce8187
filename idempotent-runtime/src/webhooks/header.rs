//! Headers of a delivery.

use http::HeaderMap;

use super::VerifyError;

/// The longest header: a signature is under 100 bytes, and there are as many as the sender has secrets.
pub(super) const MAX_LEN: usize = 4096;

/// The longest id of an event.
pub(super) const MAX_ID_LEN: usize = 255;

/// The value of a header that has to be there once, in visible ASCII and spaces.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, VerifyError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(VerifyError::MissingHeader(name))?;
    let value = value.to_str().ok().filter(|value| value.len() <= MAX_LEN);
    // Of two lines, a proxy may have looked at the other.
    value.filter(|_| values.next().is_none()).ok_or(VerifyError::MalformedHeader(name))
}

/// The same, for the id of an event.
pub(super) fn id<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, VerifyError> {
    let id = only(headers, name)?;
    if is_id(id) { Ok(id) } else { Err(VerifyError::MalformedHeader(name)) }
}

pub(super) fn is_id(id: &str) -> bool {
    (1..=MAX_ID_LEN).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Seconds since 1970, in digits.
pub(super) fn seconds(text: &str) -> Option<u64> {
    // `parse` alone would take a plus sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}
