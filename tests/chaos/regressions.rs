//! Repeats faults that chaos has found, each in a fixed order of events.

use std::time::Duration;

use idempotent_runtime::{
    Error, Idempotency, Operation,
    store::memory::MemoryStore,
    testing::{Fault, FaultyStore, Method},
};
use idempotent_tests::chaos::{
    history::{Log, Step, Told, What},
    recorder::Recorder,
};
use tokio::sync::oneshot;

/// A claim's first try is lost, its second finds another's run, and the call waits. Were the next question the same claim, the
/// lost try could come to the store in between and begin the lease before the caller counts it.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_told_to_wait_claims_anew() {
    let memory = MemoryStore::new();
    let (elsewhere, log) = (Idempotency::new(memory.clone()), Log::memory());
    let store = FaultyStore::new(memory);
    let here = Idempotency::new(Recorder::new(store.clone(), log.clone()));

    let (end, ended) = oneshot::channel();
    let other = tokio::spawn(async move {
        let body = async {
            ended.await.expect("told");
            Err::<(), _>(Error::TooManyWaiters)
        };
        elsewhere.call("charge").key("key").run(body).await
    });
    tokio::task::yield_now().await;
    store.next(Method::Claim, [Fault::LOST_REQUEST]);
    let operation = Operation::new("charge").wait(Duration::from_secs(10));
    let call = tokio::spawn(async move { here.call(operation).key("key").run(async { Ok::<_, Error>(()) }).await });
    store.called(Method::Subscribe, 1).await;
    end.send(()).expect("heard");
    assert!(other.await.expect("no panic").is_err());
    call.await.expect("no panic").expect("run");

    let answers = log.take().into_iter().filter_map(|event| match event.what {
        What::Told { claim, step: Step::Claim, told } => Some((claim, told)),
        _ => None,
    });
    let answers: Vec<_> = answers.collect();
    let (lost, granted) = (answers[0], *answers.last().expect("answers"));
    assert_eq!(lost.1, Told::Failed);
    assert_eq!(granted.1, Told::Granted { attempt: 1 });
    assert_ne!(lost.0, granted.0, "the lost try can still be taken for the claim");
}
