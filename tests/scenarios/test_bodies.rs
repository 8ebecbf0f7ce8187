//! Bodies that stop where a test wants, futures that are dropped where it wants, time that stands still.

use std::{
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use idempotent_runtime::{
    Error, Idempotency, Record, RecordKey, State, Store,
    testing::{Fault, Gate, Method},
};
use idempotent_tests::wait::wait_for;
use tokio::sync::{Semaphore, oneshot};

use crate::support::{Backend, Caller, Failure, LEASE};

/// A place in bodies where they wait for the test. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    reached: Arc<Semaphore>,
    gone: Arc<Semaphore>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self { reached: Arc::new(Semaphore::new(0)), gone: Arc::new(Semaphore::new(0)) }
    }

    /// In a body: says that it is here, and waits to be let go on.
    pub(crate) async fn here(&self) {
        self.reached.add_permits(1);
        self.gone.acquire().await.expect("an open semaphore").forget();
    }

    /// A body that does no more.
    pub(crate) async fn body<E>(&self) -> Result<(), E> {
        self.here().await;
        Ok(())
    }

    /// Resolves once for each body that comes here.
    pub(crate) async fn reached(&self) {
        self.reached.acquire().await.expect("an open semaphore").forget();
    }

    /// Lets one body go on.
    pub(crate) fn go(&self) {
        self.gone.add_permits(1);
    }
}

/// Polls a future this often, each time that it is woken, and drops it then; `None` if it was not done.
pub(crate) async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut polls = 0;
    poll_fn(|cx| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Leaves a run in its body without a word to the store, as a process that is killed does, and lets its lease lapse. The body
/// comes to the gate, and does not get on.
pub(crate) async fn vanish<F: Future>(backend: &Backend, call: impl FnOnce(Caller, Gate) -> F)
where
    F::Output: std::fmt::Debug,
{
    let killed = backend.caller().await;
    killed.store.always(Method::Suspend, Fault::HoldBefore(Gate::new()));
    let started = Gate::new();
    tokio::select! {
        answer = call(killed, started.clone()) => panic!("{answer:?}"),
        () = started.reached(1) => {}
    }
    backend.advance(LEASE).await;
}

/// The record of a key, when what its only caller began is at its end, also in the background.
pub(crate) async fn ended(caller: &Caller, store: &dyn Store, key: &RecordKey) -> Option<Record> {
    let calls = |method| caller.store.calls(method);
    let ends = || calls(Method::Complete) + calls(Method::Release) + calls(Method::Suspend);
    wait_for("the claim to be ended", async || calls(Method::Claim) == 0 || ends() > 0).await;
    settled(store, key).await
}

/// The record of a key, when nobody is running any more.
pub(crate) async fn settled(store: &dyn Store, key: &RecordKey) -> Option<Record> {
    wait_for("the run to end", async || !matches!(state(store, key).await, Some(State::Running { .. }))).await;
    record(store, key).await
}

pub(crate) async fn record(store: &dyn Store, key: &RecordKey) -> Option<Record> {
    store.inspect(key).await.expect("an answer")
}

pub(crate) async fn state(store: &dyn Store, key: &RecordKey) -> Option<State> {
    record(store, key).await.map(|record| record.state)
}

/// The number of calls that may wait at a time, in handles that count their waiters.
pub(crate) const PLACES: usize = 2;

/// Shows that no waiter of a handle with [`PLACES`] is still counted: so many can wait again.
pub(crate) async fn assert_no_waiter_is_counted(idempotency: &Idempotency) {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let (stop, key) = (Stop::new(), CALLS.fetch_add(1, Ordering::Relaxed));
    let operation = || idempotent_runtime::Operation::new("places").wait(Duration::from_secs(20));
    let call = || async { idempotency.call(operation()).key(key).run(stop.body::<Error>()).await };
    let calls = async { tokio::join!(call(), call(), call()) };
    let end = async {
        stop.reached().await;
        stop.go();
    };
    let ((first, second, third), ()) = tokio::join!(calls, end);
    for answer in [first, second, third] {
        answer.expect("a place");
    }
}

/// Stops tokio's time, for a runtime with one thread, until it is dropped: no timer fires, not even when all wait.
pub(crate) struct Frozen {
    _until: std::sync::mpsc::Sender<()>,
}

impl Frozen {
    pub(crate) fn now() -> Self {
        tokio::time::pause();
        let (until, ended) = std::sync::mpsc::channel::<()>();
        // While a blocking task runs, paused time does not jump to the next timer.
        tokio::task::spawn_blocking(move || ended.recv().is_err());
        Self { _until: until }
    }
}

/// The future's output, or a failure of the test after twenty seconds, whatever tokio's time does.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let (late, mut is_late) = oneshot::channel::<()>();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if is_done.recv_timeout(Duration::from_secs(20)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = late.send(());
        }
    });
    let output = tokio::select! {
        output = future => output,
        Ok(()) = &mut is_late => panic!("waited in vain for {what}"),
    };
    drop(done);
    output
}

/// The library's error in a body's error.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, Failure>) -> Error {
    match answer {
        Err(Failure::Idempotency(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}
