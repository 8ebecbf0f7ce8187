//! The server-side steps: one script a transition, one key a script.

use std::sync::LazyLock;

use redis::Cmd;

/// A script and the name under which a server caches it.
pub(super) struct Script {
    code: &'static str,
    sha1: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, sha1: redis::Script::new(code).get_hash().to_owned() }
    }

    /// A call by name; to be repeated as [`in_full`](Self::in_full) where the server does not know it yet.
    pub(super) fn by_name(&self) -> Cmd {
        let mut command = Cmd::with_capacity(8, 384);
        command.arg("EVALSHA").arg(&self.sha1).arg("1");
        command
    }

    /// A call that also teaches the server the script.
    pub(super) fn in_full(&self) -> Cmd {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(self.code).arg("1");
        command
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {$(
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));
    )*};
}

scripts! {
    ABANDON = "abandon.lua";
    AWAIT = "await.lua";
    COMPLETE = "complete.lua";
    CONTEND = "claim_held.lua";
    FENCE = "fence.lua";
    FORGET = "forget.lua";
    INSPECT = "inspect.lua";
    RELEASE = "release.lua";
    RENEW = "renew.lua";
}
