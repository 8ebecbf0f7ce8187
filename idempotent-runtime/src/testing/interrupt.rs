//! A function that is interrupted at each of its points.

use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use super::{
    clock::ManualClock,
    faulty::{Fault, FaultyStore, Gate, Method},
    surroundings::{Surroundings, with},
};
use crate::{
    Idempotency,
    lock::lock,
    store::{State, Store, memory::MemoryStore},
};

/// Makes a call again and again, interrupts it at another point each time, has it called once more as a retry would, and checks what holds
/// then. So it finds the mail that is sent twice when a process dies in the wrong moment.
///
/// - `world` makes what is outside of the function: the doubles of a bank, a mail server, a database. Each trial has a new one.
/// - `call` makes the call, in the handle of the trial. A service that has a handle of its own takes
///   [`current_handle`](super::current_handle).
/// - `invariant` panics if the world is not as it has to be. It also gets what the last caller got.
///
/// # What happens in a trial
///
/// The call begins in a first "process", and is interrupted at one point:
///
/// | interruption | at each | as |
/// |---|---|---|
/// | dropped | await at which the call waits | a time limit, or a client that goes away |
/// | killed | such await; before and after each step of the store | a process that dies: no step of the store happens any more |
/// | panics | poll of the body | a bug |
/// | request lost, reply lost | step of the store | a network that fails once |
///
/// Then all leases and pauses pass, and a second process makes the same call, until it gets an `Ok`, but eight times at most. It makes the
/// call once more, as a late retry does, and the invariant is checked. A trial without an interruption comes first.
///
/// The store is an embedded one with a clock of its own. Doubles should wait somewhere, as the real systems do
/// (`tokio::task::yield_now().await` before and after their effect): a function is not interrupted between two statements that do not wait. The
/// task of a detached body goes on when its process is killed, as a process does that stands still for a while and comes back.
///
/// ```
/// # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
/// use std::{collections::BTreeSet, sync::Mutex};
/// use idempotent_runtime::{Error, Execution, idempotent, testing};
/// use tokio::task::yield_now;
///
/// /// A mail server that knows the ids of messages.
/// #[derive(Default)]
/// struct MailServer { sent: Mutex<BTreeSet<String>> }
///
/// impl MailServer {
///     async fn send(&self, id: String) {
///         yield_now().await;
///         self.sent.lock().unwrap().insert(id);
///         yield_now().await;
///     }
/// }
///
/// #[idempotent(name = "welcome", key = user, skip(server))]
/// async fn welcome(server: &MailServer, user: &str) -> Result<(), Error> {
///     let run = Execution::current().expect("inside an idempotent function");
///     server.send(run.child_key("mail")).await; // with a random id in its place, this example fails
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # pub async fn main() {
/// let interrupted = testing::interrupt(
///     MailServer::default,
///     async |server| welcome(server, "u-1").await,
///     |server, answer| {
///         assert!(answer.is_ok());
///         assert_eq!(server.sent.lock().unwrap().len(), 1, "one mail");
///     },
/// )
/// .await;
/// assert!(interrupted.killed > 4);
/// # }
/// # }
/// # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main() }
/// # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
/// ```
///
/// # Panics
///
/// If the invariant does: the message then begins with the interruption. If the call makes no idempotent call in the handle of the trial, or
/// has more than 10,000 points.
pub async fn interrupt<W, T, E>(
    world: impl Fn() -> W,
    call: impl AsyncFn(&W) -> Result<T, E>,
    invariant: impl Fn(&W, &Result<T, E>),
) -> Interrupted {
    let sweep = Sweep { world, call, invariant };
    let mut interrupted = Interrupted::default();
    let steps = sweep.undisturbed().await;
    for point in 1.. {
        assert!(point <= MOST, "the call waits more than {MOST} times");
        let place = Place::Await(point);
        if !sweep.trial(Interruption { kind: Kind::Dropped, place }).await {
            break;
        }
        sweep.trial(Interruption { kind: Kind::Killed, place }).await;
        interrupted.dropped += 1;
        interrupted.killed += 1;
    }
    for point in 1.. {
        assert!(point <= MOST, "the body is polled more than {MOST} times");
        if !sweep.trial(Interruption { kind: Kind::Panicked, place: Place::Poll(point) }).await {
            break;
        }
        interrupted.panicked += 1;
    }
    for (method, calls) in steps {
        for number in 1..=calls {
            for (kind, place) in [
                (Kind::Killed, Place::Before(method, number)),
                (Kind::Killed, Place::After(method, number)),
                (Kind::Lost, Place::Before(method, number)),
                (Kind::Lost, Place::After(method, number)),
            ] {
                if sweep.trial(Interruption { kind, place }).await {
                    *if kind == Kind::Killed { &mut interrupted.killed } else { &mut interrupted.lost } += 1;
                }
            }
        }
    }
    interrupted
}

