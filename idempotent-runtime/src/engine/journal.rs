//! The steps of a run: which are recorded, which are under way, and which are in doubt.
//!
//! ```text
//!  begin ─▶ the body ─▶ append ─▶ recorded
//!    │         │ Err       │ the store failed, or the claim is lost
//!    │         ▼           ▼
//!    │       free        in doubt ◀── dropped while it ran
//!    └─▶ recorded by an earlier attempt: its value, and the body is dropped
//! ```
//!
//! A step is in doubt from its begin on, until it is recorded or has returned `Err`. A run that fails while a step is in
//! doubt is abandoned.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{OnceCell, watch},
    time::Instant,
};

use super::{background::FinishInBackground, claim::Claim, events, retry::Pauses, runs::RunGuard};
use crate::{
    error::{Error, StepError},
    lock::lock,
    store::{Appended, NotKept, Step, StoreErrorKind, StoreResult, Token},
};

/// The value of a step, as the journal keeps it.
pub(crate) type Value = Result<Bytes, NotKept>;

/// The steps of a run.
pub(super) struct Journal {
    state: Mutex<Steps>,
    /// Set once the steps of earlier attempts are read.
    read: OnceCell<()>,
    /// The number of steps that are being recorded.
    appends: watch::Sender<usize>,
}

#[derive(Default)]
struct Steps {
    /// Recorded by earlier attempts, and not asked for in this one.
    earlier: HashMap<String, Value>,
    /// The names that this attempt has used: their steps are under way or have ended.
    used: HashSet<String>,
    /// The number of times that each step which is in doubt was begun.
    doubts: HashMap<String, u32>,
    /// True if a step was asked for whose value was not kept, or cannot be read.
    is_lost: bool,
    count: usize,
    len: usize,
}

impl Steps {
    /// A step that is not recorded leaves its name to another.
    fn free(&mut self, name: &str) {
        self.used.remove(name);
        self.count -= 1;
    }
}

/// A step that is asked for.
pub(crate) enum Begun {
    /// An earlier attempt has done it.
    Recorded(Value),
    /// Its body is to run.
    Run(StepRun),
}

/// A step whose body runs. Dropped before it ends, it stays in doubt.
pub(crate) struct StepRun {
    claim: Arc<Claim>,
    token: Token,
    name: String,
    has_ended: bool,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), read: OnceCell::new(), appends: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        lock(&self.state)
    }

    /// True if no step is being recorded.
    pub(super) fn is_settled(&self) -> bool {
        *self.appends.borrow() == 0
    }

    /// Waits until no step is being recorded, or until then.
    pub(super) async fn settled(&self, until: Instant) {
        // Without a timer, which there may be none of.
        if self.is_settled() {
            return;
        }
        let mut appends = self.appends.subscribe();
        let _ = tokio::time::timeout_at(until, appends.wait_for(|&count| count == 0)).await;
    }

    /// True if a step has happened, or may have, that no later attempt would know of.
    pub(super) fn is_in_doubt(&self) -> bool {
        let steps = self.lock();
        steps.is_lost || !steps.doubts.is_empty()
    }

    /// The value of a step, as it is recorded, cannot be read: nobody knows what it was.
    pub(super) fn lose(&self) {
        self.lock().is_lost = true;
    }

    /// The number of steps that earlier attempts have recorded and this one has not asked for; `None` if they were not read.
    pub(super) fn not_asked_for(&self) -> Option<usize> {
        self.read.initialized().then(|| self.lock().earlier.len())
    }

    /// Reads the steps of earlier attempts, once.
    async fn read(&self, claim: &Claim, token: &Token) -> Result<(), Error> {
        if !claim.past.has_steps {
            return Ok(());
        }
        let read = async {
            let context = &claim.context;
            let steps = again_until(claim, || context.store().steps(&context.key, token)).await?;
            let Some(steps) = steps else {
                claim.tell_lost();
                return Err(Error::ClaimLost);
            };
            let mut state = self.lock();
            state.count = steps.len();
            state.len = steps.iter().map(Step::len).sum();
            state.earlier = steps.into_iter().map(|step| (step.name, step.value)).collect();
            Ok::<_, Error>(())
        };
        self.read.get_or_try_init(|| read).await.copied()
    }
}

/// Asks the store, again while it is unavailable, until the lease is near its end.
async fn again_until<T, F: Future<Output = StoreResult<T>>>(claim: &Claim, ask: impl Fn() -> F) -> StoreResult<T> {
    let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        match ask().await {
            Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                if !pauses.sleep_before(claim.until()).await {
                    return Err(error);
                }
            }
            answer => return answer,
        }
    }
}

