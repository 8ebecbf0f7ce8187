//! Parts that the PostgreSQL and the SQLite store share.

pub(crate) mod connections;
pub(crate) mod states;
pub(crate) mod transaction;
