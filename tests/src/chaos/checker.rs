//! Decides from a history whether the promises were kept.
//!
//! The store served a question at some moment between the question and its answer. It may have served a question without an
//! answer or not, then or much later. Each rule gives the benefit of that doubt, and no other.

mod record;

use std::{collections::HashMap, fmt};

use self::record::{Call, Claim, FORGET_WITHIN, History, Question, TICK, kind_of};
use super::history::{Answer, Event, Step, Told, What};

/// The time of the longest call: its body, its wait, and a store that has to be started again.
const ANSWERED_WITHIN: u64 = 20_000_000;

/// The violations that were found, and counts of what was looked at.
#[derive(Debug, Default)]
pub struct Verdict {
    pub violations: Vec<String>,
    pub calls: usize,
    pub runs: usize,
    pub takeovers: usize,
    pub replays: usize,
    /// Answers by name.
    pub answers: HashMap<String, usize>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { violations, calls, runs, takeovers, replays, .. } = self;
        writeln!(
            f,
            "{calls} calls, {runs} runs, {takeovers} takeovers, {replays} replays, {} wrong",
            violations.len()
        )?;
        violations.iter().take(20).try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}

/// Judges a history.
///
/// `killed` are the processes that did not end by themselves; calls made from `healed` on have to find every key done,
/// claimable, or abandoned for good.
///
/// # Panics
///
/// For a history that no recorder writes.
#[must_use]
pub fn judge(events: &[Event], killed: &[u64], healed: u64) -> Verdict {
    let mut checker = Checker::default();
    for event in events {
        checker.read(event);
    }
    checker.starts(events);
    checker.answers(events, healed);
    checker.endings(killed);
    let mut records: HashMap<&str, Vec<&Claim<'_>>> = HashMap::new();
    for claim in checker.claims.values() {
        records.entry(claim.record).or_default().push(claim);
    }
    let mut violations = Vec::new();
    for (record, claims) in records {
        let forgotten = checker.forgotten.get(record).map_or(&[][..], Vec::as_slice);
        History::new(record, claims, forgotten, &checker.calls).check(&mut violations);
    }
    checker.verdict.violations.extend(violations);
    checker.verdict.takeovers = checker.claims.values().filter(|claim| claim.attempt() > 1).count();
    checker.verdict
}

#[derive(Default)]
struct Checker<'a> {
    calls: HashMap<u64, Call<'a>>,
    claims: HashMap<u64, Claim<'a>>,
    forgotten: HashMap<&'a str, Vec<u64>>,
    verdict: Verdict,
}

impl<'a> Checker<'a> {
    fn wrong(&mut self, at: u64, what: impl fmt::Display) {
        self.verdict.violations.push(format!("{at} µs: {what}"));
    }

    fn read(&mut self, event: &'a Event) {
        let at = event.at;
        match &event.what {
            What::Invoked { call, record, variant } => {
                let (process, variant) = (event.process, *variant);
                let made = Call { record, variant, process, invoked: at, answered: None, claim: None, returned: None };
                self.calls.insert(*call, made);
            }
            What::Asked { claim, step, record, call } => {
                let claim = self.claims.entry(*claim).or_insert_with(|| Claim {
                    record,
                    process: event.process,
                    call: *call,
                    asked: at,
                    granted: None,
                    started: None,
                    fence: None,
                    questions: Vec::new(),
                });
                claim.questions.push(Question { step: *step, asked: at, told: None });
            }
            What::Told { claim, step, told } => {
                let claim = self.claims.get_mut(claim).expect("asked before it is told");
                let open = claim.questions.iter_mut().rev().find(|open| open.step == *step && open.told.is_none());
                open.expect("asked before it is told").told = Some((at, *told));
                if let Told::Granted { attempt } = told {
                    claim.granted.get_or_insert((at, *attempt));
                }
            }
            What::Returned { call, ok } => self.call(*call).returned = Some((at, *ok)),
            What::Answered { call, .. } => self.call(*call).answered = Some(at),
            What::Forgot { record } => self.forgotten.entry(record).or_default().push(at),
            What::Started { .. } | What::Fenced { .. } => {}
        }
    }