impl StepRun {
    /// Begins a step of the claim's run. When this resolves to a run, the lease is trusted: its body is polled now or never.
    pub(crate) async fn begin(claim: Arc<Claim>, token: Token, name: String) -> Result<Begun, Error> {
        let journal = claim.journal();
        journal.read(&claim, &token).await?;
        claim.trust(&token).await?;
        let mut steps = journal.lock();
        if steps.used.contains(&name) {
            return Err(StepError::NameInUse.into());
        }
        if let Some(value) = steps.earlier.remove(&name) {
            steps.used.insert(name);
            return Ok(Begun::Recorded(value));
        }
        let limits = &claim.context.shared.limits;
        if steps.count >= limits.max_steps || steps.len >= limits.max_steps_len {
            return Err(StepError::TooMany.into());
        }
        steps.count += 1;
        steps.used.insert(name.clone());
        *steps.doubts.entry(name.clone()).or_default() += 1;
        drop(steps);
        Ok(Begun::Run(Self { claim, token, name, has_ended: false }))
    }

    /// The body said `Err`: it may be begun again.
    pub(crate) fn failed(mut self) {
        self.has_ended = true;
        let mut steps = self.claim.journal().lock();
        steps.free(&self.name);
        if let Some(count) = steps.doubts.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                steps.doubts.remove(&self.name);
            }
        }
    }

    /// Records the value. `Some` if an earlier attempt has recorded another, which counts.
    ///
    /// # Cancel safety
    ///
    /// Dropped once it was polled, the recording goes on in the background.
    pub(crate) fn record(mut self, value: Value) -> FinishInBackground<Result<Option<Value>, Error>> {
        self.has_ended = true;
        let Self { claim, token, name, .. } = &self;
        let (claim, token, name) = (Arc::clone(claim), *token, name.clone());
        let step = within_limits(&claim, Step::new(name, value));
        claim.journal().appends.send_modify(|count| *count += 1);
        let (append, run) = (Append(Arc::clone(&claim)), RunGuard::new(&claim.context.shared));
        let record = async move {
            let answer = send(&claim, &token, &step).await;
            if answer.is_ok() {
                claim.journal().lock().doubts.remove(&step.name);
            }
            drop((append, run));
            answer
        };
        FinishInBackground::new(record, |_| Box::pin(std::future::ready(())))
    }
}

impl Drop for StepRun {
    fn drop(&mut self) {
        if !self.has_ended {
            self.claim.journal().lock().free(&self.name);
        }
    }
}

/// A step that is being recorded, until it is dropped.
struct Append(Arc<Claim>);

impl Drop for Append {
    fn drop(&mut self) {
        self.0.journal().appends.send_modify(|count| *count -= 1);
    }
}

/// Keeps only the fact of a step that passes the limits, and tells the operator of each that is not kept.
fn within_limits(claim: &Claim, step: Step) -> Step {
    let limits = &claim.context.shared.limits;
    let mut steps = claim.journal().lock();
    let Step { name, value } = step;
    let value = value.and_then(|bytes| {
        let is_small = bytes.len() <= limits.max_result_len;
        let len = steps.len.saturating_add(name.len()).saturating_add(bytes.len());
        if is_small && len > limits.max_steps_len {
            // Nothing fits after it.
            steps.len = limits.max_steps_len;
        }
        if is_small && len <= limits.max_steps_len { Ok(bytes) } else { Err(NotKept::TooLarge) }
    });
    let step = Step::new(name, value);
    steps.len = steps.len.saturating_add(step.len());
    drop(steps);
    if let Err(why) = &step.value {
        events::step_not_kept(&claim.context.key, claim.attempt, *why);
    }
    step
}

async fn send(claim: &Claim, token: &Token, step: &Step) -> Result<Option<Value>, Error> {
    let context = &claim.context;
    let (lease, ttl) = (context.request.lease, context.request.ttl);
    let answer = again_until(claim, || async move {
        let sent = Instant::now();
        Ok((context.store().append(&context.key, token, step, lease, ttl).await?, sent))
    });
    match answer.await? {
        (Appended::Applied, sent) => {
            claim.renewed_at(sent);
            Ok(None)
        }
        (Appended::Recorded(value), sent) => {
            claim.renewed_at(sent);
            Ok(Some(value))
        }
        (Appended::Lost, _) => {
            claim.tell_lost();
            Err(Error::ClaimLost)
        }
    }
}
