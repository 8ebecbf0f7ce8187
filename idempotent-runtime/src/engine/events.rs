//! Events for operators: a `tracing` event for every disposition and every fault, and a counter with it (feature
//! `metrics`). Never a key, an argument or a result. The crate's documentation lists them.

use std::{error::Error as StdError, fmt};

use tracing::{
    Span, debug, error,
    field::{DisplayValue, display},
    info, warn,
};

use super::disposition::Disposition;
use crate::{
    error::Error,
    store::{KeyDigest, NotKept, RecordKey, StoreError},
};

#[cfg(feature = "metrics")]
macro_rules! count {
    ($name:literal, $operation:expr $(, $label:literal => $value:expr)*) => {
        metrics::counter!($name, "operation" => $operation.to_owned() $(, $label => $value)*).increment(1)
    };
}
#[cfg(not(feature = "metrics"))]
macro_rules! count {
    ($($ignored:tt)*) => {};
}

/// The call, or the record, that an event is about.
#[derive(Clone, Copy)]
pub(crate) enum About<'a> {
    /// A call that has no record's key.
    Operation(&'a str),
    Record(&'a RecordKey),
}

impl<'a> About<'a> {
    pub(crate) fn operation(self) -> &'a str {
        match self {
            Self::Operation(name) => name,
            Self::Record(key) => key.operation(),
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn key(self) -> Option<&'a RecordKey> {
        match self {
            Self::Operation(_) => None,
            Self::Record(key) => Some(key),
        }
    }

    /// The field of an event that leads to the record.
    fn digest(self) -> Option<DisplayValue<KeyDigest>> {
        match self {
            Self::Operation(_) => None,
            Self::Record(key) => Some(display(key.digest())),
        }
    }
}

/// A fault and its causes, in one line. Their texts are free of keys, values and credentials.
struct Chain<'a>(&'a StoreError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cause: Option<&dyn StdError> = Some(self.0);
        let mut separator = "";
        while let Some(error) = cause {
            write!(f, "{separator}{error}")?;
            (cause, separator) = (error.source(), ": ");
        }
        Ok(())
    }
}

/// The span around a body.
pub(crate) fn run_span(key: &RecordKey, attempt: u32) -> Span {
    #[cfg(feature = "testing")]
    crate::testing::probe::began(key, attempt);
    tracing::info_span!("idempotent.run", operation = key.operation(), key_digest = %key.digest(), attempt)
}

/// A call was answered.
pub(crate) fn answered(about: About<'_>, disposition: Disposition) {
    count!("idempotent_calls_total", about.operation(), "disposition" => disposition.as_str());
    #[cfg(feature = "admin")]
    super::recent::count(about.operation(), disposition);
    if disposition == Disposition::TookOver {
        info!(operation = about.operation(), key_digest = about.digest(), %disposition, "idempotent call answered");
    } else {
        debug!(operation = about.operation(), key_digest = about.digest(), %disposition, "idempotent call answered");
    }
}

/// A call was refused.
pub(crate) fn refused(about: About<'_>, reason: &Error) {
    let (operation, code) = (about.operation(), reason.code());
    count!("idempotent_calls_total", operation, "disposition" => Disposition::Refused.as_str(), "reason" => code);
    #[cfg(feature = "admin")]
    super::recent::count(operation, Disposition::Refused);
    match reason {
        Error::InFlight { .. } | Error::Suspended { .. } | Error::ClaimLost => {
            debug!(operation, key_digest = about.digest(), code, "idempotent call refused");
        }
        Error::Store(fault) | Error::CommitUnknown(fault) => error!(
            operation,
            key_digest = about.digest(),
            code,
            kind = ?fault.kind(),
            error = %Chain(fault),
            "idempotent call refused"
        ),
        Error::Undecodable(_) | Error::ResultNotKept(_) => {
            error!(operation, key_digest = about.digest(), code, "idempotent call refused");
        }
        _ => warn!(operation, key_digest = about.digest(), code, "idempotent call refused"),
    }
}

