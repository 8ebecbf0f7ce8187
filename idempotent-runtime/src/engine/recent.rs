//! The calls of this process in the last hour, minute by minute, for the operators' page. Nothing is counted before a page
//! is made.

use std::{
    array,
    collections::BTreeMap,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::time::Instant;

use super::disposition::Disposition;

/// The minutes that are counted apart.
pub(crate) const MINUTES: usize = 60;
/// The most operations that are counted apart; further ones are counted as [`OTHERS`].
const MAX_OPERATIONS: usize = 50;
/// The longest name that is kept.
const MAX_NAME_LEN: usize = 1024;
/// Operations beyond the limit. No operation's name has a blank.
const OTHERS: &str = "other operations";
/// The dispositions that calls have, in the order in which they are shown.
pub(crate) const DISPOSITIONS: [Disposition; 7] = [
    Disposition::Executed,
    Disposition::Replayed,
    Disposition::Waited,
    Disposition::TookOver,
    Disposition::Reconciled,
    Disposition::Unprotected,
    Disposition::Refused,
];

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static START: OnceLock<Instant> = OnceLock::new();
static CALLS: Calls = Calls(RwLock::new(BTreeMap::new()));

/// The counts of each operation.
struct Calls(RwLock<BTreeMap<Box<str>, Arc<Cells>>>);

/// The counts of an operation: a cell for each minute of an hour and each disposition.
struct Cells([[Cell; DISPOSITIONS.len()]; MINUTES]);

/// A count with the minute that it is of: a cell of another hour is a count of zero.
#[derive(Default)]
struct Cell(AtomicU64);

impl Cell {
    fn count(&self, minute: u32) {
        let added = self.0.fetch_update(Relaxed, Relaxed, |cell| {
            let (of, count) = split(cell);
            let count = if of == minute { count.saturating_add(1) } else { 1 };
            Some(u64::from(minute) << 32 | u64::from(count))
        });
        debug_assert!(added.is_ok(), "the closure always has an answer");
    }

    fn of(&self, minute: u32) -> u32 {
        let (of, count) = split(self.0.load(Relaxed));
        if of == minute { count } else { 0 }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each half is wanted")]
const fn split(cell: u64) -> (u32, u32) {
    ((cell >> 32) as u32, cell as u32)
}

/// The minute that it is; none is before the sixtieth, so that all minutes of the hour before have a number.
fn minute() -> u32 {
    let minutes = START.get_or_init(Instant::now).elapsed().as_secs() / 60;
    u32::try_from(minutes).unwrap_or(u32::MAX).saturating_add(60)
}

#[expect(clippy::indexing_slicing, reason = "the number is below the length")]
fn cell(cells: &Cells, minute: u32) -> &[Cell; DISPOSITIONS.len()] {
    &cells.0[minute as usize % MINUTES]
}

/// Counts from here on, until the process ends.
pub(crate) fn begin() {
    START.get_or_init(Instant::now);
    IS_COUNTING.store(true, Relaxed);
}

/// Counts a call that was answered or refused.
pub(crate) fn count(operation: &str, disposition: Disposition) {
    if IS_COUNTING.load(Relaxed) {
        CALLS.count(minute(), operation, disposition);
    }
}

/// The counts of an operation in one minute, in the order of [`DISPOSITIONS`].
pub(crate) type Minute = [u32; DISPOSITIONS.len()];

/// The operations that were called in the last hour, each with its minutes, the oldest first.
pub(crate) fn hour() -> Vec<(String, Vec<Minute>)> {
    CALLS.hour(minute())
}

impl Calls {
    #[cold]
    fn count(&self, minute: u32, operation: &str, disposition: Disposition) {
        let Some(at) = DISPOSITIONS.iter().position(|&other| other == disposition) else { return };
        // A name that was refused for its length is not kept, either.
        let operation = if operation.len() > MAX_NAME_LEN { OTHERS } else { operation };
        let cells = self.0.read().unwrap_or_else(PoisonError::into_inner).get(operation).cloned();
        let cells = cells.unwrap_or_else(|| {
            let mut operations = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let is_full = operations.len() >= MAX_OPERATIONS && !operations.contains_key(operation);
            let name = if is_full { OTHERS } else { operation };
            let new = || Arc::new(Cells(array::from_fn(|_| array::from_fn(|_| Cell::default()))));
            Arc::clone(operations.entry(name.into()).or_insert_with(new))
        });
        if let Some(cell) = cell(&cells, minute).get(at) {
            cell.count(minute);
        }
    }

    fn hour(&self, now: u32) -> Vec<(String, Vec<Minute>)> {
        let operations = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let minutes = |cells: &Cells| {
            let of = |minute| cell(cells, minute).each_ref().map(|cell| cell.of(minute));
            (now.saturating_sub(59)..=now).map(of).collect::<Vec<_>>()
        };
        let all = operations.iter().map(|(name, cells)| (name.to_string(), minutes(cells)));
        all.filter(|(_, minutes)| minutes.iter().flatten().any(|&count| count > 0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_remembered_and_no_more() {
        let calls = Calls(RwLock::default());
        for minute in [60, 60, 61, 119] {
            calls.count(minute, "charge", Disposition::Executed);
        }
        calls.count(119, "charge", Disposition::Refused);
        calls.count(119, "charge", Disposition::NotCalled);
        let minutes = calls.hour(119).remove(0).1;
        assert_eq!((minutes.len(), minutes[0], minutes[1]), (60, [2, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]));
        assert_eq!(minutes[59], [1, 0, 0, 0, 0, 0, 1]);
        // The cell of the first minute is used again an hour later.
        calls.count(120, "charge", Disposition::Executed);
        let minutes = calls.hour(120).remove(0).1;
        assert_eq!((minutes[0][0], minutes[59][0]), (1, 1));
        assert!(calls.hour(180).is_empty(), "an hour without calls");
    }

    #[test]
    fn operations_beyond_the_limit_are_counted_together() {
        let calls = Calls(RwLock::default());
        for number in 0..3 * MAX_OPERATIONS {
            calls.count(60, &format!("charge.{number}"), Disposition::Replayed);
        }
        let all = calls.hour(60);
        assert_eq!(all.len(), MAX_OPERATIONS + 1);
        let others = all.iter().find(|(name, _)| name == OTHERS).expect("others");
        assert_eq!(others.1[59][1], 2 * 50);
    }
}
