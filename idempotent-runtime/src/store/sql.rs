//! Parts that the PostgreSQL and the SQLite store share.

pub(crate) mod connections;
pub(crate) mod states;
pub(in crate::store) mod sweep;
pub(crate) mod transaction;