/// The store says that the claim of a running body is another's.
pub(crate) fn claim_lost(key: &RecordKey, attempt: u32) {
    count!("idempotent_claims_lost_total", key.operation());
    error!(operation = key.operation(), key_digest = %key.digest(), attempt, "the claim of a running body was lost to another run");
}

/// The lease of a running body could not be renewed in time: another may take the key over.
pub(crate) fn lease_lapsed(key: &RecordKey, attempt: u32, reason: &StoreError) {
    count!("idempotent_claims_lost_total", key.operation());
    error!(operation = key.operation(), key_digest = %key.digest(), attempt, kind = ?reason.kind(), error = %Chain(reason), "the lease of a running body could not be renewed in time");
}

/// Two functions have one name, which both spell out.
pub(crate) fn shared_name(name: &str, first: &str, second: &str) {
    warn!(operation = name, first, second, "two functions have one name, and answer for each other");
}

/// A run ended by a panic, or its future was dropped.
pub(crate) fn abandoned(key: &RecordKey, attempt: u32) {
    count!("idempotent_runs_abandoned_total", key.operation());
    warn!(operation = key.operation(), key_digest = %key.digest(), attempt, "a run ended without an outcome: it panicked or was dropped");
}

/// A body ran, and its outcome is not on record.
pub(crate) fn not_recorded(key: &RecordKey, attempt: u32, reason: &StoreError) {
    count!("idempotent_outcomes_not_recorded_total", key.operation());
    error!(operation = key.operation(), key_digest = %key.digest(), attempt, kind = ?reason.kind(), error = %Chain(reason), "a body ran and its outcome could not be recorded");
}

/// A body ran, and its result is not kept.
pub(crate) fn not_kept(key: &RecordKey, attempt: u32, reason: NotKept) {
    warn!(operation = key.operation(), key_digest = %key.digest(), attempt, %reason, "a result is not kept: repeats of this call will be refused");
}

/// A step has run, and its value is not kept.
pub(crate) fn step_not_kept(key: &RecordKey, attempt: u32, reason: NotKept) {
    count!("idempotent_steps_not_kept_total", key.operation());
    error!(operation = key.operation(), key_digest = %key.digest(), attempt, %reason, "the value of a step is not kept: a later attempt cannot go on after it");
}

/// A run has ended with a result, and earlier attempts had recorded steps that it did not ask for.
pub(crate) fn steps_not_asked_for(key: &RecordKey, attempt: u32) {
    count!("idempotent_steps_not_asked_for_total", key.operation());
    error!(operation = key.operation(), key_digest = %key.digest(),
        attempt,
        "a run did not ask for steps that an earlier attempt had recorded: they may have run twice under new names"
    );
}

/// An error that is kept was written in a transaction of the caller's, and is not committed seconds later.
pub(crate) fn not_committed(key: &RecordKey, attempt: u32) {
    count!("idempotent_outcomes_not_recorded_total", key.operation());
    error!(operation = key.operation(), key_digest = %key.digest(), attempt, "a kept error is not on record: its transaction was rolled back, or is still open");
}

/// A body runs without a claim.
pub(crate) fn unprotected(key: &RecordKey, reason: &StoreError) {
    warn!(operation = key.operation(), key_digest = %key.digest(), kind = ?reason.kind(), error = %Chain(reason), "the store is out of reach: the body runs without protection");
}

/// Counts a handler among those that run, until it is dropped.
#[cfg(feature = "consumer")]
pub(crate) struct HandlerRuns {
    #[cfg(feature = "metrics")]
    gauge: metrics::Gauge,
}

