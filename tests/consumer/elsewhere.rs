//! Effects elsewhere, on every store: at least once, with child keys and steps.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use idempotent_runtime::{
    consumer::{Dead, Inbox, InboxBuilder, Settled},
    step,
    testing::{ScriptedBroker, ScriptedMessage, SettleFault, SettleKind},
};
use idempotent_tests::{backend::Backend, caller::Caller, on_every_store};

use crate::desk::{Failed, broker, message};

on_every_store! {
    a_message_is_run_once_and_then_a_duplicate,
    a_message_that_fails_is_run_so_often,
    a_permanent_error_is_dead_and_rejected_again,
    another_payload_is_a_conflict,
    a_child_key_and_a_step_outlive_a_run,
    a_dead_message_that_is_sent_again_runs_as_the_first_attempt,
}

/// Not the default, so that a test need not wait for it.
const LEASE: Duration = Duration::from_secs(20);

fn inbox(caller: &Caller) -> InboxBuilder<Failed> {
    Inbox::builder(caller.idempotency.clone(), "billing", "mail")
        .lease(LEASE)
        .backoff(Duration::ZERO)
        .permanent(|error| matches!(error, Failed::ForEver))
}

/// Handles the broker's next message, and answers with the number of the run, if there was one.
async fn handle(inbox: &Inbox<Failed>, broker: &ScriptedBroker, end: Result<(), Failed>) -> (Settled, Option<u32>) {
    let run = AtomicU32::new(0);
    let settled = inbox.handle(broker.deliver().unwrap(), async |_, execution| {
        run.store(execution.attempt(), Ordering::Relaxed);
        end
    });
    let settled = settled.await;
    (settled, Some(run.into_inner()).filter(|run| *run > 0))
}

async fn a_message_is_run_once_and_then_a_duplicate(backend: Backend) {
    let (caller, broker) = (backend.caller().await, broker());
    let inbox = inbox(&caller).build().unwrap();
    broker.next(SettleKind::Ack, SettleFault::LostRequest);
    let (settled, run) = handle(&inbox, &broker, Ok(())).await;
    assert!(matches!(settled, Settled::NotSettled(_)) && run == Some(1), "{settled:?} {run:?}");
    let (settled, run) = handle(&inbox, &broker, Ok(())).await;
    assert!(matches!(settled, Settled::Duplicate) && run.is_none(), "{settled:?} {run:?}");
    assert!(broker.is_empty());
}

async fn a_message_that_fails_is_run_so_often(backend: Backend) {
    let (caller, broker) = (backend.caller().await, broker());
    let inbox = inbox(&caller).max_attempts(3).build().unwrap();
    for attempt in 1..=3 {
        let (settled, run) = handle(&inbox, &broker, Err(Failed::Now)).await;
        assert_eq!(run, Some(attempt));
        if attempt < 3 {
            assert!(matches!(settled, Settled::Retried { .. }), "{settled:?}");
        } else {
            assert!(matches!(settled, Settled::Dead(Dead::Exhausted { attempts: 3, .. })), "{settled:?}");
        }
    }
    broker.send(message("m"));
    let (settled, run) = handle(&inbox, &broker, Ok(())).await;
    assert!(matches!(settled, Settled::Dead(Dead::Exhausted { .. })) && run.is_none(), "{settled:?} {run:?}");
    assert_eq!(broker.dead().len(), 2);
}

async fn a_permanent_error_is_dead_and_rejected_again(backend: Backend) {
    let (caller, broker) = (backend.caller().await, broker());
    let inbox = inbox(&caller).build().unwrap();
    broker.next(SettleKind::Reject, SettleFault::LostReply);
    let (settled, _) = handle(&inbox, &broker, Err(Failed::ForEver)).await;
    assert!(matches!(settled, Settled::NotSettled(_)), "{settled:?}");
    broker.send(message("m"));
    let (settled, run) = handle(&inbox, &broker, Ok(())).await;
    assert!(matches!(settled, Settled::Dead(Dead::Permanent)) && run.is_none(), "{settled:?} {run:?}");
}

async fn another_payload_is_a_conflict(backend: Backend) {
    let (caller, broker) = (backend.caller().await, broker());
    let inbox = inbox(&caller).build().unwrap();
    let (settled, _) = handle(&inbox, &broker, Err(Failed::Now)).await;
    assert!(matches!(settled, Settled::Retried { .. }), "{settled:?}");
    let first = broker.deliver().unwrap();
    broker.send(ScriptedMessage::new("m", "another"));
    let (settled, run) = handle(&inbox, &broker, Ok(())).await;
    assert!(matches!(settled, Settled::Dead(Dead::Conflict)) && run.is_none(), "{settled:?} {run:?}");
    drop(first);
    let (settled, run) = handle(&inbox, &broker, Ok(())).await;
    assert!(matches!(settled, Settled::Done) && run == Some(2), "{settled:?} {run:?}");
}

async fn a_child_key_and_a_step_outlive_a_run(backend: Backend) {
    let (caller, broker) = (backend.caller().await, broker());
    let inbox = inbox(&caller).build().unwrap();
    let (charges, keys) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Vec::new())));
    for attempt in 1..=2 {
        let settled = inbox.handle(broker.deliver().unwrap(), async |_, run| {
            keys.lock().unwrap().push(run.child_key("bank"));
            let charge = async {
                charges.fetch_add(1, Ordering::Relaxed);
                Ok::<_, StepFailed>(7)
            };
            assert_eq!(step("charge", charge).await.unwrap(), 7);
            if attempt == 1 { Err(Failed::Now) } else { Ok(()) }
        });
        let settled = settled.await;
        assert!(matches!(settled, Settled::Retried { .. } | Settled::Done), "{settled:?}");
    }
    assert_eq!(charges.load(Ordering::Relaxed), 1);
    let keys = keys.lock().unwrap();
    assert!(keys.len() == 2 && keys.first() == keys.last(), "{keys:?}");
}

#[derive(Debug)]
struct StepFailed(#[expect(dead_code, reason = "shown by `Debug`")] idempotent_runtime::Error);

impl From<idempotent_runtime::Error> for StepFailed {
    fn from(error: idempotent_runtime::Error) -> Self {
        Self(error)
    }
}

/// By the broker's own means. A store with letters has them replayed instead.
async fn a_dead_message_that_is_sent_again_runs_as_the_first_attempt(backend: Backend) {
    let (caller, broker) = (backend.caller().await, broker());
    let inbox = inbox(&caller).build().unwrap();
    let (settled, _) = handle(&inbox, &broker, Err(Failed::ForEver)).await;
    assert!(matches!(settled, Settled::Dead(Dead::Permanent)), "{settled:?}");
    broker.send(ScriptedMessage { is_sent_again: true, ..message("m") });
    let (settled, run) = handle(&inbox, &broker, Ok(())).await;
    assert_eq!(run, None);
    if matches!(backend, Backend::Postgres { .. } | Backend::Sqlite { .. }) {
        assert!(matches!(settled, Settled::Dead(Dead::Permanent)), "{settled:?}");
        assert_eq!(inbox.dead_letters(0, 10).await.unwrap().len(), 1);
        return;
    }
    // Its record lives for a lease, so that a rejection that got lost is repeated.
    assert!(matches!(settled, Settled::Busy { .. }), "{settled:?}");
    assert!(inbox.dead_letters(0, 10).await.is_err());
    backend.advance(LEASE * 2 + backend.tick()).await;
    let (settled, run) = handle(&inbox, &broker, Ok(())).await;
    assert!(matches!(settled, Settled::Done) && run == Some(1), "{settled:?} {run:?}");
}
