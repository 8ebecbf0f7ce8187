//! Connects to the stores that URLs name.

use std::sync::Arc;

use super::Store;
use crate::error::SetupError;

/// Connects to the store that a URL names.
#[cfg_attr(
    not(any(feature = "postgres", feature = "redis", feature = "sqlite")),
    expect(clippy::unused_async, reason = "the embedded store is not waited for")
)]
pub(crate) async fn connect(url: &str) -> Result<Arc<dyn Store>, SetupError> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        #[cfg(feature = "memory")]
        "memory" => Ok(Arc::new(super::memory::MemoryStore::new())),
        #[cfg(not(feature = "memory"))]
        "memory" => Err(SetupError::Scheme { feature: Some("memory") }),
        #[cfg(feature = "redis")]
        _ if scheme.starts_with("redis") || scheme == "unix" => {
            Ok(Arc::new(super::redis::RedisStore::connect(url).await?))
        }
        #[cfg(not(feature = "redis"))]
        _ if scheme.starts_with("redis") => Err(SetupError::Scheme { feature: Some("redis") }),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(super::postgres::PostgresStore::connect(url).await?)),
        #[cfg(not(feature = "postgres"))]
        "postgres" | "postgresql" => Err(SetupError::Scheme { feature: Some("postgres") }),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(super::sqlite::SqliteStore::connect(url).await?)),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(SetupError::Scheme { feature: Some("sqlite") }),
        _ => Err(SetupError::Scheme { feature: None }),
    }
}
