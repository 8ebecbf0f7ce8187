//! What the worker process is told, and what it tells.

use serde::{Deserialize, Serialize};

/// What a worker does, as JSON in its only argument.
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
    /// How many calls there are.
    pub calls: usize,
    /// Whether the body waits, after its effect, for an element of the list [`gate`].
    pub hold: bool,
}

/// What came of the calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// One for each call.
    pub answers: Vec<Answer>,
}

/// What came of a call.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Answer {
    /// The result, or the code of the error.
    pub result: Result<u64, String>,
    /// How the call came to it.
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
