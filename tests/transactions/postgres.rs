//! `transaction = tx` on PostgreSQL: effects that are committed with their record, or not at all.

mod both;

mod postgres {
    use crate::both::transfer;

    mod faults;
    mod isolation;
    mod sessions;
    pub(crate) mod support;
}

use postgres::support;