#[cfg(feature = "consumer")]
impl HandlerRuns {
    pub(crate) fn begin(operation: &str, attempt: u32) -> Self {
        debug!(operation, attempt, "a handler begins");
        #[cfg(feature = "metrics")]
        {
            let gauge = metrics::gauge!("idempotent_handlers_running", "operation" => operation.to_owned());
            gauge.increment(1);
            metrics::counter!("idempotent_handlers_total", "operation" => operation.to_owned()).increment(1);
            Self { gauge }
        }
        #[cfg(not(feature = "metrics"))]
        Self {}
    }
}

#[cfg(all(feature = "consumer", feature = "metrics"))]
impl Drop for HandlerRuns {
    fn drop(&mut self) {
        self.gauge.decrement(1);
    }
}

/// A delivery was settled.
#[cfg(feature = "consumer")]
pub(crate) fn delivery_settled(operation: &str, settled: &'static str, dead: Option<&'static str>) {
    count!("idempotent_deliveries_total", operation, "settled" => settled, "reason" => dead.unwrap_or_default());
    if let Some(reason) = dead {
        warn!(operation, reason, "a message is given up");
    } else {
        debug!(operation, settled, "a delivery was settled");
    }
}

/// The broker did not take what it was told: it will deliver the message again.
#[cfg(feature = "consumer")]
pub(crate) fn delivery_not_settled(operation: &str, settled: &'static str) {
    count!("idempotent_deliveries_not_settled_total", operation, "settled" => settled);
    debug!(operation, settled, "a delivery could not be settled: the broker will deliver it again");
}

/// The store failed while a message was worked off. Told at most once a second: there may be thousands.
#[cfg(feature = "consumer")]
pub(crate) fn store_failed(operation: &str, fault: &StoreError) {
    use std::sync::Mutex;

    use tokio::time::{Duration, Instant};

    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    count!("idempotent_deliveries_store_failed_total", operation);
    let now = Instant::now();
    let mut last = crate::lock::lock(&LAST);
    if last.is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_secs(1)) {
        *last = Some(now);
        error!(operation, kind = ?fault.kind(), error = %Chain(fault), "the store failed: messages go back to the broker");
    }
}

/// A relay has heard what became of a batch.
#[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
pub(crate) fn outbox_published(table: &str, confirmed: u64, again: u64, parked: u64) {
    #[cfg(feature = "metrics")]
    for (result, count) in [("confirmed", confirmed), ("retried", again), ("parked", parked)] {
        if count > 0 {
            metrics::counter!("idempotent_outbox_messages_total", "table" => table.to_owned(), "result" => result)
                .increment(count);
        }
    }
    if parked > 0 {
        error!(table, parked, "the broker will never take these messages: they are parked");
    }
    if again > 0 {
        debug!(table, again, "the broker did not confirm these messages: they are tried again");
    }
    tracing::trace!(table, confirmed, "the broker has confirmed messages");
}

/// The oldest message that waits in an outbox has this age.
#[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
pub(crate) fn outbox_age(table: &str, age: std::time::Duration) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("idempotent_outbox_oldest_seconds", "table" => table.to_owned()).set(age.as_secs_f64());
    tracing::trace!(table, ?age, "the age of the oldest message in the outbox");
}

/// The database failed a relay. Told at most once a second.
#[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
pub(crate) fn relay_failed(table: &str, fault: &StoreError) {
    use std::sync::Mutex;

    use tokio::time::{Duration, Instant};

    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let now = Instant::now();
    let mut last = crate::lock::lock(&LAST);
    if last.is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_secs(1)) {
        *last = Some(now);
        error!(table, kind = ?fault.kind(), error = %Chain(fault), "the database failed a relay: it goes on later");
    }
}

/// A relay has lost its lease.
#[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
pub(crate) fn relay_lost(table: &str) {
    warn!(table, "a relay has lost its lease: it has stopped, and waits for its next turn");
}

/// A store may forget records that it has acknowledged.
#[cfg(any(feature = "redis", feature = "postgres"))]
pub(crate) fn forgetful(what: &'static str) {
    warn!("{what}");
}

