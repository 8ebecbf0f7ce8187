//! The events of each order, as the outside world and the supervisor see them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The longest story that is told.
const LINES: usize = 30;

pub(crate) struct Chronicle {
    begin: Instant,
    events: Mutex<BTreeMap<String, Vec<(Duration, String)>>>,
}

impl Chronicle {
    pub(crate) fn begin() -> Self {
        Self { begin: Instant::now(), events: Mutex::default() }
    }

    pub(crate) fn note(&self, order_id: &str, text: &str) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.entry(order_id.to_owned()).or_default().push((self.begin.elapsed(), text.to_owned()));
    }

    /// The story of the order that had the most events and is not too long to be read.
    pub(crate) fn story(&self) -> Option<String> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let (order_id, story) =
            events.iter().filter(|(_, story)| story.len() <= LINES).max_by_key(|(_, story)| story.len())?;
        let first = story.first()?.0;
        let line =
            |(at, text): &(Duration, String)| format!("  {:>6.2} s  {text}\n", at.saturating_sub(first).as_secs_f64());
        Some(format!("The story of order {order_id}:\n{}", story.iter().map(line).collect::<String>()))
    }
}