/// The trials of [`interrupt`], by their interruptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interrupted {
    /// The future was dropped.
    pub dropped: usize,
    /// The process died.
    pub killed: usize,
    /// The body panicked.
    pub panicked: usize,
    /// A request to the store, or its reply, was lost.
    pub lost: usize,
}

/// More points than this are a loop that does not end.
const MOST: usize = 10_000;

/// The most calls that come after an interruption until one gets an `Ok`.
const RETRIES: usize = 8;

/// The steps of a run. The others are of operators, or only read.
const STEPS: [Method; 7] =
    [Method::Claim, Method::Renew, Method::Append, Method::Steps, Method::Complete, Method::Release, Method::Suspend];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dropped,
    Killed,
    Panicked,
    Lost,
}

#[derive(Clone, Copy)]
enum Place {
    /// The await at which the call waits for the nth time.
    Await(usize),
    /// The nth poll of a body.
    Poll(usize),
    /// The nth call of a method of the store.
    Before(Method, usize),
    After(Method, usize),
}

#[derive(Clone, Copy)]
struct Interruption {
    kind: Kind,
    place: Place,
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.place) {
            (Kind::Dropped, Place::Await(number)) => write!(f, "dropped when it waited for time {number}"),
            (_, Place::Await(number)) => write!(f, "its process killed when it waited for time {number}"),
            (_, Place::Poll(number)) => write!(f, "its body panicked at poll {number}"),
            (Kind::Lost, Place::Before(method, number)) => write!(f, "request {number} of the store's {method:?} lost"),
            (Kind::Lost, Place::After(method, number)) => write!(f, "reply {number} of the store's {method:?} lost"),
            (_, Place::Before(method, number)) => {
                write!(f, "its process killed before {method:?} {number} of the store")
            }
            (_, Place::After(method, number)) => write!(f, "its process killed after {method:?} {number} of the store"),
        }
    }
}

struct Sweep<M, C, I> {
    world: M,
    call: C,
    invariant: I,
}

impl<W, T, E, M, C, I> Sweep<M, C, I>
where
    M: Fn() -> W,
    C: AsyncFn(&W) -> Result<T, E>,
    I: Fn(&W, &Result<T, E>),
{
    /// A trial without an interruption. Gives the steps of the store that it took.
    async fn undisturbed(&self) -> Vec<(Method, usize)> {
        let (world, storage) = ((self.world)(), Storage::new());
        let store = storage.process();
        drop(with(Idempotency::new(store.clone()), (self.call)(&world)).await);
        let steps: Vec<_> =
            STEPS.map(|method| (method, store.calls(method))).into_iter().filter(|step| step.1 > 0).collect();
        assert!(!steps.is_empty(), "the call makes no idempotent call in the handle of the trial");
        self.retry(&world, &storage, &"not interrupted").await;
        steps
    }

    /// `false` if the call has ended before the point.
    async fn trial(&self, interruption: Interruption) -> bool {
        let (world, storage) = ((self.world)(), Storage::new());
        let store = storage.process();
        let reached = self.first_process(&world, &store, interruption).await;
        if reached {
            self.retry(&world, &storage, &interruption).await;
        }
        reached
    }

    /// Makes the call in a process that is interrupted.
    async fn first_process(&self, world: &W, store: &FaultyStore<MemoryStore>, at: Interruption) -> bool {
        let handle = Idempotency::new(store.clone());
        let (trap, dying) = (Trap::default(), Gate::new());
        match (at.kind, at.place) {
            (_, Place::Poll(number)) => trap.set(number),
            (_, Place::Await(_)) => {}
            (Kind::Lost, Place::Before(method, number)) => meet(store, method, number, Fault::LOST_REQUEST),
            (Kind::Lost, Place::After(method, number)) => meet(store, method, number, Fault::LOST_REPLY),
            (_, Place::Before(method, number)) => meet(store, method, number, Fault::HoldBefore(dying.clone())),
            (_, Place::After(method, number)) => meet(store, method, number, Fault::HoldAfter(dying.clone())),
        }
        let around = Surroundings { trap: Some(trap), ..Surroundings::current() };
        let call = around.around(with(handle.clone(), (self.call)(world)));
        let mut call = Box::pin(call);
        let last = if let Place::Await(number) = at.place { number } else { usize::MAX };
        let end = until(call.as_mut(), last, pin!(dying.reached(1))).await;
        if at.kind == Kind::Killed && matches!(end, End::Interrupted) {
            // What its destructors and its background still want from the store comes too late.
            let dead = Gate::new();
            for method in STEPS {
                store.always(method, Fault::HoldBefore(dead.clone()));
            }
            drop(call);
            return true;
        }
        drop(call);
        assert!(handle.drain(Duration::from_secs(60)).await == 0, "{at}: the run has not ended a minute later");
        match at.place {
            // What was lost does not keep the call from its end.
            Place::Before(method, number) | Place::After(method, number) => store.calls(method) >= number,
            Place::Await(_) | Place::Poll(_) => matches!(end, End::Interrupted),
        }
    }

    /// Calls again in another process, and checks.
    async fn retry(&self, world: &W, storage: &Storage, interruption: &dyn fmt::Display) {
        let calls = async {
            for _ in 0..RETRIES {
                storage.let_time_pass().await;
                if (self.call)(world).await.is_ok() {
                    break;
                }
            }
            storage.let_time_pass().await;
            (self.call)(world).await
        };
        let last = with(Idempotency::new(storage.process()), calls).await;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.invariant)(world, &last))) {
            panic!("{interruption}: {}", text(&*panic));
        }
    }
}

