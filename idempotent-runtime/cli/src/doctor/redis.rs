//! Redis: eviction, persistence, replication, clock.

use redis::InfoDict;

use super::Check;
use crate::failure::Failure;

pub(super) async fn checks(url: &str) -> Result<Vec<Check>, Failure> {
    if url.starts_with("redis+") {
        let text =
            "`doctor` looks at one server: give it the redis:// URL of each primary of the cluster or the sentinels";
        return Err(Failure::Usage(text.to_owned()));
    }
    let failed = |error: &redis::RedisError| Failure::store(error);
    let client = redis::Client::open(url).map_err(|_| {
        // The driver's text may quote the URL, and with it a password.
        Failure::Store("the URL is not understood: expected redis://[user:password@]host[:port][/db]".to_owned())
    })?;
    let mut connection = client.get_multiplexed_async_connection().await.map_err(|error| failed(&error))?;
    let info: InfoDict = redis::cmd("INFO").query_async(&mut connection).await.map_err(|error| failed(&error))?;
    let told = |name: &str| info.get::<String>(name).unwrap_or_else(|| "unknown".to_owned());
    let number = |name: &str| info.get::<i64>(name).unwrap_or_default();

    let policy = told("maxmemory_policy");
    let role = told("role");
    let appends = number("aof_enabled") == 1;
    let mut checks = vec![
        Check::new(
            "maxmemory-policy",
            policy.clone(),
            policy != "noeviction",
            "a full server drops records of calls that ran, and their retries run again",
            "CONFIG SET maxmemory-policy noeviction",
        ),
        Check::new(
            "appendonly",
            if appends { "yes" } else { "no" },
            !appends,
            "a restart forgets what came after the last snapshot, or everything, and such keys run again",
            "CONFIG SET appendonly yes",
        ),
    ];
    if appends {
        // A login may not be allowed to ask.
        let fsync: redis::RedisResult<Vec<String>> =
            redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(&mut connection).await;
        let fsync = fsync.ok().and_then(|pair| pair.into_iter().nth(1)).unwrap_or_else(|| "unknown".to_owned());
        checks.push(Check::new(
            "appendfsync",
            fsync.clone(),
            fsync != "always",
            "a crash of the machine forgets about the last second, and such keys run again",
            "CONFIG SET appendfsync always",
        ));
    }
    let replicas = number("connected_slaves");
    checks.push(Check::new(
        "role",
        role.clone(),
        role != "master",
        "a replica takes no claims, and what it shows may be old",
        "Connect to the primary",
    ));
    checks.push(Check::new(
        "replicas",
        replicas.to_string(),
        replicas > 0,
        "replication is asynchronous: a failover forgets what was not yet there, and such keys run again",
        "Keep keys that must not run twice in PostgreSQL, or pass fences and child keys on",
    ));
    let server: (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await.map_err(|error| failed(&error))?;
    checks.push(super::clock(server.0));
    Ok(checks)
}
