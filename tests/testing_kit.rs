//! The kit for tests of services, on a small one: a shop that welcomes its customers.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails so")]

use std::{
    any::Any,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use idempotent_runtime::{
    Disposition, Error, Execution, Idempotency, assert_fingerprint, idempotent, step,
    testing::{self, Interrupted, Probe},
    with_disposition,
};
use tokio::task::yield_now;

/// What is outside of the shop: a mail server that knows the ids of messages, and books.
#[derive(Default)]
struct World {
    mails: Mutex<BTreeSet<String>>,
    sent_again: AtomicU32,
    welcomed: AtomicU32,
    tries: AtomicU32,
}

impl World {
    /// Sends a mail, unless it has sent one with this id.
    async fn send(&self, id: String) {
        yield_now().await;
        self.mails.lock().unwrap().insert(id);
        yield_now().await;
    }

    /// Sends a mail each time.
    async fn send_again(&self) {
        let number = self.sent_again.fetch_add(1, Ordering::SeqCst);
        self.send(format!("mail {number}")).await;
    }

    fn mails(&self) -> usize {
        self.mails.lock().unwrap().len()
    }
}

fn child_key(label: &str) -> String {
    Execution::current().expect("inside an idempotent function").child_key(label)
}

#[idempotent(name = "mended", key = user, skip(world))]
async fn mended(world: &World, user: &str) -> Result<u32, Error> {
    world.send(child_key("mail")).await;
    step("count", async {
        yield_now().await;
        Ok::<_, Error>(())
    })
    .await?;
    Ok(1)
}

#[idempotent(name = "sends twice", key = user, skip(world))]
async fn sends_twice(world: &World, user: &str) -> Result<u32, Error> {
    world.send_again().await;
    Ok(1)
}

/// The step is no help: its process may die between the mail and the record of the step.
#[idempotent(name = "sends twice in a step", key = user, skip(world))]
async fn sends_twice_in_a_step(world: &World, user: &str) -> Result<u32, Error> {
    step("mail", async {
        world.send_again().await;
        Ok::<_, Error>(())
    })
    .await?;
    Ok(1)
}

#[idempotent(name = "changes its key", key = user, skip(world))]
async fn changes_its_child_key(world: &World, user: &str) -> Result<u32, Error> {
    let run = Execution::current().expect("inside an idempotent function");
    world.send(run.child_key(&format!("mail, attempt {}", run.attempt()))).await;
    Ok(1)
}

/// Counts before the claim: repeats count, too.
async fn counts_too_early(world: &World, user: &str) -> Result<u32, Error> {
    world.welcomed.fetch_add(1, Ordering::SeqCst);
    mended(world, user).await
}

#[idempotent(name = "detached", key = user, skip(id), detach)]
async fn detached(id: u32, user: String) -> Result<u32, Error> {
    yield_now().await;
    Ok(id)
}

#[idempotent(name = "refuses", key = user, skip(world), abandoned = refuse)]
async fn refuses(world: &World, user: &str) -> Result<u32, Error> {
    world.send_again().await;
    Ok(1)
}

#[idempotent(name = "patient", key = user, skip(world), max_attempts = 3, retry_after = "1h")]
async fn fails_at_first(world: &World, user: &str) -> Result<u32, Error> {
    world.send(child_key("mail")).await;
    if world.tries.fetch_add(1, Ordering::SeqCst) == 0 {
        return Err(Error::in_flight(Duration::from_secs(1)));
    }
    Ok(1)
}

fn one_mail(world: &World, answer: &Result<u32, Error>) {
    assert_eq!(answer.as_ref().ok(), Some(&1));
    assert_eq!(world.mails(), 1, "mails");
}

fn sweep(
    call: impl AsyncFn(&World) -> Result<u32, Error>,
    invariant: impl Fn(&World, &Result<u32, Error>),
) -> Interrupted {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(testing::interrupt(World::default, call, invariant))
}

/// What a sweep says that finds something.
fn found(call: impl AsyncFn(&World) -> Result<u32, Error>, invariant: impl Fn(&World, &Result<u32, Error>)) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| sweep(call, invariant))).expect_err("the invariant does not hold");
    message(&*panic)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.expect("a message").to_owned()
}

