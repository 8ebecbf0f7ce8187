//! `doctor`: settings of the server that endanger records.

mod postgres;
mod redis;
mod sqlite;

use serde_json::json;

use crate::{
    arguments::Arguments,
    connect::{self, Kind},
    failure::{Exit, Failure},
    output::Output,
};

/// One setting that was looked at.
pub(crate) struct Check {
    name: &'static str,
    found: String,
    trouble: Option<Trouble>,
}

/// A dangerous setting.
pub(crate) struct Trouble {
    costs: &'static str,
    mend: &'static str,
}

impl Check {
    /// A setting as it was found; dangerous if it is, which costs this and is mended so.
    pub(crate) fn new(
        name: &'static str,
        found: impl Into<String>,
        is_dangerous: bool,
        costs: &'static str,
        mend: &'static str,
    ) -> Self {
        Self { name, found: found.into(), trouble: is_dangerous.then_some(Trouble { costs, mend }) }
    }
}

pub(crate) async fn doctor(arguments: &Arguments, out: Output) -> Result<Exit, Failure> {
    let (url, kind) = connect::url(arguments)?;
    let checks: Vec<Check> = match kind {
        Kind::Redis => tokio::time::timeout(std::time::Duration::from_secs(10), redis::checks(url))
            .await
            .map_err(|_| Failure::Store("the Redis server does not answer".to_owned()))??,
        Kind::Postgres => postgres::checks(url).await?,
        Kind::Sqlite => sqlite::checks(url, &arguments.table).await?,
    };
    for Check { name, found, trouble } in &checks {
        let (costs, mend) = trouble.as_ref().map(|trouble| (trouble.costs, trouble.mend)).unzip();
        let json = json!({ "check": name, "found": found, "ok": trouble.is_none(), "costs": costs, "mend": mend });
        let text = match trouble {
            None => format!("ok       {name} = {found}"),
            Some(Trouble { costs, mend }) => format!("DANGER   {name} = {found}: {costs}. {mend}."),
        };
        out.say(&json, &text)?;
    }
    Ok(Exit::found_if(checks.iter().any(|check| check.trouble.is_some())))
}

/// Compares a server's clock with this machine's.
pub(crate) fn clock(server_seconds: i64) -> Check {
    use std::time::UNIX_EPOCH;
    #[expect(
        clippy::disallowed_methods,
        reason = "the very question is what this machine's clock says; nothing rests on it"
    )]
    let ours = std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let apart = server_seconds.abs_diff(i64::try_from(ours).unwrap_or(i64::MAX));
    Check::new(
        "clock",
        format!("{apart} s from this machine's"),
        apart > 5,
        "one of the two is wrong: a server's clock that is set while it runs ends leases early, or late",
        "Have both slewed by chrony or the like",
    )
}
