//! `transaction = tx`: effects that are committed with their record, or not at all. The tests in `both` run on each
//! database.

#[path = "transactions/postgres/mod.rs"]
mod postgres;
#[path = "transactions/sqlite/mod.rs"]
mod sqlite;
