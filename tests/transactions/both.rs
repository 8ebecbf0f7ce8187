//! The tests of both databases, on the `support` of the one that a target is for.

use crate::support;

mod atomicity;
pub(crate) mod cancellation;
mod duplicates;
mod from_begin_to_commit;
mod nesting;
mod states;
pub(crate) mod transfer;
