//! Identifies the file that the records are in.

use std::path::PathBuf;

use crate::store::{StoreError, StoreErrorKind};

/// The file that was opened. It tells when the path names another file.
///
/// SQLite goes on writing to a file that was deleted or replaced. Whatever it then acknowledges is lost, and processes
/// that open the path find other records. So every read and write of the store checks the file first, in about a
/// microsecond. Steps in a transaction of the caller's do not.
#[derive(Debug)]
pub(super) struct OpenedFile {
    path: PathBuf,
    identity: Option<Identity>,
}

impl OpenedFile {
    pub(super) fn new(path: PathBuf) -> Self {
        let identity = identity(&path);
        Self { path, identity }
    }

    /// Checks that the path still names the file that was opened.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Refused`] when the path does not name the file that was opened.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if identity(&self.path) == self.identity {
            return Ok(());
        }
        Err(StoreError::new(StoreErrorKind::Refused, "the SQLite file was deleted or replaced: restart the process"))
    }
}

/// Device and inode.
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(path: &std::path::Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// There is no identity on other systems, where an open file cannot be deleted.
#[cfg(not(unix))]
fn identity(_: &std::path::Path) -> Option<Identity> {
    None
}
