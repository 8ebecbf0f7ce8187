//! The `tracing` events of the thread that a test runs on.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, NoSubscriber},
};

/// Keeps events of warnings and errors, as long as it lives.
#[derive(Debug)]
pub struct CapturedEvents {
    lines: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
    _another: Dispatch,
}

impl Default for CapturedEvents {
    fn default() -> Self {
        Self::start()
    }
}

impl CapturedEvents {
    /// Begins to keep what this thread tells.
    #[must_use]
    pub fn start() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        // With a single one, what another test's thread says first would never be of interest to this one's.
        let another = Dispatch::new(NoSubscriber::default());
        let guard = tracing::subscriber::set_default(Keeper(Arc::clone(&lines)));
        Self { lines, _guard: guard, _another: another }
    }

    /// The events so far, which are forgotten: the level, the message, the fields.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Keeper(Arc<Mutex<Vec<String>>>);

impl Subscriber for Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("idempotent") && *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}
