//! Records in Redis 7.0 or later, or Valkey: shared by all processes that reach the server.
//!
//! A record is one string value under `{prefix}{operation}|{key}`: a fixed header, the arguments where they are recorded,
//! and the result as the codec wrote it. `redis-cli GETRANGE key 74 -1` shows all but the header. The server itself expires
//! records. A hit is one command and one round trip (`SET … NX GET PX`), a miss is two. Only a key that is held, lapsed or
//! suspended needs a script to claim it. Each transition is one command or one script on one key: this makes it atomic, in
//! a cluster too. A server that compares values (Valkey 8.1, Redis 8.4 or later) needs no script for a first run without
//! steps that nobody waits for: `SET … IFEQ` completes and renews it, and `DELIFEQ` (Valkey 9) or `DELEX` releases its key.
//! Each connection finds out by `HELLO`. Those commands are tested on Valkey, and not on Redis 8.4.
//!
//! The journal of steps lies in the same value, last, until the run is completed: one key has one slot in a cluster, one
//! expiry and one deletion. A step is one round trip. The price is paid by a duplicate that meets a running record: the server
//! sends it the journal along. A record that was taken over or suspended, or has steps, has 29 bytes more in front of
//! arguments and result, so that `redis-cli GETRANGE key 103 -1` shows them. A process of a release without steps answers such
//! a record with [`StoreErrorKind::Corrupt`], and runs nothing.
//!
//! # URLs
//!
//! | URL | what |
//! |---|---|
//! | `redis://[user:password@]host[:port][/database]` | one server |
//! | `rediss://…` | the same over TLS (feature `redis-tls`) |
//! | `unix:///path/redis.sock` | one server on this machine |
//! | `redis+cluster://[user:password@]host:port,host:port` | a cluster, found through any of its nodes |
//! | `redis+sentinel://[user:password@]host:port,host:port/primary[/database]` | the primary that sentinels name; `?sentinel_user=` and `?sentinel_password=` log in to the sentinels |
//!
//! `rediss+cluster` and `rediss+sentinel` are the same over TLS. Credentials are percent-encoded and never shown. A host
//! may be an IPv6 address in brackets: `redis://[::1]:6379`.
//!
//! A server that the URL does not fit is refused by [`connect`](RedisStore::connect), with what to change: a node of a
//! cluster and a sentinel by `redis://`, a replica, a login that may not run scripts.
//!
//! # TLS
//!
//! Over TLS the server's certificate and name are verified. Its authority is one of the operating system's, or of those in
//! the file that the environment's `SSL_CERT_FILE` names, unless one is named here:
//!
//! | | parameter | setting |
//! |---|---|---|
//! | the authority to trust, instead of those | `?sslrootcert=/path/ca.pem` | [`root_certificate`](RedisStoreBuilder#method.root_certificate) |
//! | a certificate of ours, for a server that asks for it | `?sslcert=/path/own.pem&sslkey=/path/own.key` | [`client_certificate`](RedisStoreBuilder#method.client_certificate) |
//!
//! The parameters have PostgreSQL's names. They count for every node of a cluster, and for sentinels.
//!
//! The test suite runs on Redis 7.0 and on Valkey 9.1, without Unix sockets. TLS is tested on Redis.
//!
//! # What is promised, and what is not
//!
//! Every step is atomic on one primary, on that server's clock. The server decides what an acknowledged record survives:
//!
//! | server | an acknowledged record survives | it does not survive |
//! |---|---|---|
//! | one primary, `appendonly yes`, `appendfsync always` | crashes of clients and of the server | `FLUSHALL`, the loss of the disk |
//! | one primary, `appendfsync everysec` or no AOF | crashes of clients | a crash of the server loses the latest records, or all |
//! | replicas: sentinel, cluster, managed failover | crashes of clients; everything between failovers | a failover: replication is asynchronous, so the promoted replica may lack records that were acknowledged |
//! | an evicting `maxmemory-policy` | nothing | any record may vanish; [`connect`](RedisStore::connect) refuses, see [`allow_eviction`](RedisStoreBuilder::allow_eviction) |
//!
//! A server without an append-only file is told of by a warning event at `connect`. A file that is written each second
//! cannot be told from one that is always written: see the table.
//!
//! Where a lost record means a second run that must not be, use a downstream key or fence, or a store that commits with
//! the effects. A server clock that jumps ahead ends leases early; one that goes back makes leases and results last longer
//! by as much. A full server (`maxmemory`) refuses new claims with
//! [`StoreErrorKind::Full`], still replays what it has, and still accepts the ends of runs that it had granted.
//!
//! A fence is the greater of the last one plus one and the server's time in µs. So fences rise, as long as the server's
//! clock does not go back while the key is vacant.
//!
//! While a cluster moves slots between nodes, [`list`](Store::list) can miss the records in them. The databases of one
//! server share their channels: give each store a prefix of its own, not a database, or wake-ups are sometimes spurious.
//!
//! # Permissions
//!
//! The login needs no more than
//!
//! ```text
//! ACL SETUSER app on >… resetkeys resetchannels ~idempotent:* &idempotent:* -@all +hello +info +set +get +getrange
//!   +setrange +del +pttl +pexpire +time +publish +subscribe +unsubscribe +evalsha +eval
//! ```
//!
//! and `+delifeq` on Valkey 9 or `+delex` on Redis 8.4, without which a script releases keys, `+scan` for listings, `+select`
//! for another database than 0, and in a cluster `+cluster|slots`, `+readonly` and
//! `+ping`. `INFO` is what `connect` checks the server with. A server that answers it with an error, since it is renamed
//! or forbidden to the login, is refused unless eviction is accepted
//! ([`allow_eviction`](RedisStoreBuilder::allow_eviction)).
//!
//! # Connections
//!
//! The store has one multiplexed connection (in a cluster one for each node, and one for wake-ups). It replaces a connection
//! that fails or lets an answer time out. For 100 ms after a failed attempt to connect, calls get its error, and do not try
//! themselves. The store does not repeat a failed call: its outcome may be unknown, and the caller asks again with the same
//! nonce. Wake-ups come by publish/subscribe, and only where somebody waits. After a reconnection all waiters are woken,
//! since messages may have been missed.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, RedisWrite, ToRedisArgs, Value};

