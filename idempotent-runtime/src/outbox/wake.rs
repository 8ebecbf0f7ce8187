//! Wakes the relay of this process when a transaction was committed that may have published.

use std::sync::LazyLock;

use tokio::sync::watch;

/// One for all databases: a relay that is woken for another one's commit looks once in vain.
static COMMITS: LazyLock<watch::Sender<()>> = LazyLock::new(|| watch::Sender::new(()));

/// Tells that a transaction was committed.
pub(crate) fn committed() {
    COMMITS.send_replace(());
}

/// Hears of commits from now on.
pub(super) fn commits() -> watch::Receiver<()> {
    COMMITS.subscribe()
}
