//! Texts that stores keep for operators.

/// Without zero characters, which PostgreSQL's `text` cannot hold.
pub(crate) fn readable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The beginning of it, in up to so many bytes.
pub(crate) fn shortened(text: &str, max_len: usize) -> String {
    let mut text = readable(text);
    let mut len = max_len.min(text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text.truncate(len);
    text
}
