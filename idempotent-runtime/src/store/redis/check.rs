//! Checks that a server is fit to keep records.

use redis::{Cmd, FromRedisValue, InfoDict, Value};

use super::{connection::Connector, fault::unexpected_reply};
use crate::store::{StoreError, StoreErrorKind, StoreResult};

/// `SET … NX GET` came with this release.
const OLDEST_MAJOR: u32 = 7;

/// Asks every primary for its release and its eviction policy.
pub(super) async fn check_server(connector: &Connector, allow_eviction: bool) -> StoreResult<()> {
    let mut command = Cmd::new();
    command.arg("INFO");
    let answers = match connector.call(&command).await {
        Ok(Value::Map(nodes)) => nodes.into_iter().map(|(_, answer)| answer).collect(),
        Ok(answer) => vec![answer],
        Err(error) if error.kind() == StoreErrorKind::Refused && allow_eviction => return Ok(()),
        Err(error) => return Err(error),
    };
    for answer in answers {
        let info = InfoDict::from_redis_value(answer).map_err(|_| unexpected_reply())?;
        check_info(&info, allow_eviction)?;
    }
    Ok(())
}

fn check_info(info: &InfoDict, allow_eviction: bool) -> StoreResult<()> {
    let version: Option<String> = info.get("redis_version");
    let major = version.as_deref().and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_MAJOR) {
        return Err(refused("the server is older than Redis 7.0"));
    }
    let policy: Option<String> = info.get("maxmemory_policy");
    if !allow_eviction && policy.as_deref() != Some("noeviction") {
        return Err(refused(
            "the server's maxmemory-policy is not `noeviction`, so it may drop records of calls that ran; \
             change it, or accept that with `allow_eviction(true)`",
        ));
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
        check_info(&info, allow_eviction)
    }

    #[test]
    fn old_servers_are_refused() {
        assert!(check("7.0.0", "noeviction", false).is_ok());
        assert!(check("10.1.0", "noeviction", false).is_ok());
        assert!(check("6.2.14", "noeviction", true).is_err());
        assert!(check("unknown", "noeviction", true).is_err());
    }

    #[test]
    fn evicting_servers_are_refused_unless_allowed() {
        assert!(check("7.2.4", "allkeys-lru", false).is_err());
        assert!(check("7.2.4", "volatile-ttl", false).is_err());
        assert!(check("7.2.4", "allkeys-lru", true).is_ok());
    }
}
