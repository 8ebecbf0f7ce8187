//! The scripts that run in the server: one for each transition, each with one key.

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

    /// Calls the script by its name. If the server does not know it yet, the caller repeats the call with
    /// [`in_full`](Self::in_full).
    pub(super) fn by_name(&self) -> Cmd {
        let mut command = Cmd::with_capacity(8, 384);
        command.arg("EVALSHA").arg(&self.sha1).arg("1");
        command
    }

    /// Calls the script with its code, which the server then knows.
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
    APPEND = "append.lua";
    AWAIT = "await.lua";
    COMPLETE = "complete.lua";
    CONTEND = "claim_held.lua";
    FENCE = "fence.lua";
    FORGET = "forget.lua";
    INSPECT = "inspect.lua";
    RENEW = "renew.lua";
    RESOLVE = "resolve.lua";
    STEPS = "steps.lua";
    SUSPEND = "suspend.lua";
}
