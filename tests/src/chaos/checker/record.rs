//! The claims of one record, and what may follow what.

use std::collections::HashMap;

use crate::chaos::{
    calls::{KINDS, Kind},
    history::{Step, Told},
};

/// A store's clock counts in ms and the history in µs.
pub(super) const TICK: u64 = 2_000;
/// The longest time between an operator's request to remove a record and the removal.
pub(super) const FORGET_WITHIN: u64 = 3_000_000;
pub(super) fn kind_of(record: &str) -> &'static Kind {
    KINDS.iter().find(|kind| record.split('|').next() == Some(kind.name)).expect("an operation of ours")
}

pub(super) struct Call<'a> {
    pub(super) record: &'a str,
    pub(super) variant: u32,
    pub(super) process: u64,
    pub(super) invoked: u64,
    pub(super) answered: Option<u64>,
    pub(super) claim: Option<u64>,
    pub(super) returned: Option<(u64, bool)>,
}

/// A question to the store, and when it was answered.
pub(super) struct Question {
    pub(super) step: Step,
    pub(super) asked: u64,
    pub(super) told: Option<(u64, Told)>,
}

impl Question {
    pub(super) fn was(&self, step: Step, answer: Told) -> bool {
        self.step == step && self.told.is_some_and(|(_, told)| told == answer)
    }
}

pub(super) struct Claim<'a> {
    pub(super) record: &'a str,
    pub(super) process: u64,
    pub(super) call: Option<u64>,
    pub(super) asked: u64,
    /// The time at which the owner learned of it, and the number of the attempt.
    pub(super) granted: Option<(u64, u32)>,
    pub(super) started: Option<u64>,
    pub(super) fence: Option<u64>,
    pub(super) questions: Vec<Question>,
}

impl Claim<'_> {
    pub(super) fn of(&self, step: Step) -> impl Iterator<Item = &Question> {
        self.questions.iter().filter(move |question| question.step == step)
    }

    pub(super) fn told(&self) -> u64 {
        self.granted.map_or(u64::MAX, |(told, _)| told)
    }

    pub(super) fn attempt(&self) -> u32 {
        self.granted.map_or(0, |(_, attempt)| attempt)
    }

    pub(super) fn is_done(&self) -> bool {
        self.questions.iter().any(|question| question.was(Step::Complete, Told::Applied))
    }

    /// Before this moment the lease cannot have ended by itself.
    pub(super) fn lease_end(&self, kind: &Kind) -> u64 {
        let renewed = self.questions.iter().filter(|question| question.was(Step::Renew, Told::Applied));
        renewed.map(|question| question.asked).fold(self.asked, u64::max) + kind.lease_ms * 1000
    }

    /// From when on the key may be vacant because of what this claim did.
    pub(super) fn vacates(&self, kind: &Kind) -> Option<u64> {
        let released = self.of(Step::Release).find(|question| !question.was(Step::Release, Told::Lost));
        let ttl = kind.ttl_ms * 1000;
        let completed = self.of(Step::Complete).map(|question| question.asked + ttl).min();
        let abandoned = self.of(Step::Abandon).map(|question| question.asked + ttl).min();
        // A first attempt that is given back leaves nothing.
        let kept = if self.attempt() > 1 { ttl } else { 0 };
        let given_back = self.of(Step::GiveBack).map(|question| question.asked + kept).min();
        let lapsed = (self.granted.is_some() && !self.is_done()).then(|| self.lease_end(kind) + ttl);
        [released.map(|question| question.asked), completed, abandoned, given_back, lapsed].into_iter().flatten().min()
    }
}

/// The claims of one record, by when their owners learned of them.
pub(super) struct History<'a> {
    kind: &'static Kind,
    claims: Vec<&'a Claim<'a>>,
    forgotten: &'a [u64],
    calls: &'a HashMap<u64, Call<'a>>,
    /// From when on the key may be vacant, by which claim.
    vacancies: Vec<(u64, &'a Claim<'a>)>,
}

