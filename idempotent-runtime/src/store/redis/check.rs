//! Checks that a server is fit to keep records.

use redis::{Cmd, ErrorKind, FromRedisValue, InfoDict, ServerErrorKind, Value};

use super::{
    connection::Connector,
    fault::{is_answer, unexpected_reply},
};
use crate::{
    engine::events,
    store::{StoreError, StoreErrorKind, StoreResult},
};

/// `SET … NX GET` came with this release.
const OLDEST_MAJOR: u32 = 7;

/// Asks every primary what it is, and lets one run a script: claims need none, but ends do.
pub(super) async fn check_server(connector: &Connector, allow_eviction: bool) -> StoreResult<()> {
    let mut command = Cmd::new();
    command.arg("INFO");
    let answers = match connector.try_call(&command).await? {
        Ok(Value::Map(nodes)) => nodes.into_iter().map(|(_, answer)| answer).collect(),
        Ok(answer) => vec![answer],
        // Whatever the server says instead.
        Err(error) if is_answer(&error) => {
            if !allow_eviction {
                return Err(refused(
                    "the server does not tell its release and its maxmemory-policy (`INFO` is renamed or forbidden): \
                     permit it, or accept that records may be dropped with `allow_eviction(true)`",
                ));
            }
            Vec::new()
        }
        Err(error) => return Err(connector.fault(error)),
    };
    for answer in answers {
        let info = InfoDict::from_redis_value(answer).map_err(|_| unexpected_reply())?;
        check_info(&info, connector.is_cluster(), allow_eviction)?;
    }
    check_scripts(connector).await
}

/// A login without them would be granted claims, run bodies, and then could not record what came of them.
async fn check_scripts(connector: &Connector) -> StoreResult<()> {
    const SCRIPT: &str = "return 1";
    let mut in_full = Cmd::new();
    in_full.arg("EVAL").arg(SCRIPT).arg(0);
    connector.call(&in_full).await?;
    let mut by_name = Cmd::new();
    by_name.arg("EVALSHA").arg(redis::Script::new(SCRIPT).get_hash()).arg(0);
    match connector.try_call(&by_name).await? {
        // Another node of a cluster, which does not know it.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => Ok(()),
        answer => answer.map(drop).map_err(|error| connector.fault(error)),
    }
}

fn check_info(info: &InfoDict, is_cluster: bool, allow_eviction: bool) -> StoreResult<()> {
    let version: Option<String> = info.get("redis_version");
    let major = version.as_deref().and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_MAJOR) {
        return Err(refused("the server is older than Redis 7.0"));
    }
    // Valkey has another name for it.
    match info.get::<String>("redis_mode").or_else(|| info.get("server_mode")).as_deref() {
        Some("sentinel") => {
            return Err(refused(
                "the server is a sentinel, which keeps no records: connect with \
                 redis+sentinel://host:port/name-of-the-primary",
            ));
        }
        Some("cluster") if !is_cluster => {
            return Err(refused(
                "the server is a node of a cluster, and has some of the keys only: connect with \
                 redis+cluster://host:port",
            ));
        }
        _ => {}
    }
    // In a cluster, replicas are asked as well where the client routes to them; it sends claims to primaries.
    if !is_cluster && info.get::<String>("role").as_deref() == Some("slave") {
        return Err(refused(
            "the server is a replica, which takes no writes: connect to its primary, or let sentinels name it with \
             redis+sentinel://",
        ));
    }
    let policy: Option<String> = info.get("maxmemory_policy");
    if !allow_eviction && policy.as_deref() != Some("noeviction") {
        return Err(refused(
            "the server's maxmemory-policy is not `noeviction`, so it may drop records of calls that ran; \
             change it, or accept that with `allow_eviction(true)`",
        ));
    }
    if info.get::<u8>("aof_enabled") == Some(0) {
        events::forgetful(
            "the Redis server has no append-only file: when it restarts, it forgets what came after its last snapshot, \
             or everything, and such keys run again; `appendonly yes` keeps records",
        );
    }
    Ok(())
}

fn refused(what: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Refused, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: &str, policy: &str, allow_eviction: bool) -> StoreResult<()> {
        let info = InfoDict::new(&format!("# Server\r\nredis_version:{version}\r\nmaxmemory_policy:{policy}\r\n"));
        check_info(&info, false, allow_eviction)
    }

    #[test]
    fn old_servers_are_refused() {
        assert!(check("7.0.0", "noeviction", false).is_ok());
        assert!(check("10.1.0", "noeviction", false).is_ok());
        assert!(check("6.2.14", "noeviction", true).is_err());
        assert!(check("unknown", "noeviction", true).is_err());
    }

    #[test]
    fn what_is_no_primary_of_all_keys_is_refused() {
        let check = |lines: &str, is_cluster| {
            let info = format!("redis_version:7.0.0\r\nmaxmemory_policy:noeviction\r\n{lines}\r\n");
            check_info(&InfoDict::new(&info), is_cluster, false)
        };
        assert!(check("redis_mode:standalone\r\nrole:master", false).is_ok());
        assert!(check("redis_mode:standalone\r\nrole:slave", false).is_err());
        assert!(check("redis_mode:sentinel", false).is_err());
        assert!(check("redis_mode:cluster\r\nrole:master", false).is_err());
        assert!(check("redis_mode:cluster\r\nrole:master", true).is_ok());
        assert!(check("server_mode:standalone\r\nrole:master", false).is_ok());
        assert!(check("server_mode:sentinel", false).is_err());
        assert!(check("server_mode:cluster\r\nrole:master", false).is_err());
    }

    #[test]
    fn evicting_servers_are_refused_unless_allowed() {
        assert!(check("7.2.4", "allkeys-lru", false).is_err());
        assert!(check("7.2.4", "volatile-ttl", false).is_err());
        assert!(check("7.2.4", "allkeys-lru", true).is_ok());
    }
}
