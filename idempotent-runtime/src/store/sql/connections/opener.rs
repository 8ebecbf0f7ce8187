//! Opens connections as their source does.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Database, Error, Pool};

use super::Options;

/// Opens connections that do not belong to a source, and are like those of it.
pub(in crate::store) enum Opener<DB: Database> {
    With(Options<DB>),
    Like(Pool<DB>),
}

impl<DB: Database> Clone for Opener<DB> {
    fn clone(&self) -> Self {
        match self {
            Self::With(options) => Self::With(options.clone()),
            Self::Like(pool) => Self::Like(pool.clone()),
        }
    }
}

impl<DB: Database> Opener<DB> {
    /// The present options. Those of a pool change where its credentials are rotated (`Pool::set_connect_options`).
    pub(in crate::store) fn options(&self) -> Options<DB> {
        match self {
            Self::With(options) => options.clone(),
            Self::Like(pool) => (*pool.connect_options()).clone(),
        }
    }

    pub(in crate::store) async fn open(&self, patience: Duration) -> Result<DB::Connection, Error> {
        match self {
            Self::With(options) => options.connect().await,
            Self::Like(pool) => {
                // `after_connect` may set a role or a `search_path`, and sqlx runs it for connections of a pool only. So
                // a pool with the same hooks opens this one, and is gone.
                let like = pool.options().clone().min_connections(0).max_connections(1).acquire_timeout(patience);
                let one = like.idle_timeout(None).max_lifetime(None).connect_lazy_with(self.options());
                Ok(one.acquire().await?.detach())
            }
        }
    }
}