use super::{
    Appended, ClaimOutcome, ClaimRequest, Cursor, Outcome, Page, Record, RecordKey, Resolution, ResolveRequest,
    Resolved, State, Step, Store, StoreErrorKind, StoreResult, Subscribers, Subscription, Suspension, Token,
    Transition, Why, duration::millis,
};
use crate::error::SetupError;

mod address;
mod builder;
mod check;
mod claim;
mod compare;
mod connection;
mod fault;
mod journal;
mod list;
mod listener;
mod record;
mod script;

pub use builder::RedisStoreBuilder;
use compare::Granted;
use connection::Connector;
use fault::unexpected_reply;
use listener::Listener;
use record::{FinishedRecord, RedisRecord, RedisState};
use script::Script;

/// A store in Redis or Valkey. See the [module](self) for what it promises.
///
/// ```no_run
/// # async fn example() -> Result<(), idempotent_runtime::SetupError> {
/// use idempotent_runtime::store::redis::RedisStore;
///
/// let store = RedisStore::connect("redis://localhost").await?;
/// # Ok(())
/// # }
/// ```
pub struct RedisStore {
    shared: Arc<RedisShared>,
}

struct RedisShared {
    prefix: Box<str>,
    /// The connection for commands.
    commands: Arc<Connector>,
    /// The connection for wake-ups: that for commands, except in a cluster.
    wakes: Arc<Connector>,
    granted: Granted,
    subscribers: Subscribers,
    listener: Arc<Listener>,
    is_cluster: bool,
}