impl<'a> History<'a> {
    pub(super) fn new(
        record: &str,
        mut claims: Vec<&'a Claim<'a>>,
        forgotten: &'a [u64],
        calls: &'a HashMap<u64, Call<'a>>,
    ) -> Self {
        let kind = kind_of(record);
        claims.sort_by_key(|claim| claim.told());
        let mut vacancies: Vec<_> = claims.iter().filter_map(|&claim| Some((claim.vacates(kind)?, claim))).collect();
        vacancies.sort_by_key(|(at, _)| *at);
        Self { kind, claims, forgotten, calls, vacancies }
    }

    /// I2 to I7: what may follow what.
    pub(super) fn check(&self, violations: &mut Vec<String>) {
        // The highest fence of this claim and all before it.
        let mut fences: Vec<(u64, u64)> = Vec::new();
        for (index, &earlier) in self.claims.iter().enumerate().filter(|(_, claim)| claim.granted.is_some()) {
            let known = fences.partition_point(|&(told, _)| told < earlier.asked);
            let highest = known.checked_sub(1).map_or(0, |last| fences[last].1);
            if let Some(fence) = earlier.fence {
                if fence <= highest {
                    violations.push(format!("{} µs: I3: {}: a fence does not rise", earlier.told(), earlier.record));
                }
                fences.push((earlier.told(), fence.max(fences.last().map_or(0, |&(_, highest)| highest))));
            }
            let last_step = earlier.questions.iter().map(|question| question.asked).max().unwrap_or_default();
            // What two others vacated is vacant to all, since one of them at most is the one who asks.
            let free = self.vacated(earlier).nth(1).map_or(u64::MAX, |(at, _)| *at);
            let others = self.claims[index + 1..].iter().filter(|claim| claim.granted.is_some());
            for &later in others.take_while(|later| later.told() <= last_step.max(free)) {
                let (at, record, since) = (later.told(), later.record, earlier.told());
                let ordered = since < later.asked;
                if let Some(broken) = self.broken(earlier, later)
                    && (ordered || self.broken(later, earlier).is_some())
                {
                    violations.push(format!("{at} µs: {broken}: {record} after {since} µs"));
                }
                let late = earlier.questions.iter().any(|question| {
                    let changes = [Step::Complete, Step::Renew, Step::Abandon, Step::GiveBack].contains(&question.step);
                    changes && question.asked > at && question.was(question.step, Told::Applied)
                });
                if ordered && late {
                    violations.push(format!("{at} µs: I4: {record}: changed by the owner of {since} µs"));
                }
            }
        }
    }

    /// The times at which the key may have become vacant since a claim was granted, and the claims that vacated it.
    fn vacated<'s>(&'s self, since: &'s Claim<'a>) -> impl Iterator<Item = &'s (u64, &'a Claim<'a>)> {
        let first = self.vacancies.partition_point(|&(at, _)| at < since.asked);
        self.vacancies[first..].iter().filter(move |(_, by)| std::ptr::eq(*by, since) || by.told() >= since.asked)
    }

    /// Which promise the grant of `later` breaks, if `earlier` was granted before it.
    fn broken(&self, earlier: &Claim<'a>, later: &Claim<'a>) -> Option<&'static str> {
        let told = later.told() + TICK;
        let vacated = self.vacated(earlier).take_while(|(at, _)| *at <= told).any(|(_, by)| !std::ptr::eq(*by, later));
        let forgotten = self.forgotten.iter().any(|&forgot| forgot + FORGET_WITHIN >= earlier.asked && forgot <= told);
        if vacated || forgotten {
            return None;
        }
        if earlier.is_done() {
            return Some("I5: granted after a completion");
        }
        let has = |step| earlier.of(step).any(|question| question.asked <= told);
        let (abandoned, given_back) = (has(Step::Abandon), has(Step::GiveBack));
        if !abandoned && !given_back && earlier.lease_end(self.kind) > told {
            return Some("I2: granted within another's lease");
        }
        let variant = |claim: &Claim<'_>| claim.call.and_then(|call| self.calls.get(&call)).map(|call| call.variant);
        if self.kind.refuse {
            Some("I6: granted after an abandoned run")
        } else if variant(earlier) != variant(later) {
            Some("I7: granted to another request")
        // What did not start does not count.
        } else if later.attempt() + u32::from(given_back) <= earlier.attempt() {
            Some("I6: granted with an attempt that does not rise")
        } else {
            None
        }
    }
}
