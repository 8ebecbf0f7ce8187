//! `transaction = tx` on SQLite: effects that are committed with their record, or not at all.

mod both;

mod sqlite {
    use crate::both::{cancellation, transfer};

    mod locks;
    pub(crate) mod support;
}

use sqlite::support;
