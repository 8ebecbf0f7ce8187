//! Events, as lines that survive the process that wrote them.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Its time, in µs on the clock that all processes share.
    pub at: u64,
    pub process: u64,
    pub what: What,
}

/// Calls and claims are numbered at random; a number is neither a nonce nor made from one that could be found again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum What {
    Invoked {
        call: u64,
        record: String,
        variant: u32,
    },
    Answered {
        call: u64,
        answer: Answer,
    },
    Started {
        call: u64,
        attempt: u32,
    },
    Returned {
        call: u64,
        ok: bool,
    },
    Fenced {
        call: u64,
        fence: u64,
    },
    Asked {
        claim: u64,
        step: Step,
        record: String,
        call: Option<u64>,
    },
    Told {
        claim: u64,
        step: Step,
        told: Told,
    },
    /// An operator asked to remove a record.
    Forgot {
        record: String,
    },
}

/// The answer that a caller got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The value of the run of this call.
    Ok(u64),
    /// The error of the run of this call.
    Err(u64),
    /// An error of the library, by its code.
    Refused(String),
    Panicked,
    /// The caller went away.
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    Claim,
    Renew,
    Complete,
    Release,
    Abandon,
    /// The body did not start.
    GiveBack,
}

/// The answer that a store gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    Granted { attempt: u32 },
    InFlight,
    Done,
    Abandoned,
    Mismatch,
    Applied,
    Lost,
    Failed,
}

/// The log to which one process writes its events.
#[derive(Clone, Debug)]
pub struct Log {
    pub process: u64,
    clock: Clock,
    sink: Arc<Mutex<Sink>>,
}

#[derive(Clone, Copy, Debug)]
enum Clock {
    Machine,
    Tokio { start: Instant },
}

#[derive(Debug)]
enum Sink {
    Memory(Vec<Event>),
    File(File),
}

impl Log {
    /// Appends to a file, one write an event: a killed process leaves whole lines, and at most one that is torn.
    ///
    /// # Panics
    ///
    /// Where there can be no such file.
    #[must_use]
    pub fn file(process: u64, path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path).expect("a file for the history");
        Self { process, clock: Clock::Machine, sink: Arc::new(Mutex::new(Sink::File(file))) }
    }

    /// Collects in memory, on tokio's clock.
    #[must_use]
    pub fn memory() -> Self {
        let sink = Arc::new(Mutex::new(Sink::Memory(Vec::new())));
        Self { process: 0, clock: Clock::Tokio { start: Instant::now() }, sink }
    }

    /// A handle to this log for another process.
    #[must_use]
    pub fn of(&self, process: u64) -> Self {
        Self { process, ..self.clone() }
    }

    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn push(&self, what: What) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Event { at: self.now(), process: self.process, what };
        match &mut *sink {
            Sink::Memory(events) => events.push(event),
            Sink::File(file) => {
                let mut line = serde_json::to_string(&event).expect("an event is JSON");
                line.push('\n');
                file.write_all(line.as_bytes()).expect("the history can be written");
            }
        }
    }

    /// Takes what was collected in memory.
    #[must_use]
    pub fn take(&self) -> Vec<Event> {
        match &mut *self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::Memory(events) => std::mem::take(events),
            Sink::File(_) => Vec::new(),
        }
    }

    /// The time of an event that happens now.
    #[must_use]
    pub fn now(&self) -> u64 {
        match self.clock {
            Clock::Tokio { start } => start.elapsed().as_micros().try_into().expect("a short time"),
            Clock::Machine => {
                let now = clock_gettime(ClockId::Monotonic);
                u64::try_from(now.tv_sec).expect("after the start") * 1_000_000
                    + u64::try_from(now.tv_nsec).expect("a fraction") / 1000
            }
        }
    }
}

/// All events of the files in a folder, by time.
///
/// # Panics
///
/// Where they cannot be read; and for a line that is no event, unless it is the last of its file.
#[must_use]
pub fn read(folder: &Path) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let text = fs::read_to_string(entry.expect("a file").path()).expect("a history");
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            events.push(serde_json::from_str(line).expect("an event"));
        }
    }
    events.sort_by_key(|event| event.at);
    events
}
