//! Many who call at once.

use idempotent_runtime::{
    Disposition, Error, Execution, Idempotency, Operation, idempotent,
    testing::{Fault, Gate, Method},
    with_disposition,
};
use idempotent_tests::{on_every_store, worker::Plan};
use tokio::task::JoinSet;

use crate::{
    process::{Worker, effects, plan, wait_for_effects},
    support::{Backend, Caller, Effects, poll_once, running},
};

on_every_store! {
    s07_two_calls_on_an_empty_store_run_once,
    s07_two_callers_of_one_orphan_run_once,
    s07_a_caller_that_nobody_polls_does_not_hold_up_the_others,
    s08_a_thousand_callers_on_one_handle_run_once_and_claim_once,
    s08_a_thousand_callers_on_many_handles_run_once,
    s08_callers_in_four_runtimes_on_one_handle_run_once,
}

on_every_store! { only redis:
    s07_two_processes_and_one_orphan_run_once,
    s08_a_thousand_callers_in_four_processes_run_once,
}

/// Holds its run until all duplicates have had time to come, by giving way to them.
#[idempotent(key = order, name = "races.charge", store = handle, skip(handle, effects))]
async fn charge(handle: Idempotency, effects: Effects, order: &str) -> Result<u64, Error> {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    Ok(effects.happen())
}

/// The operation of [`charge`], for callers that do not wait.
#[idempotent(key = order, name = "races.charge", wait = "0s", store = handle, skip(handle, effects))]
async fn charge_now(handle: Idempotency, effects: Effects, order: &str) -> Result<u64, Error> {
    Ok(effects.happen())
}

/// Makes calls at once, on these handles in turn, and tells how each came to its answer.
async fn storm(callers: &[Caller], calls: usize, order: &'static str, effects: &Effects) -> Vec<Disposition> {
    let mut tasks = JoinSet::new();
    for caller in callers.iter().cycle().take(calls) {
        let (handle, effects) = (caller.idempotency.clone(), effects.clone());
        tasks.spawn(async move { with_disposition(charge(handle, effects, order)).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.len(), calls);
    let dispositions = answers.into_iter().map(|(answer, disposition)| {
        assert_eq!(answer.expect("a result"), 1, "not the result of the only run");
        disposition
    });
    dispositions.collect()
}

/// The runtime that made the store is not the one that uses it, and those that use it end before it does.
async fn s08_callers_in_four_runtimes_on_one_handle_run_once(backend: Backend) {
    let (caller, effects) = (backend.caller().await, Effects::new());
    let runtimes = [(); 4].map(|()| {
        let (caller, effects) = (caller.clone(), effects.clone());
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(storm(&[caller], 50, "order-4", &effects))
        })
    });
    let mut dispositions = Vec::new();
    for runtime in runtimes {
        dispositions.extend(runtime.await.expect("no panic"));
    }
    assert_eq!((effects.count(), runs(&dispositions)), (1, 1));
    // The handle still works, with all of them gone.
    assert_eq!(storm(&[caller], 1, "order-4", &effects).await, [Disposition::Replayed]);
}

fn runs(dispositions: &[Disposition]) -> usize {
    dispositions.iter().filter(|disposition| disposition.ran()).count()
}

async fn s07_two_calls_on_an_empty_store_run_once(backend: Backend) {
    let callers = [backend.caller().await, backend.caller().await];
    for order in ["o1", "o2", "o3", "o4", "o5"] {
        let effects = Effects::new();
        let dispositions = storm(&callers, 2, order, &effects).await;
        assert_eq!(effects.count(), 1);
        assert_eq!(runs(&dispositions), 1, "{dispositions:?}");
    }
}

async fn s07_two_callers_of_one_orphan_run_once(backend: Backend) {
    let dead = backend.caller().await;
    let callers = [backend.caller().await, backend.caller().await];
    for order in ["o1", "o2", "o3", "o4", "o5"] {
        let run = running(&dead, Operation::new("races.orphan"), order, &Gate::new()).await;
        backend.advance(Operation::DEFAULT_LEASE).await;
        let effects = Effects::new();
        let calls = callers.clone().map(|caller| {
            let effects = effects.clone();
            async move {
                let body = async {
                    tokio::task::yield_now().await;
                    assert_eq!(Execution::current().expect("an execution").attempt(), 2);
                    u32::try_from(effects.happen()).map_err(|_| Error::NotInstalled)
                };
                with_disposition(caller.idempotency.call("races.orphan").key(order).arguments(order).run(body)).await
            }
        });
        let [ours, theirs] = calls.map(tokio::spawn);
        let (ours, theirs) = (ours.await.expect("no panic"), theirs.await.expect("no panic"));
        assert_eq!((ours.0.expect("a result"), theirs.0.expect("a result")), (1, 1));
        assert_eq!(effects.count(), 1);
        assert_eq!(runs(&[ours.1, theirs.1]), 1);
        run.abort();
    }
}