#[test]
fn a_function_that_does_it_right_passes() {
    let interrupted = sweep(async |world| mended(world, "u-1").await, one_mail);
    // It waits three times, and claims, appends and completes.
    assert_eq!((interrupted.dropped, interrupted.panicked), (3, 4), "{interrupted:?}");
    assert_eq!((interrupted.killed, interrupted.lost), (3 + 6, 6), "{interrupted:?}");
}

#[test]
fn a_mail_that_is_sent_twice_is_found() {
    let found_by = found(async |world| sends_twice(world, "u-1").await, one_mail);
    assert!(found_by.starts_with("dropped when it waited for time 2: "), "{found_by}");
    let found_by = found(async |world| sends_twice_in_a_step(world, "u-1").await, one_mail);
    assert!(found_by.starts_with("dropped when it waited for time 2: "), "{found_by}");
}

#[test]
fn a_child_key_that_changes_is_found() {
    let found_by = found(async |world| changes_its_child_key(world, "u-1").await, one_mail);
    assert!(found_by.starts_with("dropped when it waited for time 2: "), "{found_by}");
    assert!(found_by.contains("mails"), "with the message of the assertion: {found_by}");
}

#[test]
fn what_is_done_before_the_claim_is_found() {
    let once = |world: &World, _: &Result<u32, Error>| assert_eq!(world.welcomed.load(Ordering::SeqCst), 1, "welcomed");
    let found_by = found(async |world| counts_too_early(world, "u-1").await, once);
    assert!(found_by.starts_with("not interrupted: "), "{found_by}");
}

#[test]
fn a_body_on_a_task_of_its_own_is_interrupted_too() {
    let interrupted =
        sweep(async |_| detached(1, "u-1".to_owned()).await, |_, answer| assert_eq!(*answer.as_ref().unwrap(), 1));
    assert!(interrupted.dropped > 0 && interrupted.panicked > 0 && interrupted.killed > 0, "{interrupted:?}");
}

#[test]
fn a_function_that_refuses_sends_at_most_once() {
    let at_most_once = |world: &World, answer: &Result<u32, Error>| {
        assert!(world.mails() <= 1);
        assert!(matches!(answer, Ok(1) | Err(Error::Abandoned { .. })), "{answer:?}");
    };
    assert!(sweep(async |world| refuses(world, "u-1").await, at_most_once).killed > 0);
}

#[test]
fn pauses_between_tries_pass() {
    let interrupted = sweep(async |world| fails_at_first(world, "u-1").await, one_mail);
    assert!(interrupted.dropped > 0, "{interrupted:?}");
}

#[test]
fn a_call_without_an_idempotent_call_is_refused() {
    let said = found(async |world| Ok(u32::try_from(world.mails()).unwrap()), |_, _| {});
    assert!(said.contains("makes no idempotent call"), "{said}");
}

#[tokio::test]
async fn a_probe_notes_each_call() {
    let (world, probe) = (World::default(), Probe::new());
    let calls = probe.watch(async {
        mended(&world, "u-1").await.unwrap();
        let both = tokio::join!(mended(&world, "u-1"), mended(&world, "u-2"));
        assert!(both.0.is_ok() && both.1.is_ok());
        assert!(
            testing::current_handle()
                .unwrap()
                .call("mended")
                .key("u-1")
                .arguments(&1)
                .run(async { Ok::<_, Error>(1) })
                .await
                .is_err()
        );
        detached(1, "u-1".to_owned()).await.unwrap();
        tokio::select! {
            biased;
            _ = mended(&world, "u-3") => unreachable!("it waits"),
            () = std::future::ready(()) => {}
        }
    });
    testing::with(Idempotency::memory(), calls).await;

    probe.assert_ran_once("mended", "u-1");
    probe.assert_ran_once("mended", "u-2");
    probe.assert_refused("mended", "u-1", "mismatch");
    probe.assert_ran_once("detached", "u-1");
    let of = |key| {
        let calls = probe.calls_of("mended", key);
        calls.into_iter().map(|call| (call.disposition, call.attempt, call.child_keys.len())).collect::<Vec<_>>()
    };
    let (executed, replayed, refused) =
        (Some(Disposition::Executed), Some(Disposition::Replayed), Some(Disposition::Refused));
    assert_eq!(of("u-1"), [(executed, Some(1), 1), (replayed, None, 0), (refused, None, 0)]);
    assert_eq!(of("u-3"), [(None, Some(1), 1)], "its future was dropped");
    assert_eq!(probe.calls().len(), 6);
    let told = format!("{probe:?}");
    let key = &probe.calls_of("mended", "u-1")[0].child_keys[0].1;
    assert!(!told.contains("u-1") && !told.contains(key), "{told}");
}