    fn call(&mut self, call: u64) -> &mut Call<'a> {
        self.calls.get_mut(&call).expect("invoked before anything else")
    }

    /// I1, I2b, I8: one start a claim, on a claim that was granted, and in time.
    fn starts(&mut self, events: &[Event]) {
        let mut granted: HashMap<u64, u64> = HashMap::new();
        for &Event { at, ref what, .. } in events {
            match *what {
                What::Told { claim, told: Told::Granted { .. }, .. } => {
                    if let Some(call) = self.claims[&claim].call {
                        granted.insert(call, claim);
                    }
                }
                What::Started { call, attempt } => {
                    self.verdict.runs += 1;
                    let Some(&number) = granted.get(&call) else {
                        self.wrong(at, "I8: a body started without a claim");
                        continue;
                    };
                    self.call(call).claim = Some(number);
                    let claim = self.claims.get_mut(&number).expect("granted");
                    let record = claim.record;
                    let trusted = claim.asked + kind_of(record).lease_ms * 900;
                    let again = claim.started.replace(at).is_some();
                    let (told, granted_attempt) = (claim.told(), claim.attempt());
                    if again {
                        self.wrong(at, format_args!("I1: {record}: a second start on one claim"));
                    }
                    if told >= trusted {
                        self.wrong(
                            at,
                            format_args!("I2b: {record}: started on a claim that came {} µs too late", told - trusted),
                        );
                    }
                    if attempt != granted_attempt {
                        self.wrong(at, format_args!("I6: {record}: told attempt {attempt}, granted {granted_attempt}"));
                    }
                }
                What::Fenced { call, fence } => {
                    if let Some(claim) = granted.get(&call).and_then(|claim| self.claims.get_mut(claim)) {
                        claim.fence = Some(fence);
                    }
                }
                _ => {}
            }
        }
    }

    /// I5, I6, I7, I9, L1, L2: every answer is a value of this request's own run, or of the one that was recorded.
    fn answers(&mut self, events: &[Event], healed: u64) {
        let mut variants: HashMap<(&str, u32), u64> = HashMap::new();
        for claim in self.claims.values() {
            let Some(call) = claim.call.and_then(|call| self.calls.get(&call)) else { continue };
            let first = variants.entry((claim.record, call.variant)).or_insert(u64::MAX);
            *first = claim.asked.min(*first);
        }
        for &Event { at, ref what, .. } in events {
            let What::Answered { call: number, answer } = what else { continue };
            let call = &self.calls[number];
            let (record, kind) = (call.record, kind_of(call.record));
            let name = match answer {
                Answer::Refused(code) => code.as_str(),
                Answer::Ok(run) | Answer::Err(run) if run != number => "replayed",
                Answer::Ok(_) => "ok",
                Answer::Err(_) => "err",
                Answer::Panicked => "panicked",
                Answer::Dropped => "dropped",
            };
            *self.verdict.answers.entry(name.to_owned()).or_default() += 1;
            self.verdict.replays += usize::from(name == "replayed");
            let settled = match answer {
                Answer::Ok(run) | Answer::Err(run) => {
                    let ok = matches!(answer, Answer::Ok(_));
                    let ran = self.calls.get(run).is_some_and(|run| {
                        let theirs = run.record == record && run.variant == call.variant;
                        theirs && run.returned.is_some_and(|(returned, was_ok)| returned <= at && was_ok == ok)
                    });
                    if !ran {
                        self.wrong(at, format_args!("I5: {record}: an answer that no run of this request returned"));
                    }
                    true
                }
                Answer::Refused(code) if code == "mismatch" => {
                    let others = variants
                        .iter()
                        .filter(|((of, variant), _)| *of == record && *variant != self.calls[number].variant);
                    if !others.into_iter().any(|(_, &first)| first < at) {
                        self.wrong(at, format_args!("I7: {record}: a mismatch with nothing"));
                    }
                    true
                }
                Answer::Refused(code) if code == "abandoned" => {
                    if !kind.refuse {
                        self.wrong(at, format_args!("I6: {record}: not run again"));
                    }
                    true
                }
                Answer::Refused(code) => {
                    if !["in-flight", "claim-lost", "store"].contains(&code.as_str()) {
                        self.wrong(at, format_args!("I9: {record}: refused as {code}"));
                    }
                    false
                }
                Answer::Panicked | Answer::Dropped => false,
            };
            let call = &self.calls[number];
            let (invoked, took) = (call.invoked, at - call.invoked);
            if invoked >= healed && !settled {
                self.wrong(at, format_args!("L1: {record}: neither done nor claimable: {answer:?}"));
            }
            if took > ANSWERED_WITHIN {
                self.wrong(at, format_args!("L2: {record}: answered after {took} µs: {answer:?}"));
            }
        }
        self.replays(events);
    }

    /// I5: between an acknowledged completion and its expiry, all answers are that run's.
    fn replays(&mut self, events: &[Event]) {
        let mut done: HashMap<&str, Vec<(u64, u64, u64)>> = HashMap::new();
        for claim in self.claims.values().filter(|claim| claim.is_done()) {
            let asked = claim.of(Step::Complete).map(|question| question.asked).min();
            let told = claim.questions.iter().find(|question| question.was(Step::Complete, Told::Applied));
            if let (Some(run), Some(asked), Some((told, _))) = (claim.call, asked, told.and_then(|told| told.told)) {
                let expiry = asked + kind_of(claim.record).ttl_ms * 1000 - TICK;
                done.entry(claim.record).or_default().push((told, expiry, run));
            }
        }
        for &Event { at, ref what, .. } in events {
            let What::Answered { call: number, answer: Answer::Ok(answer) | Answer::Err(answer) } = what else {
                continue;
            };
            let call = &self.calls[number];
            let record = call.record;
            let wrong = done.get(record).into_iter().flatten().any(|&(told, expiry, run)| {
                let forgotten = self.forgotten.get(record).into_iter().flatten();
                let forgotten = forgotten.into_iter().any(|&forgot| forgot + FORGET_WITHIN >= told && forgot <= at);
                call.invoked > told && at < expiry && !forgotten && run != *answer && self.known_since(call) > told
            });
            if wrong {
                self.wrong(at, format_args!("I5: {record}: not the answer of the run that was recorded"));
            }
        }
    }

    /// The moment from which on a call's answer may date: it may share the answer to a question that another call in its
    /// process had open.
    fn known_since(&self, call: &Call<'_>) -> u64 {
        let ours = self.claims.values().filter(|claim| claim.process == call.process && claim.record == call.record);
        let open = ours.flat_map(|claim| claim.of(Step::Claim)).filter(|question| {
            question.asked <= call.invoked && question.told.is_none_or(|(told, _)| told >= call.invoked)
        });
        open.map(|question| question.asked).min().unwrap_or(call.invoked)
    }

    /// L2: whoever was not killed was answered.
    fn endings(&mut self, killed: &[u64]) {
        self.verdict.calls = self.calls.len();
        let open = self.calls.values().filter(|call| call.answered.is_none() && !killed.contains(&call.process));
        let open: Vec<_> = open.map(|call| (call.invoked, call.record)).collect();
        for (invoked, record) in open {
            self.wrong(invoked, format_args!("L2: {record}: a call that was never answered"));
        }
    }
}
