//! Callers: idempotent functions with every policy, whose bodies and callers end in every way.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use idempotent_runtime::{Error, Execution, Idempotency, idempotent};
use rand::{RngExt as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    history::{Answer, Log, What},
    recorder::CALL,
};

/// An operation, as the checker has to know it.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub name: &'static str,
    pub lease_ms: u64,
    pub ttl_ms: u64,
    pub wait_ms: u64,
    /// True if an abandoned run may never be run again.
    pub refuse: bool,
}

const fn kind(name: &'static str, lease_ms: u64, ttl_ms: u64, wait_ms: u64, refuse: bool) -> Kind {
    Kind { name, lease_ms, ttl_ms, wait_ms, refuse }
}

pub const KINDS: [Kind; 5] = [
    kind("chaos.rerun", 300, 700, 0, false),
    kind("chaos.kept", 400, 1_500, 1_000, false),
    kind("chaos.refuse", 300, 1_000, 200, true),
    kind("chaos.detached", 500, 900, 2_000, false),
    kind("chaos.chosen", 1_000, 2_000, 100, true),
];

/// The way in which a body passes its time, and ends.
#[derive(Clone, Copy, Debug)]
struct Script {
    sleep: Duration,
    /// Blocks its thread, as bodies should not.
    block: Duration,
    fences: bool,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Ok,
    Err,
    Panic,
}

/// The inputs of a body that are left out of the hash.
#[derive(Clone, Debug)]
struct Call {
    number: u64,
    idempotency: Idempotency,
    log: Log,
    script: Script,
}

/// The error of the run of a call, or of the library.
#[derive(Debug, Serialize, Deserialize)]
enum Failure {
    Run(u64),
    Library(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error.code().to_owned())
    }
}

impl Failure {
    fn is_even(&self) -> bool {
        matches!(self, Self::Run(call) if call % 2 == 0)
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

macro_rules! functions {
    ($($name:ident = $index:literal, $operation:literal, $abandoned:ident, $errors:expr $(, $detach:ident)?;)*) => {
        $(
            #[idempotent(
                name = $operation, key = key, store = call.idempotency, skip(call), errors = $errors,
                lease = ms(KINDS[$index].lease_ms), ttl = ms(KINDS[$index].ttl_ms), wait = ms(KINDS[$index].wait_ms),
                abandoned = $abandoned $(, $detach)?
            )]
            async fn $name(call: Call, key: u32, variant: u32) -> Result<u64, Failure> {
                let _ = (key, variant);
                body(call).await
            }
        )*

        async fn invoke(kind: usize, call: Call, key: u32, variant: u32) -> Result<u64, Failure> {
            match kind {
                $($index => $name(call, key, variant).await,)*
                _ => unreachable!("there are five"),
            }
        }
    };
}

functions! {
    rerun = 0, "chaos.rerun", rerun, release;
    kept = 1, "chaos.kept", rerun, keep;
    refuse = 2, "chaos.refuse", refuse, release;
    detached = 3, "chaos.detached", rerun, release, detach;
    chosen = 4, "chaos.chosen", refuse, Failure::is_even, detach;
}

async fn body(call: Call) -> Result<u64, Failure> {
    let Call { number, log, script, .. } = call;
    let execution = Execution::current().expect("inside a run");
    log.push(What::Started { call: number, attempt: execution.attempt() });
    if script.fences
        && let Ok(fence) = execution.fence().await
    {
        log.push(What::Fenced { call: number, fence });
    }
    if !script.block.is_zero() {
        std::thread::sleep(script.block);
    }
    if !script.sleep.is_zero() {
        sleep(script.sleep).await;
    }
    let answer = match script.end {
        End::Ok => Ok(number),
        End::Err => Err(Failure::Run(number)),
        // Past the hook: it is not to be told.
        End::Panic => std::panic::resume_unwind(Box::new("as planned")),
    };
    log.push(What::Returned { call: number, ok: answer.is_ok() });
    answer
}

/// A caller that makes one call after the other.
#[derive(Clone, Debug)]
pub struct Caller {
    pub idempotency: Idempotency,
    pub log: Log,
    /// The number of keys of each operation.
    pub keys: u32,
    /// True if bodies may block their threads, which they must not where all run on one thread.
    pub blocks: bool,
}

impl Caller {
    /// Makes one call at random.
    pub async fn call(&self, rng: &mut StdRng) {
        let kind = rng.random_range(0..KINDS.len());
        let lease_ms = KINDS[kind].lease_ms;
        let sleep_ms = match rng.random_range(0..10) {
            0..3 => 0,
            3..8 => rng.random_range(1..60),
            8 => rng.random_range(0..lease_ms),
            _ => rng.random_range(0..lease_ms * 3),
        };
        let blocks = self.blocks && rng.random_bool(0.04);
        let block_ms = if blocks { rng.random_range(0..lease_ms * 3 / 2) } else { 0 };
        let end = match rng.random_range(0..10) {
            0..6 => End::Ok,
            6..9 => End::Err,
            _ => End::Panic,
        };
        let script = Script { sleep: ms(sleep_ms), block: ms(block_ms), fences: rng.random_bool(0.3), end };
        let polls = if rng.random_bool(0.15) { rng.random_range(1..8) } else { u32::MAX };
        let patience = if rng.random_bool(0.15) { ms(rng.random_range(0..400)) } else { Duration::MAX };
        let variant = u32::from(rng.random_bool(0.1));
        self.make(kind, rng.random_range(0..self.keys), variant, script, (polls, patience), rng.random()).await;
    }

    /// Makes a call for each key of each operation: what do they answer when all is well?
    pub async fn ask_all(&self, rng: &mut StdRng) {
        let script = Script { sleep: ms(0), block: ms(0), fences: true, end: End::Ok };
        for kind in 0..KINDS.len() {
            for key in 0..self.keys {
                self.make(kind, key, 0, script, (u32::MAX, Duration::MAX), rng.random()).await;
            }
        }
    }

    async fn make(
        &self,
        kind: usize,
        key: u32,
        variant: u32,
        script: Script,
        (polls, patience): (u32, Duration),
        number: u64,
    ) {
        let record = format!("{}|~{key}", KINDS[kind].name);
        self.log.push(What::Invoked { call: number, record, variant });
        let call = Call { number, idempotency: self.idempotency.clone(), log: self.log.clone(), script };
        let call = CALL.scope(number, invoke(kind, call, key, variant));
        // A task of its own, where it may panic, and is aborted if this one is.
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move { tokio::time::timeout(patience, limited(call, polls)).await.ok().flatten() });
        let answer = match task.join_next().await.expect("one task") {
            Ok(Some(Ok(run))) => Answer::Ok(run),
            Ok(Some(Err(Failure::Run(run)))) => Answer::Err(run),
            Ok(Some(Err(Failure::Library(code)))) => Answer::Refused(code),
            Ok(None) => Answer::Dropped,
            Err(error) if error.is_panic() => Answer::Panicked,
            Err(_) => return,
        };
        self.log.push(What::Answered { call: number, answer });
    }
}

/// Polls a future this often at most, and drops it then.
async fn limited<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 1 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}
