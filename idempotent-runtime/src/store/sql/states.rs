//! The words of the columns `state` and `reason`. They are the same in every SQL database, and are those of
//! [`State::as_str`](crate::store::State::as_str) and [`NotKept::as_str`].
//!
//! | `state` | `result` | `reason` |
//! |---|---|---|
//! | `running` (the views say `lapsed` once its lease is over), `failed`, `abandoned`, `exhausted`, `dead` | NULL | NULL |
//! | `ok`, `error` | the bytes of the codec | NULL |
//! | `not-kept` | NULL | `too-large`, `not-serializable` |
//!
//! The column `before` of a running record has the state that its claim took over, `failed` or `abandoned`. A step has its
//! value in columns `result` and `reason`, too.
//!
//! Version 2 of the schemas had other words for some of these. The migration to version 3 rewrites them. But a process of
//! the release before may begin a run before the migration and end it afterwards, with the old words. So the old words are
//! read, and never written.

use std::time::Duration;

use bytes::Bytes;

use crate::store::{Before, ClaimRequest, NotKept, Outcome, Resolution, TakeOver, Why};

const FAILED: &str = "failed";
const ABANDONED: &str = "abandoned";

/// The state of a dead letter that is to be worked off again.
pub(crate) const REPLAYING: &str = "replaying";

/// The column `state`, with all ends of a finished run as one: the steps need no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowState {
    /// The key is claimed; the lease tells whether the claim has lapsed.
    Running,
    Failed,
    Abandoned,
    Done,
}

impl RowState {
    /// Reads the column; `None` for a word that this library does not write.
    pub(crate) fn parse(state: &str) -> Option<Self> {
        match state {
            "running" => Some(Self::Running),
            FAILED => Some(Self::Failed),
            ABANDONED => Some(Self::Abandoned),
            "ok" | "error" | "not-kept" | "exhausted" | "dead" | "err" | "unavailable" => Some(Self::Done),
            _ => None,
        }
    }
}

/// Reads the column `before`, with the time since that state began; `None` for a word that this library does not write.
pub(crate) fn before(state: Option<&str>, since: Duration) -> Option<Before> {
    match state {
        None => Some(Before::Fresh),
        Some(FAILED) => Some(Before::Failed),
        Some(ABANDONED) => Some(Before::abandoned(since)),
        Some(_) => None,
    }
}

/// The word that tells a statement why to suspend a run.
pub(crate) const fn reason_to_suspend(why: Why) -> &'static str {
    match why {
        Why::Abandoned => ABANDONED,
        Why::Failed => FAILED,
        Why::Unstarted => "unstarted",
    }
}

/// The longest rest of an abandoned or lapsed record that a claim may take over: a record that is kept for longer stays.
///
/// No record is kept for a thousand years, and no database's calendar ends before that.
pub(crate) const fn longest_rest(take_over: TakeOver) -> Duration {
    match take_over {
        TakeOver::Never => Duration::ZERO,
        TakeOver::UnlessHeld => ClaimRequest::HELD,
        TakeOver::Always => Duration::from_secs(1000 * 366 * 24 * 60 * 60),
    }
}

/// The columns `state`, `result` and `reason` of a finished run.
#[derive(Clone, Copy)]
pub(crate) struct EndColumns<'a> {
    pub(crate) state: &'static str,
    pub(crate) result: Option<&'a [u8]>,
    pub(crate) reason: Option<&'static str>,
}

impl<'a> EndColumns<'a> {
    pub(crate) fn of(outcome: &'a Outcome) -> Self {
        let (result, reason) = match outcome {
            Outcome::Ok(bytes) | Outcome::Err(bytes) => (Some(&**bytes), None),
            Outcome::NotKept(why) => (None, Some(why.as_str())),
            Outcome::Exhausted | Outcome::Dead => (None, None),
        };
        Self { state: outcome.as_str(), result, reason }
    }

    /// The bytes that an outcome carries.
    pub(crate) fn weight(outcome: &'a Outcome) -> usize {
        Self::of(outcome).result.map_or(0, <[u8]>::len)
    }
}