/// So many records more are held by the embedded stores of this process.
#[cfg(feature = "memory")]
pub(crate) fn held(more: i32) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("idempotent_memory_held_records").increment(f64::from(more));
    #[cfg(not(feature = "metrics"))]
    let _ = more;
}

/// An operator has resolved a record.
pub(crate) fn resolved(key: &RecordKey, to: &'static str) {
    info!(operation = key.operation(), key_digest = %key.digest(), to, "an operator has resolved a record");
    count!("idempotent_records_resolved_total", key.operation());
}

/// A sweeper's round failed.
pub(crate) fn not_swept(reason: &StoreError) {
    warn!(kind = ?reason.kind(), error = %Chain(reason), "expired records could not be removed");
}

/// Calls use the embedded store, since nothing is installed and no shared store is compiled in.
#[cfg(all(feature = "memory", not(any(feature = "redis", feature = "postgres", feature = "sqlite"))))]
pub(crate) fn embedded() {
    warn!(
        "no idempotency store is installed: the embedded one is used, which is neither shared between processes \
         nor durable; call `idempotent_runtime::install` at start-up"
    );
}

#[cfg(all(test, feature = "metrics", feature = "memory"))]
#[expect(clippy::unwrap_used, reason = "a test fails so")]
mod tests {
    use std::{collections::BTreeMap, future::pending, time::Duration};

    use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

    use crate::{
        Error, Idempotency, OnAbandoned, Operation, Reconciled, StoreErrorKind,
        store::memory::MemoryStore,
        testing::{Fault, FaultyStore, Method},
    };

    /// One call for each counter, and what they add up to.
    async fn calls() {
        let store = FaultyStore::new(MemoryStore::new());
        let handle = &Idempotency::new(store.clone());
        let call = async |key: &str, amount: u32| {
            handle.call("charge").key(key).arguments(&amount).run(async { Ok::<_, Error>(amount) }).await
        };
        call("secret", 1).await.unwrap();
        call("secret", 1).await.unwrap();
        call("secret", 2).await.unwrap_err();

        tokio::select! {
            biased;
            _ = handle.call("charge").key("dropped").arguments(&1_u32).run(pending::<Result<u32, Error>>()) => unreachable!(),
            () = std::future::ready(()) => {}
        }
        call("dropped", 1).await.unwrap();

        store.next(Method::Complete, [Fault::FailBefore(StoreErrorKind::Refused)]);
        call("not recorded", 1).await.unwrap();

        // Another has the key when the body ends, and is running.
        let loses = async {
            handle.forget("charge", "lost").await?;
            tokio::spawn({
                let other = Idempotency::new(store.clone());
                async move { other.call("charge").key("lost").arguments(&1_u32).run(pending::<Result<u32, Error>>()).await }
            });
            tokio::task::yield_now().await;
            Ok(1)
        };
        assert!(matches!(handle.call("charge").key("lost").arguments(&1_u32).run(loses).await, Err(Error::ClaimLost)));
    }

    /// The counters and gauges by name and labels, as they were told since the last time.
    fn told(snapshotter: &Snapshotter) -> BTreeMap<String, u64> {
        let counters = snapshotter.snapshot().into_vec().into_iter().filter_map(|(key, _, _, value)| {
            let key = key.key();
            let mut labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            labels.sort();
            match value {
                DebugValue::Counter(count) => Some((format!("{} {}", key.name(), labels.join(" ")), count)),
                _ => None,
            }
        });
        counters.collect()
    }