#[tokio::test]
async fn a_probe_says_what_is_wrong() {
    let (world, probe) = (World::default(), Probe::new());
    let twice = probe.watch(async { (mended(&world, "u-1").await, mended(&world, "u-1").await) });
    testing::with(Idempotency::passthrough(), twice).await.1.unwrap();
    let fails = |check: &dyn Fn()| message(&*catch_unwind(AssertUnwindSafe(check)).expect_err("it fails"));
    let said = fails(&|| probe.assert_ran_once("mended", "u-1"));
    assert!(said.contains("ran 2 times"), "{said}");
    assert!(fails(&|| probe.assert_replayed("mended", "u-1")).contains("was not replayed"));
    assert!(fails(&|| probe.assert_refused("mended", "u-1", "mismatch")).contains("was not refused"));
    assert!(fails(&|| probe.assert_ran_once("mended", "nobody")).contains("ran 0 times"));
}

#[tokio::test]
async fn passthrough_runs_each_body() {
    let world = World::default();
    testing::with(Idempotency::passthrough(), async {
        for _ in 0..2 {
            let (sent, disposition) = with_disposition(mended(&world, "u-1")).await;
            assert_eq!((sent.unwrap(), disposition), (1, Disposition::Executed));
        }
        let both = tokio::join!(sends_twice(&world, "u-2"), sends_twice(&world, "u-2"));
        assert!(both.0.is_ok() && both.1.is_ok());
    })
    .await;
    assert_eq!(world.mails(), 1 + 2, "the child key is the same each time");
}

/// As a test harness does: at once, in one process, each in a handle of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_with_one_key_do_not_see_each_other() {
    let tests: Vec<_> = (0..16)
        .map(|test| {
            tokio::spawn(testing::with(Idempotency::memory(), async move {
                let probe = Probe::new();
                let first = probe.watch(detached(test, "u-1".to_owned())).await.unwrap();
                let repeat = probe.watch(detached(test + 100, "u-1".to_owned())).await.unwrap();
                assert_eq!((first, repeat), (test, test));
                probe.assert_ran_once("detached", "u-1");
                probe.assert_replayed("detached", "u-1");
            }))
        })
        .collect();
    for test in tests {
        test.await.unwrap();
    }
}

const GREETED: &str = "bef0ad49a0041cb9147d57d14cfeca2054134b8897436f76757a1702b10f8118";

#[test]
fn the_fingerprint_of_a_call_is_checked_without_a_run() {
    let world = World::default();
    assert_fingerprint!(mended(&world, "u-1"), GREETED);
    let said = catch_unwind(AssertUnwindSafe(|| assert_fingerprint!(mended(&world, "u-2"), "")));
    let said = message(&*said.expect_err("another request"));
    assert!(said.contains("refused as mismatches"), "{said}");
    assert_eq!(world.mails(), 0);
    let none = catch_unwind(|| assert_fingerprint!(async {}, ""));
    assert!(none.is_err(), "no call");
}

/// A service with a handle of its own is checked, too.
#[test]
fn the_fingerprint_does_not_depend_on_the_handle() {
    struct Shop(Idempotency);
    impl Shop {
        #[idempotent(name = "mended", key = user, store = self.0)]
        async fn greet(&self, user: &str) -> Result<u32, Error> {
            unreachable!("{user}")
        }
    }
    let shop = Shop(Idempotency::memory());
    assert_fingerprint!(shop.greet("u-1"), GREETED);
}