impl RedisStore {
    /// Connects with the default settings; the [module](self) lists the URLs.
    ///
    /// # Errors
    ///
    /// As [`RedisStoreBuilder::connect`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is left behind.
    pub async fn connect(url: &str) -> Result<Self, SetupError> {
        Self::builder().connect(url).await
    }

    /// Starts with the default settings.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), idempotent_runtime::SetupError> {
    /// use idempotent_runtime::store::redis::RedisStore;
    ///
    /// let store = RedisStore::builder().prefix("billing:").connect("redis://localhost").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> RedisStoreBuilder {
        RedisStoreBuilder::new()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.shared.prefix)
            .field("cluster", &self.shared.is_cluster)
            .finish_non_exhaustive()
    }
}

/// A record as it was read, on the server's clock.
struct ReadRecord {
    bytes: Bytes,
    /// The rest of its time; negative where it has no end.
    left_ms: i64,
    /// The server's time, since 1970.
    now_ms: u64,
}

/// A record's key as the server knows it, written into a command without an intermediate copy.
#[derive(Clone, Copy)]
struct FullKey<'a> {
    prefix: &'a str,
    key: &'a str,
}

impl ToRedisArgs for FullKey<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        use std::io::Write;
        let mut writer = out.writer_for_next_arg();
        // Writing to memory does not fail.
        let _ = writer.write_all(self.prefix.as_bytes());
        let _ = writer.write_all(self.key.as_bytes());
    }
}

impl RedisShared {
    fn full_key<'a>(&'a self, key: &'a RecordKey) -> FullKey<'a> {
        FullKey { prefix: &self.prefix, key: key.as_str() }
    }

    /// Runs a script that answers 1 for applied and 0 for lost.
    async fn transition(&self, script: &Script, arguments: impl Fn(&mut Cmd)) -> StoreResult<Transition> {
        match self.commands.run(script, arguments).await? {
            Value::Int(1) => Ok(Transition::Applied),
            Value::Int(0) => Ok(Transition::Lost),
            _ => Err(unexpected_reply()),
        }
    }

    /// Suspends a run, or releases its key.
    async fn end_unfinished(
        &self,
        key: &RecordKey,
        token: &Token,
        why: &'static [u8],
        pause_ms: u64,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        if let Some(running) = self.granted.take(&token.nonce)
            // The end of a first run without steps that leaves nothing.
            && matches!(why, b"R" | b"U")
            && self.remove(key, &running).await?
        {
            return Ok(Suspension::Applied);
        }
        let keep_ms = millis(keep);
        let answer = self.commands.run(&script::SUSPEND, |command| {
            command.arg(self.full_key(key)).arg(token.nonce.as_bytes().as_slice()).arg(why);
            command.arg(keep_ms.to_be_bytes().as_slice()).arg(pause_ms + keep_ms);
        });
        match answer.await? {
            Value::Nil => Ok(Suspension::Vacant),
            Value::Int(1) => Ok(Suspension::Applied),
            Value::Int(0) => Ok(Suspension::Taken),
            Value::BulkString(bytes) => {
                let stored = record::decode(&Bytes::from(bytes))?;
                let by_us = stored.nonce == token.nonce;
                let finished = stored.into_finished().map_err(|_| unexpected_reply())?;
                Ok(Suspension::ended(finished.outcome, by_us))
            }
            _ => Err(unexpected_reply()),
        }
    }