/// What outlives the processes of a trial.
struct Storage {
    store: MemoryStore,
    clock: ManualClock,
}

impl Storage {
    fn new() -> Self {
        let clock = ManualClock::new();
        Self { store: MemoryStore::builder().clock(&clock).build(), clock }
    }

    fn process(&self) -> FaultyStore<MemoryStore> {
        FaultyStore::new(self.store.clone())
    }

    /// Lets all leases end, and all pauses between tries.
    async fn let_time_pass(&self) {
        let mut after = None;
        let mut longest = Duration::ZERO;
        loop {
            let page = self.store.list(None, after.as_ref(), 100).await.expect("a list");
            for record in page.records {
                let lease = if let State::Running { lease_left } = record.state { lease_left } else { Duration::ZERO };
                longest = longest.max(lease).max(record.not_before.unwrap_or_default());
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.clock.advance(longest);
    }
}

/// The nth call of a method meets this fault.
fn meet(store: &FaultyStore<MemoryStore>, method: Method, number: usize, fault: Fault) {
    store.next(method, std::iter::repeat_n(Fault::Delay(Duration::ZERO), number - 1).chain([fault]));
}

enum End {
    Ended,
    Interrupted,
}

/// Polls a future until it ends, panics as the trap has it, has to wait for the nth time, or its process dies.
async fn until<F: Future>(mut future: Pin<&mut F>, number: usize, mut dies: Pin<&mut impl Future<Output = ()>>) -> End {
    let mut waits = 0;
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Ready(_)) => Poll::Ready(End::Ended),
        Ok(Poll::Pending) => {
            waits += 1;
            let is_dead = dies.as_mut().poll(cx).is_ready();
            if is_dead || waits == number { Poll::Ready(End::Interrupted) } else { Poll::Pending }
        }
        Err(panic) if panic.is::<Trapped>() => Poll::Ready(End::Interrupted),
        Err(panic) => resume_unwind(panic),
    })
    .await
}

/// Has a body panic at a poll.
#[derive(Clone, Default)]
pub(crate) struct Trap(Arc<Mutex<Option<usize>>>);

struct Trapped;

impl Trap {
    fn set(&self, polls: usize) {
        *lock(&self.0) = Some(polls);
    }

    fn is_sprung(&self) -> bool {
        let mut left = lock(&self.0);
        *left = left.map(|left| left - 1);
        let is_sprung = *left == Some(0);
        if is_sprung {
            *left = None;
        }
        is_sprung
    }
}

/// A body is about to be polled.
pub(crate) fn before_body() {
    if Surroundings::read(|around| around.trap.as_ref().is_some_and(Trap::is_sprung)) == Some(true) {
        // Not `panic!`, which would write to the log of the test.
        resume_unwind(Box::new(Trapped));
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the invariant does not hold")
}
