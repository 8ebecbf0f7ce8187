//! The answer that the next call would get, derived from the record as a claim judges it.

use std::{fmt, time::Duration};

use super::next_request::{NextRequest, RequestCheck};
use crate::{
    operation::OnAbandoned,
    store::{ClaimRequest, Outcome, Record, State},
};

/// The record of a key, and what follows from it for the next call.
///
/// Policies of the function are not on record. [`next_call`](Self::next_call) takes them, and
/// [`depends_on_policy`](Self::depends_on_policy) says whether they matter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The record; `None` where the key is new, or its record has expired.
    pub record: Option<Record>,
    /// The request of the next call beside that of the record.
    pub request: RequestCheck,
}

impl Explanation {
    pub(super) fn new(record: Option<Record>, request: &NextRequest) -> Self {
        let request = record.as_ref().map_or(RequestCheck::Unknown, |record| request.check(record));
        Self { record, request }
    }

    /// True if the answer rests on what the function says of abandoned runs, or on how often it may run.
    #[must_use]
    pub fn depends_on_policy(&self) -> bool {
        let is_open = self.record.as_ref().is_some_and(|record| match record.state {
            State::Running { .. } | State::Done(_) => false,
            State::Failed => record.not_before.is_none(),
            State::Lapsed | State::Abandoned => true,
        });
        is_open && !matches!(self.request, RequestCheck::Differs { .. })
    }

    /// The answer for people: one line where it is the same under each policy, and else one for each answer, with the policies
    /// under which it is given.
    ///
    /// ```
    /// # use idempotent_runtime::{Error, Idempotency, operator::NextRequest};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// let explained = Idempotency::memory().operator().explain("charge", "order-17", &NextRequest::Unknown).await?;
    /// assert_eq!(explained.lines(None), ["runs as attempt 1: the key has no record"]);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn lines(&self, max_attempts: Option<u32>) -> Vec<String> {
        let mut answers: Vec<(NextCall, Vec<&str>)> = Vec::new();
        for (word, next) in self.by_policy(max_attempts) {
            match answers.iter_mut().find(|(other, _)| *other == next) {
                Some((_, words)) => words.push(word),
                None => answers.push((next, vec![word])),
            }
        }
        match &answers[..] {
            [(next, _)] => vec![next.to_string()],
            _ => answers
                .iter()
                .map(|(next, words)| format!("with `abandoned = {}`: {next}", words.join("` or `")))
                .collect(),
        }
    }

    /// The answer under each policy for abandoned runs, with the policy's word: `rerun`, `refuse` and `reconcile`.
    #[must_use]
    pub fn by_policy(&self, max_attempts: Option<u32>) -> [(&'static str, NextCall); 3] {
        [("rerun", OnAbandoned::Rerun), ("refuse", OnAbandoned::Refuse), ("reconcile", OnAbandoned::Reconcile)]
            .map(|(word, policy)| (word, self.next_call(policy, max_attempts)))
    }

    /// The answer that the next call would get from a function with these policies, if its request is that of the record or
    /// [cannot be told](RequestCheck::Unknown) from it.
    ///
    /// [`OnAbandoned::Reconcile`] stands for a function that asks: a call through the builder without
    /// [`reconcile`](crate::Call::reconcile) is one with [`OnAbandoned::Refuse`].
    #[must_use]
    pub fn next_call(&self, abandoned: OnAbandoned, max_attempts: Option<u32>) -> NextCall {
        let Some(record) = &self.record else { return NextCall::Runs { attempt: 1, reason: RunReason::New } };
        if let RequestCheck::Differs { arguments } = &self.request {
            return NextCall::Mismatch { arguments: arguments.clone() };
        }
        // In the order in which a claim looks at a record: see rule 8 of the store.
        let attempt = record.attempt;
        let in_doubt = match &record.state {
            State::Done(outcome) => {
                return NextCall::Replayed { outcome: outcome.clone(), time_left: record.expires_in };
            }
            State::Running { lease_left } => return NextCall::Waits { lease_left: *lease_left, attempt },
            State::Lapsed | State::Abandoned => true,
            State::Failed => false,
        };
        let asks = in_doubt && abandoned == OnAbandoned::Reconcile;
        let is_taken_over = match abandoned {
            OnAbandoned::Rerun => record.expires_in <= ClaimRequest::HELD,
            OnAbandoned::Refuse => false,
            OnAbandoned::Reconcile => true,
        };
        if in_doubt && !is_taken_over {
            return NextCall::Abandoned { attempt };
        }
        if let Some(retry_after) = record.not_before {
            return NextCall::Suspended { retry_after, attempt };
        }
        let next = attempt.saturating_add(1);
        match max_attempts {
            _ if asks => NextCall::Asks { attempt: next },
            Some(max) if next > max && in_doubt => NextCall::Abandoned { attempt },
            Some(max) if next > max => NextCall::Exhausted,
            _ => {
                let reason = match in_doubt {
                    true => RunReason::Vanished,
                    false if attempt == 0 => RunReason::Reopened,
                    false => RunReason::Failed,
                };
                NextCall::Runs { attempt: next, reason }
            }
        }
    }
}

