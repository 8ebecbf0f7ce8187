//! What the user sees.

use std::{
    error::Error,
    fmt::Display,
    io::{self, Write as _},
};

/// Writes to standard output, whoever reads it.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes a line to standard error. There is nobody to tell if that fails.
pub(crate) fn complain(what: impl Display) {
    let _ = writeln!(io::stderr().lock(), "webhooks: {what}");
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
