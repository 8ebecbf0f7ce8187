//! The operators' page: what it shows and what it hides, who may do what, and that of several who want to change a record one
//! comes first; by plain HTTP requests, and in a browser at the width of a phone and of a desk.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod browser;
mod driver;
mod hostile;
mod letters;
mod looking;
mod records;
mod resolving;
mod rights;
mod site;
