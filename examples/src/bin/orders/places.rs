//! The places of the records, the stock, and the outside world.

use std::path::PathBuf;

use crate::{Args, Failure};

pub(crate) struct Places {
    /// The name of the store's kind.
    pub(crate) store: &'static str,
    /// The URL of the database with the stock.
    pub(crate) stock: String,
    /// The file with the books of the outside world.
    pub(crate) world: PathBuf,
}

impl Places {
    /// Unless said otherwise, the stock is in the store if that is SQL, else in a file. Each store has an outside world of its own:
    /// a store without records in a world where everything has happened would do it again.
    pub(crate) fn of(args: &Args) -> Result<Self, Failure> {
        let scheme = args.store.split_once(':').map_or("", |(scheme, _)| scheme);
        let (store, is_sql) = match scheme {
            "sqlite" => ("SQLite", true),
            "postgres" | "postgresql" => ("PostgreSQL", true),
            "redis" => ("Redis", false),
            _ => return Err("--store is not a `sqlite://`, `postgres://` or `redis://` URL".into()),
        };
        let beside = match args.store.strip_prefix("sqlite://") {
            Some(path) => path.split('?').next().unwrap_or_default().to_owned(),
            None => format!("orders-{}", file_name(&args.store)),
        };
        let stock = match &args.stock {
            Some(url) if ["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme)) => {
                url.clone()
            }
            Some(_) => return Err("--stock is neither a `sqlite://` nor a `postgres://` URL".into()),
            None if is_sql => args.store.clone(),
            None => format!("sqlite://{beside}.db"),
        };
        let world = args.world.clone().unwrap_or_else(|| format!("{beside}.world").into());
        Ok(Self { store, stock, world })
    }
}

/// A server's URL as the name of a file, without user and password.
fn file_name(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
    let place = rest.split('?').next().unwrap_or_default();
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place).trim_end_matches('/');
    let letter = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
    format!("{scheme}-{place}").chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_name() {
        assert_eq!(file_name("redis://user:pass@host:6379/1?protocol=resp3"), "redis-host-6379-1");
        assert_eq!(file_name("postgres://app@[::1]/shop"), "postgres----1--shop");
    }
}
