//! A waiter is woken at the end of the run. A store without notifications passes: its waiters poll.

use std::{fmt::Debug, time::Duration};

use bytes::Bytes;
use tokio::{task, time::timeout};

use super::{
    resolutions::resolve,
    subject::{LONG, Subject, applied, claim, inspect, ok, request, suspend, suspended},
};
use crate::{
    Store,
    store::{ClaimOutcome, RecordKey, Resolution, ResolveRequest, Resolved, Subscription, Token, Why},
};

/// A wake-up that takes longer is lost.
const LOST_AFTER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Ending {
    Complete,
    Release,
    Suspend,
    Forget,
    Resolve,
}

impl Ending {
    const ALL: [Self; 5] = [Self::Complete, Self::Release, Self::Suspend, Self::Forget, Self::Resolve];

    async fn bring(self, store: &dyn Store, key: &RecordKey, token: &Token) {
        match self {
            Self::Complete => applied(store.complete(key, token, &ok(b"1"), LONG).await),
            Self::Release => applied(store.release(key, token, LONG).await),
            Self::Suspend => suspended(suspend(store, key, token, Why::Abandoned).await),
            Self::Forget => assert!(store.forget(key).await.expect("forget")),
            Self::Resolve => {
                let seen = inspect(store, key).await.expect("a record").seen();
                let saying = ResolveRequest::new(seen, Resolution::Failed, LONG, "alice").even_if_alive(true);
                assert_eq!(resolve(store, key, &saying).await, Resolved::Applied);
            }
        }
    }
}

pub(super) async fn every_ending_wakes(subject: &Subject) {
    for ending in Ending::ALL {
        for (number, [waiting, ending_by]) in
            [[subject.a(), subject.b()], [subject.a(), subject.a()]].into_iter().enumerate()
        {
            let key = subject.key(format_args!("{ending:?}-{number}"));
            // Arguments in the record do not hide that somebody waits.
            let arguments = (number == 0).then(|| Bytes::from_static(b"{}"));
            let token = subject.take(subject.b(), &key, &request().with_arguments(arguments)).await.token;
            let mut subscription = subscribe(waiting, &key).await;
            ending.bring(ending_by, &key, &token).await;
            woken(&mut subscription, ending).await;
            // The end that woke the waiter can be seen by then.
            let answer = claim(waiting, &key, &request()).await;
            assert!(!matches!(answer, ClaimOutcome::InFlight { .. }), "{ending:?}: {answer:?}");
        }
    }
}

pub(super) async fn every_subscriber_is_woken(subject: &Subject) {
    let key = subject.key("k");
    let token = subject.run(&key).await;
    let mut subscriptions = Vec::new();
    for number in 0..8 {
        subscriptions.push(subscribe(&*subject.shared(number), &key).await);
    }
    // A subscriber that leaves leaves the others subscribed.
    drop(subscriptions.swap_remove(0));
    Ending::Complete.bring(subject.b(), &key, &token).await;
    for subscription in &mut subscriptions {
        woken(subscription, Ending::Complete).await;
    }
}

/// No time for a store to start listening after it has said that it listens.
pub(super) async fn an_ending_right_after_subscribing_wakes(subject: &Subject) {
    for number in 0..50 {
        let key = subject.key(number);
        let token = subject.run(&key).await;
        let ending = Ending::ALL[number % Ending::ALL.len()];
        let (subscribed, wait) = tokio::sync::oneshot::channel();
        let (store, ended) = (subject.shared(number), key.clone());
        let owner = task::spawn(async move {
            wait.await.expect("subscribed");
            ending.bring(&*store, &ended, &token).await;
        });
        let mut subscription = subscribe(subject.b(), &key).await;
        subscribed.send(()).expect("the owner waits");
        woken(&mut subscription, ending).await;
        owner.await.expect("the owner");
    }
}

pub(super) async fn dropping_the_wait_loses_nothing(subject: &Subject) {
    let key = subject.key("k");
    let token = subject.run(&key).await;
    let mut subscription = subscribe(subject.a(), &key).await;
    for _ in 0..3 {
        // A hint may come at any time; only its absence after an end is a fault.
        let _ = timeout(Duration::from_millis(1), subscription.notified()).await;
    }
    Ending::Complete.bring(subject.b(), &key, &token).await;
    woken(&mut subscription, Ending::Complete).await;
}

pub(super) async fn subscribe(store: &dyn Store, key: &RecordKey) -> Subscription {
    store.subscribe(key).await.expect("subscribe")
}

pub(super) async fn woken(subscription: &mut Subscription, ending: impl Debug) {
    if subscription.can_wake() {
        let woken = timeout(LOST_AFTER, subscription.notified()).await;
        assert!(woken.is_ok(), "{ending:?} did not wake a subscriber within {LOST_AFTER:?}");
    }
}
