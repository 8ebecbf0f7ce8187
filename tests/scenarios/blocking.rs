//! Bodies that block their thread.

use std::time::Duration;

use idempotent_runtime::{Disposition, Error, Idempotency, Operation, testing::Method, with_disposition};
use tokio::runtime::Handle;

use crate::{
    support::{Backend, Effects, Failure},
    test_bodies::{Stop, refusal},
};
use idempotent_tests::on_every_store;

on_every_store!(
    blocked_thread_does_not_lose_its_claim,
    body_that_blocks_from_its_start_does_not_lose_its_claim,
    blocked_thread_that_lost_its_claim_is_refused,
);

const LEASE: Duration = Duration::from_millis(900);

fn operation(name: &'static str) -> Operation {
    Operation::new(name).lease(LEASE).wait(Duration::ZERO)
}

/// A body that blocks its thread for two leases, and says so to the runtime.
async fn blocked_thread_does_not_lose_its_claim(backend: Backend) {
    let (ours, theirs) = (backend.caller().await, backend.caller().await);
    let stop = Stop::new();
    let owner = tokio::spawn({
        let (ours, stop) = (ours.clone(), stop.clone());
        async move {
            let body = async {
                // Woken by a timer, so that it runs on the thread that waits for timers and connections.
                tokio::time::sleep(Duration::from_millis(20)).await;
                tokio::task::block_in_place(|| std::thread::sleep(LEASE * 2));
                stop.body::<Failure>().await
            };
            ours.idempotency.call(operation("blocking")).key("k").run(body).await
        }
    });
    stop.reached().await;
    assert!(ours.store.calls(Method::Renew) >= 4, "{} renewals", ours.store.calls(Method::Renew));
    let call = theirs.idempotency.call(operation("blocking")).key("k").run(async { Ok::<_, Failure>(()) });
    assert!(matches!(refusal(call.await), Error::InFlight { .. }));
    stop.go();
    owner.await.expect("an answer").expect("a result");
}

/// A body that has not waited for anything before, so that nobody but its thread knows of it.
async fn body_that_blocks_from_its_start_does_not_lose_its_claim(backend: Backend) {
    let blocks = async |entry: &'static str| {
        let (ours, theirs) = (backend.caller().await, backend.caller().await);
        let (handle, runtime) = (ours.idempotency.clone(), Handle::current());
        let stop = Stop::new();
        let body = {
            let stop = stop.clone();
            async move {
                tokio::task::block_in_place(|| std::thread::sleep(LEASE * 2));
                stop.body::<Failure>().await
            }
        };
        let run = move |handle: Idempotency| async move {
            let call = handle.call(operation("blocking")).key(entry);
            if entry == "detached" { call.detached().run(body).await } else { call.run(body).await }
        };
        let owner = match entry {
            "on a thread for blocking" => tokio::task::spawn_blocking(move || runtime.block_on(run(handle))),
            "in another body" => {
                tokio::spawn(async move { handle.call("around").key(entry).run(run(handle.clone())).await })
            }
            _ => tokio::spawn(run(handle)),
        };
        stop.reached().await;
        assert!(ours.store.calls(Method::Renew) >= 4, "{entry}: {} renewals", ours.store.calls(Method::Renew));
        let call = theirs.idempotency.call(operation("blocking")).key(entry).run(async { Ok::<_, Failure>(()) });
        assert!(matches!(refusal(call.await), Error::InFlight { .. }), "{entry}");
        stop.go();
        owner.await.expect("an answer").expect("a result");
        assert_eq!(ours.idempotency.drain(LEASE).await, 0, "{entry}");
        let renewals = ours.store.calls(Method::Renew);
        tokio::time::sleep(LEASE / 2).await;
        assert_eq!(ours.store.calls(Method::Renew), renewals, "{entry}: none after the run");
    };
    tokio::join!(blocks("in place"), blocks("detached"), blocks("on a thread for blocking"), blocks("in another body"),);
}

/// One that does not say so can hold up tokio's timers and lose its claim; it is refused, no more.
async fn blocked_thread_that_lost_its_claim_is_refused(backend: Backend) {
    let ours = backend.caller().await;
    let effects = Effects::new();
    let elsewhere = async || {
        backend.advance(Operation::DEFAULT_LEASE + backend.tick()).await;
        let theirs = backend.caller().await;
        let taken = theirs.idempotency.call("blocking.lost").key("k").run(async { Ok::<_, Failure>(effects.happen()) });
        assert_eq!(taken.await.expect("a result"), 2);
    };
    let body = async {
        let run = effects.happen();
        // The body's first poll ends when another thread, with a runtime of its own, has taken over and completed.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(elsewhere());
            });
            other.join().expect("no panic");
        });
        Ok::<_, Failure>(run)
    };
    let (answer, disposition) = with_disposition(ours.idempotency.call("blocking.lost").key("k").run(body)).await;
    assert_eq!((answer.expect("the newer result"), disposition), (2, Disposition::Waited));
    assert_eq!(effects.count(), 2);
}
