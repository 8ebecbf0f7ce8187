//! The tests of both databases, on the `support` of the one that a target is for.

use crate::support;

mod atomicity;
pub(crate) mod cancellation;
mod duplicates;
mod nesting;
mod states;
pub(crate) mod transfer;