    /// Reads the record, in one step with its remaining time and the server's time.
    async fn read(&self, key: &RecordKey) -> StoreResult<Option<ReadRecord>> {
        let answer = self.commands.run(&script::INSPECT, |command| {
            command.arg(self.full_key(key));
        });
        let parts = match answer.await? {
            Value::Nil => return Ok(None),
            Value::Array(parts) => <[Value; 3]>::try_from(parts).map_err(|_| unexpected_reply())?,
            _ => return Err(unexpected_reply()),
        };
        match parts {
            [Value::BulkString(bytes), Value::Int(left_ms), Value::Int(now_ms)] => {
                Ok(Some(ReadRecord { bytes: bytes.into(), left_ms, now_ms: now_ms.unsigned_abs() }))
            }
            _ => Err(unexpected_reply()),
        }
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        let Some(ReadRecord { bytes, left_ms, .. }) = self.read(key).await? else { return Ok(None) };
        let stored = record::decode(&bytes)?;
        let (lease_left, not_before) = (stored.lease_left(left_ms), stored.pause_left(left_ms));
        let (generation, failed) = (stored.generation(), stored.failed());
        let RedisRecord { fingerprint, nonce, attempt, state, .. } = stored;
        let state = match (state, lease_left) {
            (RedisState::Done(outcome), _) => State::Done(outcome),
            (_, Some(lease_left)) => State::running(lease_left),
            (RedisState::Running, None) => State::Lapsed,
            (RedisState::Failed, None) => State::Failed,
            (RedisState::Abandoned, None) => State::Abandoned,
        };
        let expires_in = Duration::from_millis(u64::try_from(left_ms).unwrap_or_default());
        let record = Record::new(key.clone(), fingerprint, generation, nonce, attempt, state, expires_in);
        let (arguments, context) = record::beside(&bytes).ok_or_else(record::corrupt)?;
        let record = record.with_failed(failed).with_not_before(not_before);
        Ok(Some(record.with_arguments(arguments).with_context(context)))
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        let (seen, keep_ms) = (&request.seen, millis(request.keep));
        let (state, payload): (&[u8], &[u8]) = match &request.resolution {
            Resolution::Done(outcome) => (record::letter(outcome.as_str()), record::encode_outcome(outcome).1),
            Resolution::Failed => (b"F", b""),
            Resolution::Vacant => (b"", b""),
        };
        let mut context = Vec::new();
        // Writing to memory does not fail.
        let _ = record::write_context(&request.context, &mut context);
        let answer = self.commands.run(&script::RESOLVE, |command| {
            command.arg(self.full_key(key)).arg(seen.owner().as_bytes().as_slice()).arg(record::letter(seen.state()));
            command.arg(u8::from(request.even_if_alive)).arg(request.nonce.as_bytes().as_slice());
            command.arg(state).arg(payload).arg(&context).arg(keep_ms.to_be_bytes().as_slice()).arg(keep_ms);
        });
        match answer.await? {
            Value::Nil => Ok(request.of_vacant()),
            Value::Int(1) => Ok(Resolved::Applied),
            Value::Int(0) => Ok(Resolved::Changed),
            Value::Int(left_ms @ ..=-1) => Ok(Resolved::running(Duration::from_millis(left_ms.unsigned_abs()))),
            _ => Err(unexpected_reply()),
        }
    }

