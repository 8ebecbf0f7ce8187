//! Ends and renewals by one native command, where the server compares values itself: `SET … IFEQ`, `DELIFEQ`, `DELEX … IFEQ`.
//!
//! The store remembers the bytes that its claims have written. If they are still there, the record is of a first run, has
//! no steps, and nobody waits for it: the change needs nothing that only a script can find out. If anything else is there, or
//! nothing, the command changes nothing, and the script decides as it does on other servers:
//!
//! - A waiter that comes between claim and end sets its flag in the record, so that the bytes differ and the script
//!   publishes. One that comes after the end finds it.
//! - The bytes have the nonce in them: those of another claim or another life never compare equal. Nor do those of a record
//!   that has got a fence, a step or another time to live by a store elsewhere.
//! - Bytes are taken from memory before they are sent, and put back by a renewal or a fence only. So a change whose reply was
//!   lost is asked again by its script, which recognises what was applied. The native command that comes late finds
//!   other bytes by then, or the renewal's own, which it renews.
//! - An error is told by a server that has changed nothing: out of memory, where scripts of ends are let through, or a
//!   command that is not there or not permitted. That one is not sent again on this connection.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use redis::{Cmd, FromRedisValue, RedisWrite, ToRedisArgs, Value};

use super::{
    RedisShared,
    record::{ClaimRecord, FinishedRecord},
};
use crate::{
    lock::lock,
    store::{Nonce, RecordKey, StoreResult},
};

/// The number of claims whose bytes are remembered at least. A process that has more in hand ends the others by script.
const REMEMBERED: usize = 16_384;

/// The most beside a record that is compared: it is sent again at its end, which scripts do not need.
const LONGEST_BESIDE: usize = 4096;

impl ToRedisArgs for ClaimRecord {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        // Writing to memory does not fail.
        let _ = self.write_to(&mut out.writer_for_next_arg());
    }
}

impl ToRedisArgs for FinishedRecord<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        // Writing to memory does not fail.
        let _ = self.write_to(&mut out.writer_for_next_arg());
    }
}

/// The comparing commands that the server has. Nothing rests on them: what it does not do is done by script.
#[derive(Default)]
pub(super) struct Comparing {
    pub(super) set: AtomicBool,
    pub(super) delifeq: AtomicBool,
    pub(super) delex: AtomicBool,
}

impl Comparing {
    /// Goes by what servers answer to `HELLO`: what each of them has. None is a server that does not tell.
    pub(super) fn learn(&self, hellos: impl IntoIterator<Item = Value>) {
        let mut all: Option<[bool; 3]> = None;
        for hello in hellos {
            let has = commands(hello).unwrap_or_default();
            all = Some(all.map_or(has, |all| [all[0] && has[0], all[1] && has[1], all[2] && has[2]]));
        }
        let [set, delifeq, delex] = all.unwrap_or_default();
        self.set.store(set, Relaxed);
        self.delifeq.store(delifeq, Relaxed);
        self.delex.store(delex, Relaxed);
    }
}

/// Says of each of `SET … IFEQ`, `DELIFEQ` and `DELEX` whether a server has it.
fn commands(hello: Value) -> Option<[bool; 3]> {
    let hello = HashMap::<String, Value>::from_redis_value(hello).ok()?;
    let text = |name| String::from_redis_value_ref(hello.get(name)?).ok();
    let version = text("version")?;
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let version = (numbers.next()??, numbers.next()??);
    Some(match text("server")?.as_str() {
        "valkey" => [version >= (8, 1), version >= (9, 0), false],
        "redis" => [version >= (8, 4), false, version >= (8, 4)],
        _ => [false; 3],
    })
}

/// The records of claims that were granted here and have not ended, as they were written.
#[derive(Default)]
pub(super) struct Granted(Mutex<Generations>);

/// Claims that nobody ends, since their server could not be reached for a lease, leave with the earlier ones.
#[derive(Default)]
struct Generations {
    recent: HashMap<Nonce, ClaimRecord>,
    earlier: HashMap<Nonce, ClaimRecord>,
}

impl Granted {
    pub(super) fn put(&self, nonce: Nonce, record: ClaimRecord) {
        let mut claims = lock(&self.0);
        if claims.recent.len() == REMEMBERED {
            claims.earlier = mem::take(&mut claims.recent);
        }
        claims.recent.insert(nonce, record);
    }

