//! Certificates that a builder was given, and what goes wrong with certificates.

use std::{error::Error as StdError, fmt, io, sync::Arc};

#[cfg(feature = "redis")]
use crate::error::SetupError;

/// The text for connections whose [`is_fault`] is true.
pub(super) const FAULT: &str = "the TLS connection was refused: the server's certificate is not of an authority that is \
     trusted, or not for this host name, or the server wants a certificate of ours (`root_certificate`, \
     `client_certificate`)";

/// True if TLS refused the connection, or the server did. rustls reports both as invalid data, and nothing else does.
pub(super) fn is_fault(error: &(dyn StdError + 'static)) -> bool {
    let is_invalid = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
    let mut next = Some(error);
    while let Some(error) = next {
        // The Redis client shares its causes.
        let shared = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>();
        let io = error.downcast_ref::<io::Error>().or_else(|| shared?.downcast_ref());
        if io.is_some_and(is_invalid) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Certificates and a key, as PEM.
#[derive(Clone, Default)]
pub(super) struct TlsFiles {
    /// The authorities to trust.
    pub(super) root: Option<Vec<u8>>,
    /// Our own certificate, and its key.
    pub(super) client: Option<(Vec<u8>, Vec<u8>)>,
}

#[cfg(feature = "redis")]
impl TlsFiles {
    /// Reads the files that a URL's `?sslrootcert=`, `?sslcert=` and `?sslkey=` name, and returns the URL without them.
    /// sqlx does the same for PostgreSQL.
    pub(super) fn take_from(&mut self, url: &str) -> Result<String, SetupError> {
        const MISSING: SetupError = SetupError::Url("`sslcert` and `sslkey` are needed together");
        let (rest, query) = url.split_once('?').unwrap_or((url, ""));
        let (ours, others): (Vec<_>, Vec<_>) = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .partition(|pair| ["sslrootcert=", "sslcert=", "sslkey="].iter().any(|name| pair.starts_with(name)));
        if ours.is_empty() {
            return Ok(url.to_owned());
        }
        if !url.starts_with("rediss") {
            return Err(SetupError::Url("certificates are for rediss:// only"));
        }
        let parsed = redis::parse_redis_url(&format!("redis://host/?{}", ours.join("&")));
        let parsed = parsed.ok_or(SetupError::Url("the paths of certificates are not percent-encoded"))?;
        let (mut certificate, mut key) = (None, None);
        for (name, path) in parsed.query_pairs() {
            let file = std::fs::read(&*path)
                .map_err(|_| SetupError::Url("a file of `sslrootcert`, `sslcert` or `sslkey` cannot be read"))?;
            match &*name {
                "sslrootcert" => self.root = Some(file),
                "sslcert" => certificate = Some(file),
                _ => key = Some(file),
            }
        }
        match (certificate, key) {
            (None, None) => {}
            (Some(certificate), Some(key)) => self.client = Some((certificate, key)),
            _ => return Err(MISSING),
        }
        Ok(if others.is_empty() { rest.to_owned() } else { format!("{rest}?{}", others.join("&")) })
    }
}

/// A key is a secret.
impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles").field("root", &self.root.is_some()).field("client", &self.client.is_some()).finish()
    }
}
