//! Everything that `tracing` is told in this process, down to TRACE, as text.

use std::{
    io,
    sync::{Mutex, Once, PoisonError},
};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static STARTED: Once = Once::new();

struct Sink;

impl io::Write for Sink {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts to listen, once per process.
pub(crate) fn listen() {
    STARTED.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(|| Sink)
            .init();
    });
}

/// All of it.
pub(crate) fn text() -> String {
    String::from_utf8_lossy(&LINES.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// The events of an operation at this level or with this text.
pub(crate) fn events(operation: &str, what: &str) -> Vec<String> {
    let operation = format!("\"{operation}\"");
    text().lines().filter(|line| line.contains(&operation) && line.contains(what)).map(str::to_owned).collect()
}
