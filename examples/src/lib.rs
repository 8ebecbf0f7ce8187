//! Shared by the programs: printing to the user, and brokers that deliver messages.

pub mod rabbitmq;
pub mod redis_streams;

use std::{
    env,
    error::Error,
    fmt::Display,
    io::{self, Write as _},
    path::Path,
};

/// Writes to standard output. A reader that closes the pipe early (`| head`) is not an error.
///
/// # Errors
///
/// If the output fails for another reason.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a line to standard error, after the program's name. A failure is ignored, since nobody could be told.
pub fn say(what: impl Display) {
    let program = env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_stem().unwrap_or_default().display().to_string();
    let _ = writeln!(io::stderr().lock(), "{name}: {what}");
}

/// Formats an error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