    /// The last run vanished, and did not happen. While that is being found out, the key becomes another's.
    #[test]
    fn an_end_of_the_attempts_that_is_lost_is_told_once() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let calls = async {
            let handle = &Idempotency::memory();
            let charge = || Operation::new("charge").max_attempts(1).settle_after(Duration::ZERO);
            let call = || handle.call(charge()).key("key");
            for (is_lost, expected) in [(false, "exhausted"), (true, "claim-lost")] {
                handle.forget("charge", "key").await.unwrap();
                let nobody_asks = |_| pending::<Result<Reconciled<u32>, Error>>();
                tokio::select! {
                    biased;
                    _ = call().reconcile(nobody_asks).run(pending()) => unreachable!(),
                    () = std::future::ready(()) => {}
                }
                tokio::task::yield_now().await;
                told(&snapshotter);
                let ask = async |_| {
                    if is_lost {
                        handle.forget("charge", "key").await?;
                        let other = handle.clone();
                        tokio::spawn(async move {
                            other.call("charge").key("key").run(pending::<Result<u32, Error>>()).await
                        });
                        tokio::task::yield_now().await;
                    }
                    Ok::<_, Error>(Reconciled::NotDone)
                };
                let refused = call().reconcile(ask).run(async { Ok::<u32, Error>(1) }).await.unwrap_err();
                assert_eq!(refused.code(), expected);
                let mut expected = BTreeMap::from([(
                    format!("idempotent_calls_total disposition=refused operation=charge reason={expected}"),
                    1,
                )]);
                if is_lost {
                    expected.insert("idempotent_claims_lost_total operation=charge".to_owned(), 1);
                }
                let told: BTreeMap<_, _> = told(&snapshotter).into_iter().filter(|(_, count)| *count > 0).collect();
                assert_eq!(told, expected);
            }
        };
        metrics::with_local_recorder(&recorder, || runtime.block_on(calls));
    }

    /// The gauge follows each record that is held, and the end of its store.
    #[test]
    fn held_records_are_a_gauge() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        // A snapshot has what was added since the last one.
        let mut held = 0.0;
        let mut is_held = |expected: f64| {
            for (key, _, _, value) in snapshotter.snapshot().into_vec() {
                if let DebugValue::Gauge(more) = value {
                    assert_eq!(key.key().name(), "idempotent_memory_held_records");
                    held += more.0;
                }
            }
            held.total_cmp(&expected).is_eq()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let calls = async {
            let handle = Idempotency::memory();
            let charge = || Operation::new("charge").abandoned(OnAbandoned::Refuse);
            for key in ["a", "b"] {
                tokio::select! {
                    biased;
                    _ = handle.call(charge()).key(key).run(pending::<Result<u32, Error>>()) => unreachable!(),
                    () = tokio::task::yield_now() => {}
                }
            }
            tokio::task::yield_now().await;
            assert!(is_held(2.0), "nobody knows what became of them");
            handle.call(charge()).key("c").run(async { Ok::<_, Error>(1) }).await.unwrap();
            assert!(is_held(2.0), "a result has an end");
            assert!(handle.forget("charge", "a").await.unwrap());
            assert!(is_held(1.0));
            drop(handle);
            assert!(is_held(0.0));
        };
        metrics::with_local_recorder(&recorder, || runtime.block_on(calls));
    }

    #[test]
    fn every_answer_and_every_loss_is_counted() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        metrics::with_local_recorder(&recorder, || runtime.block_on(calls()));

        let counted = told(&snapshotter);
        let expected = [
            ("idempotent_calls_total disposition=executed operation=charge", 2),
            ("idempotent_calls_total disposition=refused operation=charge reason=claim-lost", 1),
            ("idempotent_calls_total disposition=refused operation=charge reason=mismatch", 1),
            ("idempotent_calls_total disposition=replayed operation=charge", 1),
            ("idempotent_calls_total disposition=took-over operation=charge", 1),
            ("idempotent_claims_lost_total operation=charge", 1),
            ("idempotent_outcomes_not_recorded_total operation=charge", 1),
            ("idempotent_runs_abandoned_total operation=charge", 1),
        ];
        assert_eq!(counted, expected.map(|(key, count)| (key.to_owned(), count)).into());
    }
}
