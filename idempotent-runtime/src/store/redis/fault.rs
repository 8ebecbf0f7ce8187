//! Turns errors of the client and of the server into store errors, by meaning.

use std::{error::Error as StdError, fmt};

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::{StoreError, StoreErrorKind, tls};

/// The first word of a server's error reply.
///
/// The rest of the reply stays out of our errors: some replies quote the command's arguments.
#[derive(Debug)]
struct ServerCode(String);

impl fmt::Display for ServerCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.0)
    }
}

impl StdError for ServerCode {}

/// The client's error, without the causes that its text repeats.
#[derive(Debug)]
struct ClientError(RedisError);

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for ClientError {}

/// The store error that means the same.
pub(super) fn store_error(error: RedisError) -> StoreError {
    let (kind, what) = meaning(&error);
    let plain = StoreError::new(kind, what);
    match error.kind() {
        // Parser errors quote what they could not read.
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => plain,
        _ => match error.code() {
            Some(code) => plain.with_source(ServerCode(code.to_owned())),
            None => plain.with_source(ClientError(error)),
        },
    }
}

/// The error for a reply of a shape that the command does not have.
pub(super) fn unexpected_reply() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "Redis sent a reply that is not understood")
}

fn meaning(error: &RedisError) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Corrupt, Full, Refused, Unavailable};
    match error.kind() {
        ErrorKind::Io if tls::is_fault(error) => (Refused, tls::FAULT),
        ErrorKind::Io if error.is_timeout() => (Unavailable, "Redis did not answer in time"),
        ErrorKind::Io => (Unavailable, "Redis cannot be reached"),
        ErrorKind::AuthenticationFailed => (Refused, "Redis refused the credentials"),
        ErrorKind::InvalidClientConfig => (Refused, "the Redis client refused its settings"),
        ErrorKind::RESP3NotSupported => (Refused, "the server does not speak RESP3: Redis 7.0 or later is needed"),
        ErrorKind::Server(ServerErrorKind::NoPerm) => {
            (Refused, "the Redis login lacks a permission: grant it what the documentation of `store::redis` lists")
        }
        ErrorKind::Server(ServerErrorKind::ReadOnly) => (Unavailable, "the Redis server is a read-only replica"),
        _ => match error.code() {
            Some("OOM") => (Full, "Redis is out of memory"),
            Some("WRONGTYPE") => (Corrupt, "what is stored under the key is not a record of this library"),
            Some("NOAUTH" | "WRONGPASS") => (Refused, "Redis refused the credentials"),
            Some("ERR") if error.detail().is_some_and(lacks_the_database) => (
                Refused,
                "the Redis server does not have the database that the URL names, or the login may not select it",
            ),
            Some("ERR") if error.detail().is_some_and(lacks_a_command) => (
                Refused,
                "the Redis server or login does not have a command that is needed: see the permissions in the \
                 documentation of `store::redis`, and whether the server is one of Redis 7.0 that keeps data",
            ),
            _ => (Unavailable, "Redis cannot serve the request now"),
        },
    }
}

/// Recognises the texts of Redis 7 for a database that cannot be selected.
fn lacks_the_database(text: &str) -> bool {
    text.starts_with("DB index is out of range") || text.contains("run the 'select' command")
}

/// Recognises the texts of Redis 7 and Valkey 9 for a command that is not there or not permitted, in a script or by itself.
/// They have no code of their own.
fn lacks_a_command(text: &str) -> bool {
    let starts = [
        "unknown command",
        "Unknown Redis command",
        "Unknown command",
        "The user executing the script can't run",
        "ACL failure in script",
    ];
    starts.iter().any(|start| text.starts_with(start))
}

/// True if a server has said so, having changed nothing; otherwise the outcome is unknown.
pub(super) fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// True if the connection that produced this error must be replaced.
///
/// A time-out spoils it too: a half-open connection never heals by itself. A read-only answer comes from a server that has
/// been demoted; the next connection may find its successor.
pub(super) fn spoils_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(reply: &str) -> StoreError {
        let value = redis::parse_redis_value(format!("-{reply}\r\n").as_bytes()).expect("a reply");
        store_error(value.extract_error().expect_err("an error reply"))
    }

    #[test]
    fn server_errors_have_a_kind_each() {
        let cases = [
            ("OOM command not allowed when used memory > 'maxmemory'.", StoreErrorKind::Full),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", StoreErrorKind::Corrupt),
            ("NOAUTH Authentication required.", StoreErrorKind::Refused),
            ("WRONGPASS invalid username-password pair or user is disabled.", StoreErrorKind::Refused),
            ("NOPERM this user has no permissions to run the 'set' command", StoreErrorKind::Refused),
            ("ERR DB index is out of range", StoreErrorKind::Refused),
            ("ERR unknown command 'EVALSHA', with args beginning with: ", StoreErrorKind::Refused),
            ("ERR Unknown Redis command called from script script: 985c, on @user_script:1.", StoreErrorKind::Refused),
            (
                "ERR The user executing the script can't run this command or subcommand script: d3c2, on @user_script:1.",
                StoreErrorKind::Refused,
            ),
            ("ERR Unknown command called from script script: on @user_script:1.", StoreErrorKind::Refused),
            (
                "ERR ACL failure in script: User app has no permissions to run the 'getrange' command script: on @user_script:1.",
                StoreErrorKind::Refused,
            ),
            ("LOADING Redis is loading the dataset in memory", StoreErrorKind::Unavailable),
            ("TRYAGAIN Multiple keys request during rehashing of slot", StoreErrorKind::Unavailable),
            ("CLUSTERDOWN The cluster is down", StoreErrorKind::Unavailable),
            ("READONLY You can't write against a read only replica.", StoreErrorKind::Unavailable),
            ("MASTERDOWN Link with MASTER is down", StoreErrorKind::Unavailable),
            ("BUSY Redis is busy running a script.", StoreErrorKind::Unavailable),
            ("MISCONF Redis is configured to save RDB snapshots", StoreErrorKind::Unavailable),
            ("ERR max number of clients reached", StoreErrorKind::Unavailable),
        ];
        for (reply, kind) in cases {
            assert_eq!(server_error(reply).kind(), kind, "{reply}");
        }
    }

    #[test]
    fn arguments_that_a_server_quotes_stay_out() {
        let error = server_error("ERR unknown command 'EVALSHA', with args beginning with: 'canary-key'");
        assert!(!format!("{error:?} {error}").contains("canary"));
    }
}