/// The columns `state`, `result` and `reason` that a resolution leaves; no state where it leaves no record.
pub(crate) struct ResolvedColumns<'a> {
    pub(crate) state: Option<&'static str>,
    pub(crate) result: Option<&'a [u8]>,
    pub(crate) reason: Option<&'static str>,
}

impl<'a> ResolvedColumns<'a> {
    pub(crate) fn of(resolution: &'a Resolution) -> Self {
        match resolution {
            Resolution::Done(outcome) => {
                let EndColumns { state, result, reason } = EndColumns::of(outcome);
                Self { state: Some(state), result, reason }
            }
            Resolution::Failed => Self { state: Some(FAILED), result: None, reason: None },
            Resolution::Vacant => Self { state: None, result: None, reason: None },
        }
    }
}

/// Reads the columns of a finished run; `None` for columns that this library does not write.
pub(crate) fn outcome(state: &str, result: Option<Vec<u8>>, reason: Option<&str>) -> Option<Outcome> {
    match (state, result, reason) {
        ("ok", Some(bytes), None) => Some(Outcome::Ok(Bytes::from(bytes))),
        ("error" | "err", Some(bytes), None) => Some(Outcome::Err(Bytes::from(bytes))),
        ("not-kept" | "unavailable", None, Some(reason)) => not_kept(reason).map(Outcome::NotKept),
        ("exhausted", None, None) => Some(Outcome::Exhausted),
        ("dead", None, None) => Some(Outcome::Dead),
        _ => None,
    }
}

/// Reads the columns `result` and `reason` of a step; `None` for columns that this library does not write.
pub(crate) fn value(result: Option<Vec<u8>>, reason: Option<&str>) -> Option<Result<Bytes, NotKept>> {
    match (result, reason) {
        (Some(bytes), None) => Some(Ok(Bytes::from(bytes))),
        (None, Some(reason)) => not_kept(reason).map(Err),
        _ => None,
    }
}

fn not_kept(reason: &str) -> Option<NotKept> {
    match reason {
        "too-large" | "too_large" => Some(NotKept::TooLarge),
        "not-serializable" | "not_serializable" => Some(NotKept::NotSerializable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::State;

    #[test]
    fn what_is_written_is_read() {
        let outcomes = [
            Outcome::Ok(Bytes::from_static(b"1")),
            Outcome::Err(Bytes::new()),
            Outcome::NotKept(NotKept::TooLarge),
            Outcome::NotKept(NotKept::NotSerializable),
            Outcome::Exhausted,
            Outcome::Dead,
        ];
        for written in outcomes {
            let EndColumns { state, result, reason } = EndColumns::of(&written);
            assert_eq!(state, State::Done(written.clone()).as_str());
            assert_eq!(RowState::parse(state), Some(RowState::Done));
            assert_eq!(outcome(state, result.map(<[u8]>::to_vec), reason), Some(written));
        }
        for (why, state, row) in
            [(Why::Abandoned, State::Abandoned, RowState::Abandoned), (Why::Failed, State::Failed, RowState::Failed)]
        {
            assert_eq!(reason_to_suspend(why), state.as_str());
            assert_eq!(RowState::parse(state.as_str()), Some(row));
        }
        let running = State::running(Duration::from_secs(1));
        assert_eq!(RowState::parse(running.as_str()), Some(RowState::Running));
        assert_eq!(RowState::parse(State::Lapsed.as_str()), None, "only views say so");
    }

    #[test]
    fn what_is_never_written_is_not_read() {
        let bytes = || Some(vec![b'1']);
        let cases = [
            ("ok", None, None),
            ("ok", bytes(), Some("too-large")),
            ("error", None, None),
            ("not-kept", None, None),
            ("not-kept", bytes(), Some("too-large")),
            ("not-kept", None, Some("other")),
            ("exhausted", bytes(), None),
            ("dead", bytes(), None),
            ("running", bytes(), None),
            ("other", bytes(), None),
        ];
        for (state, result, reason) in cases {
            assert_eq!(outcome(state, result, reason), None, "{state}, {reason:?}");
        }
        for (result, reason) in [(None, None), (bytes(), Some("too-large")), (None, Some("other"))] {
            assert_eq!(value(result, reason), None, "{reason:?}");
        }
        assert_eq!(before(Some("other"), Duration::ZERO), None);
    }
}
