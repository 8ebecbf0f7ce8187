//! The part of a record that only a key which was run more than once, or in steps, has.

use bytes::Bytes;

use super::clock::Moment;
use crate::store::{Before, Generation, Nonce, NotKept, Past, Step};

/// The life of a key so far.
pub(super) struct Life {
    pub(super) generation: Generation,
    pub(super) failed: u32,
    /// The end of the run before, once a claim has taken over.
    pub(super) before: Option<Rest>,
    /// The end of the last run, of a suspended record.
    pub(super) rest: Option<Rest>,
    /// The time before which nobody may take over.
    pub(super) not_before: Option<Moment>,
    steps: Vec<(Nonce, Step)>,
}

/// The end of a run that was not finished.
#[derive(Clone, Copy)]
pub(super) struct Rest {
    pub(super) kind: RestKind,
    pub(super) since: Moment,
}

/// The state of a record between two runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RestKind {
    Failed,
    Abandoned,
}

impl Life {
    /// The life that began with this claim.
    pub(super) fn of(first: Nonce) -> Self {
        let generation = first.into();
        Self { generation, failed: 0, before: None, rest: None, not_before: None, steps: Vec::new() }
    }

    pub(super) fn past(&self, now: Moment) -> Past {
        let before = match self.before {
            None => Before::Fresh,
            Some(Rest { kind: RestKind::Failed, .. }) => Before::Failed,
            Some(Rest { kind: RestKind::Abandoned, since }) => Before::abandoned(since.until(now)),
        };
        Past::new(self.generation, before, self.failed, self.has_steps())
    }

    pub(super) const fn has_steps(&self) -> bool {
        !self.steps.is_empty()
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().map(|(_, step)| step)
    }

    /// The claim and the value of a step.
    pub(super) fn step(&self, name: &str) -> Option<(Nonce, &Result<Bytes, NotKept>)> {
        self.steps.iter().find(|(_, step)| step.name == name).map(|(by, step)| (*by, &step.value))
    }

    pub(super) fn append(&mut self, by: Nonce, step: Step) {
        self.steps.push((by, step));
    }

    /// Drops the journal.
    pub(super) fn forget_steps(&mut self) {
        self.steps = Vec::new();
    }

    /// The bytes of the journal, as counted against the limit.
    pub(super) fn bytes(&self) -> usize {
        self.steps().map(Step::len).sum()
    }
}
