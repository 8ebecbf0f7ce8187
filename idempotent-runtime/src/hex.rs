//! Bytes as hexadecimal digits.

/// The two digits of a byte, in lower case.
pub(crate) fn lower(byte: u8) -> [char; 2] {
    digits(byte, b'a')
}

/// The two digits of a byte, in upper case.
pub(crate) fn upper(byte: u8) -> [char; 2] {
    digits(byte, b'A')
}

fn digits(byte: u8, ten: u8) -> [char; 2] {
    [byte >> 4, byte & 0xf].map(|value| char::from(if value < 10 { b'0' + value } else { ten + value - 10 }))
}