    pub(super) fn take(&self, nonce: &Nonce) -> Option<ClaimRecord> {
        let mut claims = lock(&self.0);
        claims.recent.remove(nonce).or_else(|| claims.earlier.remove(nonce))
    }
}

impl RedisShared {
    /// Remembers what a claim has written, where its end can make use of it.
    pub(super) fn remember(&self, nonce: Nonce, record: ClaimRecord) {
        if self.commands.comparing().set.load(Relaxed) && record.beside_len() <= LONGEST_BESIDE {
            self.granted.put(nonce, record);
        }
    }

    /// Writes another value over a record that is still as it was; answers `false` where the script has to decide.
    pub(super) async fn replace(
        &self,
        key: &RecordKey,
        record: &ClaimRecord,
        by: impl ToRedisArgs,
        keep_ms: u64,
    ) -> StoreResult<bool> {
        let mut set = Cmd::with_capacity(7, 512);
        set.arg("SET").arg(self.full_key(key)).arg(by).arg("IFEQ").arg(record).arg("PX").arg(keep_ms);
        self.commands.compared(&self.commands.comparing().set, &set).await
    }

    /// Removes a record that is still as it was; answers `false` where the script has to decide.
    pub(super) async fn remove(&self, key: &RecordKey, record: &ClaimRecord) -> StoreResult<bool> {
        let Comparing { delifeq, delex, .. } = self.commands.comparing();
        let mut delete = Cmd::with_capacity(4, 320);
        if delex.load(Relaxed) {
            delete.arg("DELEX").arg(self.full_key(key)).arg("IFEQ").arg(record);
            self.commands.compared(delex, &delete).await
        } else {
            delete.arg("DELIFEQ").arg(self.full_key(key)).arg(record);
            self.commands.compared(delifeq, &delete).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(server: &str, version: &str) -> Value {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let proto = (text("proto"), Value::Int(3));
        Value::Map(vec![(text("server"), text(server)), (text("version"), text(version)), proto])
    }

    fn learned(hellos: Vec<Value>) -> [bool; 3] {
        let comparing = Comparing::default();
        comparing.learn(hellos);
        let Comparing { set, delifeq, delex } = comparing;
        [set, delifeq, delex].map(AtomicBool::into_inner)
    }

    #[test]
    fn each_release_has_its_commands() {
        let cases = [
            ("valkey", "8.0.9", [false, false, false]),
            ("valkey", "8.1.0", [true, false, false]),
            ("valkey", "9.1.2", [true, true, false]),
            ("valkey", "10.0.0-rc1", [true, true, false]),
            ("redis", "7.0.15", [false, false, false]),
            ("redis", "8.2.9", [false, false, false]),
            ("redis", "8.4.0", [true, false, true]),
            ("redis", "10.1", [true, false, true]),
            ("redis", "unstable", [false, false, false]),
            ("another", "9.9.9", [false, false, false]),
        ];
        for (server, version, expected) in cases {
            assert_eq!(learned(vec![hello(server, version)]), expected, "{server} {version}");
        }
        assert_eq!(learned(vec![]), [false; 3]);
        assert_eq!(learned(vec![Value::Nil]), [false; 3]);
    }

    #[test]
    fn a_cluster_has_what_each_of_its_nodes_has() {
        let mixed = vec![hello("valkey", "9.0.0"), hello("valkey", "8.1.0"), hello("valkey", "9.0.0")];
        assert_eq!(learned(mixed), [true, false, false]);
        assert_eq!(learned(vec![hello("valkey", "9.0.0"), Value::Nil]), [false; 3]);
    }

    #[test]
    fn claims_that_nobody_ends_are_forgotten() {
        let request = || {
            let fingerprint = crate::Fingerprint::from_bytes([7; 32]);
            let time = std::time::Duration::from_secs(1);
            crate::store::ClaimRequest::new(fingerprint, Nonce::random(), time, time)
        };
        let (granted, first) = (Granted::default(), request());
        granted.put(first.nonce, ClaimRecord::new(&first));
        for _ in 0..REMEMBERED {
            let other = request();
            granted.put(other.nonce, ClaimRecord::new(&other));
        }
        assert!(granted.take(&first.nonce).is_some(), "of the earlier ones");
        assert!(granted.take(&first.nonce).is_none(), "taken once");
        for _ in 0..2 * REMEMBERED {
            let other = request();
            granted.put(other.nonce, ClaimRecord::new(&other));
        }
        let claims = lock(&granted.0);
        assert!(claims.recent.len() + claims.earlier.len() <= 2 * REMEMBERED);
    }
}