/// The answer that a call would get.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NextCall {
    /// It runs the body.
    #[non_exhaustive]
    Runs {
        /// As the run of this number.
        attempt: u32,
        /// For this reason.
        reason: RunReason,
    },
    /// It asks the function of `reconcile` what became of the run before, as the run of this number.
    #[non_exhaustive]
    Asks {
        /// The number of the run.
        attempt: u32,
    },
    /// It waits for the run that is under way, up to the operation's `wait`, and gets its result or
    /// [`Error::InFlight`](crate::Error::InFlight).
    #[non_exhaustive]
    Waits {
        /// The rest of the lease, which the run renews while it is alive.
        lease_left: Duration,
        /// The number of the run that is under way.
        attempt: u32,
    },
    /// It gets what the record has: the value or the kept error of the run, [`Error::ResultNotKept`](crate::Error::ResultNotKept),
    /// or [`Error::Exhausted`](crate::Error::Exhausted).
    #[non_exhaustive]
    Replayed {
        /// The end of the run.
        outcome: Outcome,
        /// The time for which the record is kept.
        time_left: Duration,
    },
    /// It is refused: [`Error::Mismatch`](crate::Error::Mismatch).
    #[non_exhaustive]
    Mismatch {
        /// The arguments that differ, where both are known by name.
        arguments: Vec<String>,
    },
    /// It is refused: [`Error::Suspended`](crate::Error::Suspended).
    #[non_exhaustive]
    Suspended {
        /// The time until a run may begin.
        retry_after: Duration,
        /// The attempt that has ended.
        attempt: u32,
    },
    /// It is refused until somebody resolves the key: [`Error::Abandoned`](crate::Error::Abandoned).
    #[non_exhaustive]
    Abandoned {
        /// The attempt that vanished.
        attempt: u32,
    },
    /// It is refused: [`Error::Exhausted`](crate::Error::Exhausted).
    Exhausted,
}

/// The reason for which a call runs the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunReason {
    /// The key has no record.
    New,
    /// The run before ended in an error, and left nothing in doubt.
    Failed,
    /// An operator has left it to run again, as if for the first time.
    Reopened,
    /// The run before vanished, and the function says that it is run again.
    Vanished,
}

/// One line, without the outcome's bytes and without keys.
impl fmt::Display for NextCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs { attempt: 1, reason: RunReason::New } => {
                f.write_str("runs as attempt 1: the key has no record")
            }
            Self::Runs { attempt, reason } => {
                let why = match reason {
                    RunReason::New => "the key has no record",
                    RunReason::Failed => "the attempt before ended in an error that is not kept",
                    RunReason::Reopened => "it was left to run again",
                    RunReason::Vanished => "the attempt before vanished without an outcome",
                };
                write!(f, "runs as attempt {attempt}: {why}")
            }
            Self::Asks { attempt } => write!(
                f,
                "asks the function of `reconcile`, as attempt {attempt}: the attempt before vanished without an outcome"
            ),
            Self::Waits { lease_left, attempt } => {
                write!(f, "waits: the lease of attempt {attempt} ends in {} unless it is renewed", Time(*lease_left))
            }
            Self::Replayed { outcome, time_left } => {
                let (what, left) = (replayed(outcome), Time(*time_left));
                write!(f, "{what}, for {left} more")
            }
            Self::Mismatch { arguments } if arguments.is_empty() => {
                f.write_str("refused as a mismatch: the key belongs to a request with other arguments")
            }
            Self::Mismatch { arguments } => {
                write!(f, "refused as a mismatch: `{}` differs from the record", arguments.join("`, `"))
            }
            Self::Suspended { retry_after, attempt } => {
                write!(
                    f,
                    "refused as suspended: attempt {attempt} has ended, and the next may begin in {}",
                    Time(*retry_after)
                )
            }
            Self::Abandoned { attempt } => {
                write!(
                    f,
                    "refused as abandoned: nobody knows whether attempt {attempt} happened, and it is not run again"
                )
            }
            Self::Exhausted => f.write_str("refused as exhausted: each run that the operation allows has failed"),
        }
    }
}

const fn replayed(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ok(_) => "replayed: the result of the run",
        Outcome::Err(_) => "replayed: the error of the run, which is kept",
        Outcome::NotKept(_) => "refused as not kept: the run is done, and its result could not be kept",
        Outcome::Exhausted => "refused as exhausted: each run that the operation allows has failed",
        Outcome::Dead => "refused as exhausted: the message is a dead letter",
    }
}

/// A time for people, in its two largest units.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{seconds}.{} s", self.0.subsec_millis() / 100),
            60..3_600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3_600..86_400 => write!(f, "{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
            _ => write!(f, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
        }
    }
}
