//! `transaction = tx`: effects that are committed with their record, or not at all. The tests in `both` run on each
//! database.

#![expect(clippy::duplicate_mod, reason = "they are the same tests, on what each database's `support` has")]

mod postgres;
mod sqlite;
