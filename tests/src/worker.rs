//! The plan that a worker process is given, and the report that it writes.

use serde::{Deserialize, Serialize};

/// The plan of a worker, as JSON in its only argument.
///
/// It connects, writes `ready`, waits for a line on its standard input, makes all calls at once, and writes a
/// [`Report`] in one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The Redis server that keeps the records and counts the effects.
    pub url: String,
    /// The key of all calls.
    pub order: String,
    /// Their other argument.
    pub amount: u64,
    /// The number of calls.
    pub calls: usize,
    /// True if the body waits, after its effect, for an element of the list [`gate`].
    pub hold: bool,
}

/// The results of the calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// One for each call.
    pub answers: Vec<Answer>,
}

/// The result of one call.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Answer {
    /// The result, or the code of the error.
    pub result: Result<u64, String>,
    /// The call's disposition: the way in which it came to its result.
    pub disposition: String,
}

/// The operation that workers call.
pub const OPERATION: &str = "worker.charge";

/// The counter of the effects of an order, whose value is the result of the run.
#[must_use]
pub fn effects(order: &str) -> String {
    format!("effects:{order}")
}

/// The list that a body takes an element from if it is told to hold.
#[must_use]
pub fn gate(order: &str) -> String {
    format!("gate:{order}")
}