async fn s07_a_caller_that_nobody_polls_does_not_hold_up_the_others(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    // It leads its duplicates, and stops before the store has its claim.
    let gate = Gate::new();
    caller.store.next(Method::Claim, [Fault::HoldBefore(gate.clone())]);
    let mut asleep = Box::pin(charge(caller.idempotency.clone(), effects.clone(), "order-7"));
    assert!(poll_once(asleep.as_mut()).is_pending());

    let (answer, disposition) =
        with_disposition(charge_now(caller.idempotency.clone(), effects.clone(), "order-7")).await;
    assert_eq!((answer.expect("a result"), disposition), (1, Disposition::Executed));
    gate.open();
    assert_eq!(asleep.await.expect("a result"), 1);
    assert_eq!(effects.count(), 1);
}

async fn s07_two_processes_and_one_orphan_run_once(backend: Backend) {
    let server = backend.server();
    let mut dead = Worker::start(&Plan { hold: true, ..plan(server, "orphan") }).await;
    dead.go();
    wait_for_effects(server, "orphan", 1).await;
    dead.kill();
    backend.advance(Operation::DEFAULT_LEASE).await;

    let plan = plan(server, "orphan");
    let mut workers = [Worker::start(&plan).await, Worker::start(&plan).await];
    for worker in &mut workers {
        worker.go();
    }
    let mut dispositions = Vec::new();
    for worker in workers {
        for answer in worker.report().await.answers {
            assert_eq!(answer.result, Ok(2));
            dispositions.push(answer.disposition);
        }
    }
    assert_eq!(dispositions.len(), 2);
    assert_eq!(dispositions.iter().filter(|disposition| *disposition == "took-over").count(), 1, "{dispositions:?}");
    assert_eq!(effects(server, "orphan").await, 2);
}

async fn s08_a_thousand_callers_on_one_handle_run_once_and_claim_once(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    let gate = Gate::new();
    caller.store.next(Method::Claim, [Fault::HoldAfter(gate.clone())]);
    let mut tasks = JoinSet::new();
    for _ in 0..1000 {
        let call = charge(caller.idempotency.clone(), effects.clone(), "order-8");
        let mut call = Box::pin(with_disposition(call));
        // So that all are there before the first has its claim.
        assert!(poll_once(call.as_mut()).is_pending());
        tasks.spawn(call);
    }
    gate.open();
    let mut dispositions = Vec::new();
    for (answer, disposition) in tasks.join_all().await {
        assert_eq!(answer.expect("a result"), 1);
        dispositions.push(disposition);
    }
    assert_eq!(effects.count(), 1);
    assert_eq!(runs(&dispositions), 1);
    assert_eq!(caller.store.calls(Method::Claim), 1);
    assert_eq!(caller.store.calls(Method::Complete), 1);
}

async fn s08_a_thousand_callers_on_many_handles_run_once(backend: Backend) {
    let mut callers = Vec::new();
    for _ in 0..50 {
        callers.push(backend.caller().await);
    }
    let effects = Effects::new();
    let dispositions = storm(&callers, 1000, "order-8", &effects).await;
    assert_eq!(effects.count(), 1);
    assert_eq!(runs(&dispositions), 1);
    let completions: usize = callers.iter().map(|caller| caller.store.calls(Method::Complete)).sum();
    assert_eq!(completions, 1);
}

async fn s08_a_thousand_callers_in_four_processes_run_once(backend: Backend) {
    let server = backend.server();
    let plan = Plan { calls: 250, ..plan(server, "order-8") };
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(Worker::start(&plan).await);
    }
    for worker in &mut workers {
        worker.go();
    }
    let mut answers = Vec::new();
    for worker in workers {
        answers.extend(worker.report().await.answers);
    }
    assert_eq!(answers.len(), 1000);
    assert!(answers.iter().all(|answer| answer.result == Ok(1)), "not all have the result of the only run");
    assert_eq!(answers.iter().filter(|answer| answer.disposition == "executed").count(), 1);
    assert_eq!(effects(server, "order-8").await, 1);
}
