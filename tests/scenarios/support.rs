//! Parts that the scenarios share: runs that wait, errors of bodies, the seed of what is random.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use idempotent_runtime::{Error, Execution, Operation, RecordKey, testing::Gate};
pub(crate) use idempotent_tests::{
    backend::{Backend, redis_key},
    caller::{Caller, Effects},
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_secs(3600);

/// The record of an operation and a key that are written as they are stored.
pub(crate) fn record_key(operation: &str, key: &str) -> RecordKey {
    format!("{operation}|{key}").parse::<RecordKey>().expect("a record key")
}

/// Starts a run whose body waits at the gate, and answers when it has come there. Its result is its attempt.
///
/// The key is also its only argument.
pub(crate) async fn running(
    caller: &Caller,
    operation: Operation,
    key: &'static str,
    gate: &Gate,
) -> JoinHandle<Result<u32, Error>> {
    let (idempotency, held) = (caller.idempotency.clone(), gate.clone());
    let mut run = tokio::spawn(async move {
        let body = async {
            // On the embedded store a call leads its duplicates once its body has had to wait: before the gate is reached.
            tokio::task::yield_now().await;
            held.pass().await;
            Ok(Execution::current().expect("an execution").attempt())
        };
        idempotency.call(operation).key(key).arguments(key).run(body).await
    });
    tokio::select! {
        () = gate.reached(1) => run,
        ended = &mut run => panic!("the body did not run: {ended:?}"),
    }
}

/// An error of a body, or the library's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// A final error: the predicates of these tests keep it.
    Declined { code: i64 },
    /// An error that may pass.
    Unreachable,
    #[serde(skip)]
    Idempotency(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

impl Failure {
    /// True if the error will be the same next time.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::Declined { .. })
    }
}

/// Polls once: how far a call comes without being woken.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The seed of what is random. It is printed, and `SCENARIO_SEED=<seed>` repeats it.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("SCENARIO_SEED").ok();
    let seed = given.map_or_else(rand::random, |seed| seed.parse().expect("a number in SCENARIO_SEED"));
    eprintln!("SCENARIO_SEED={seed}");
    seed
}