    async fn subscribe(&self, key: &RecordKey) -> Subscription {
        let (subscription, _) = self.subscribers.subscribe(key);
        let listener = Arc::downgrade(&self.listener);
        let subscription = subscription.on_last_drop(move |key| {
            if let Some(listener) = listener.upgrade() {
                listener.left(key);
            }
        });
        // After a failure the subscription is silent until the server is back. Its owner polls as well.
        if self.listener.listen(&self.wakes, key.as_str()).await.is_ok() {
            let answer = self.commands.run(&script::AWAIT, |command| {
                command.arg(self.full_key(key));
            });
            let _ = answer.await;
        }
        subscription
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        match self.shared.claim(key, request).await {
            Err(full) if full.kind() == StoreErrorKind::Full => {
                Box::pin(self.shared.claim_when_full(key, request, full)).await
            }
            answer => answer,
        }
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        let ttl_ms = millis(ttl);
        let keep_ms = millis(lease) + ttl_ms;
        if let Some(running) = self.shared.granted.take(&token.nonce) {
            let renewed = running.clone().with_ttl(ttl_ms);
            if self.shared.replace(key, &running, &renewed, keep_ms).await? {
                self.shared.granted.put(token.nonce, renewed);
                return Ok(Transition::Applied);
            }
        }
        self.shared
            .transition(&script::RENEW, move |command| {
                let nonce = token.nonce.as_bytes().as_slice();
                command.arg(self.shared.full_key(key)).arg(nonce).arg(ttl_ms.to_be_bytes().as_slice()).arg(keep_ms);
            })
            .await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        if let Some(running) = &self.shared.granted.take(&token.nonce)
            && self.shared.replace(key, running, FinishedRecord { running, outcome }, millis(ttl)).await?
        {
            return Ok(Transition::Applied);
        }
        self.shared
            .transition(&script::COMPLETE, move |command| {
                let (start, payload) = record::encode_outcome(outcome);
                let nonce = token.nonce.as_bytes().as_slice();
                command.arg(self.shared.full_key(key)).arg(nonce).arg(start).arg(payload).arg(millis(ttl));
            })
            .await
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        Ok(match self.shared.end_unfinished(key, token, b"R", 0, keep).await? {
            Suspension::Applied | Suspension::Vacant => Transition::Applied,
            Suspension::Taken | Suspension::Ended { .. } => Transition::Lost,
        })
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        let why: &[u8] = match why {
            Why::Abandoned => b"A",
            Why::Failed => b"F",
            Why::Unstarted => b"U",
        };
        let pause_ms = if not_before.is_zero() { 0 } else { millis(not_before) };
        self.shared.end_unfinished(key, token, why, pause_ms, keep).await
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        drop(self.shared.granted.take(&token.nonce));
        let entry = journal::encode(step, &token.nonce);
        let ttl_ms = millis(ttl);
        let answer = self.shared.commands.run(&script::APPEND, |command| {
            command.arg(self.shared.full_key(key)).arg(token.nonce.as_bytes().as_slice()).arg(&entry);
            command.arg(ttl_ms.to_be_bytes().as_slice()).arg(millis(lease) + ttl_ms);
        });
        match answer.await? {
            Value::Int(1) => Ok(Appended::Applied),
            Value::Int(0) => Ok(Appended::Lost),
            Value::BulkString(recorded) => {
                let mut value = Bytes::from(recorded);
                let kind = value.split_to(value.len().min(1));
                let outcome = kind.first().and_then(|kind| journal::outcome(*kind, value));
                outcome.map(Appended::Recorded).ok_or_else(record::corrupt)
            }
            _ => Err(unexpected_reply()),
        }
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        let answer = self.shared.commands.run(&script::STEPS, |command| {
            command.arg(self.shared.full_key(key)).arg(token.nonce.as_bytes().as_slice());
        });
        match answer.await? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => journal::decode(&bytes.into()).map(Some).ok_or_else(record::corrupt),
            _ => Err(unexpected_reply()),
        }
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        let running = self.shared.granted.take(&token.nonce);
        let answer = self.shared.commands.run(&script::FENCE, |command| {
            command.arg(self.shared.full_key(key)).arg(token.nonce.as_bytes().as_slice());
        });
        match answer.await? {
            Value::Nil => Ok(None),
            Value::Int(fence @ 1..) => {
                let fence = fence.unsigned_abs();
                if let Some(running) = running {
                    self.shared.granted.put(token.nonce, running.with_fence(fence));
                }
                Ok(Some(fence))
            }
            _ => Err(unexpected_reply()),
        }
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        let answer = self.shared.commands.run(&script::FORGET, |command| {
            command.arg(self.shared.full_key(key));
        });
        match answer.await? {
            Value::Int(removed) => Ok(removed == 1),
            _ => Err(unexpected_reply()),
        }
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        self.shared.resolve(key, request).await
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.shared.inspect(key).await
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.list_page(operation, after, limit).await
    }

    /// Answers zero, since the server expires records by itself.
    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        let _ = limit;
        std::future::ready(Ok(0)).await
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        Ok(self.shared.subscribe(key).await)
    }
}
