//! The words of the columns `state` and `reason`. They are the same in every SQL database, and are those of
//! [`State::as_str`](crate::store::State::as_str) and [`NotKept::as_str`].
//!
//! | `state` | `result` | `reason` |
//! |---|---|---|
//! | `running` (the views say `lapsed` once its lease is over), `abandoned` | NULL | NULL |
//! | `ok`, `error` | the bytes of the codec | NULL |
//! | `not-kept` | NULL | `too-large`, `not-serializable` |
//!
//! Version 2 of the schemas had other words for some of these. The migration to version 3 rewrites them. But a process of
//! the release before may begin a run before the migration and end it afterwards, with the old words. So the old words are
//! read, and never written.

use bytes::Bytes;

use crate::store::{NotKept, Outcome};

/// The state of an abandoned run's record.
#[cfg(any(test, feature = "postgres"))]
const ABANDONED: &str = "abandoned";

/// The column `state`, with all ends of a finished run as one: the steps need no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowState {
    /// The key is claimed; the lease tells whether the claim has lapsed.
    Running,
    Abandoned,
    Done,
}

impl RowState {
    /// Reads the column; `None` for a word that this library does not write.
    pub(crate) fn parse(state: &str) -> Option<Self> {
        match state {
            "running" => Some(Self::Running),
            "abandoned" => Some(Self::Abandoned),
            "ok" | "error" | "not-kept" | "err" | "unavailable" => Some(Self::Done),
            _ => None,
        }
    }
}

/// The columns `state`, `result` and `reason` of a run that has ended.
#[derive(Clone, Copy)]
pub(crate) struct EndColumns<'a> {
    pub(crate) state: &'static str,
    pub(crate) result: Option<&'a [u8]>,
    pub(crate) reason: Option<&'static str>,
}

impl<'a> EndColumns<'a> {
    #[cfg(feature = "postgres")]
    pub(crate) const ABANDONED: Self = Self { state: ABANDONED, result: None, reason: None };

    /// Writes a finished run.
    pub(crate) fn of(outcome: &'a Outcome) -> Self {
        let (result, reason) = match outcome {
            Outcome::Ok(bytes) | Outcome::Err(bytes) => (Some(&**bytes), None),
            Outcome::NotKept(why) => (None, Some(why.as_str())),
        };
        Self { state: outcome.as_str(), result, reason }
    }
}

/// Reads the columns of a finished run; `None` for columns that this library does not write.
pub(crate) fn outcome(state: &str, result: Option<Vec<u8>>, reason: Option<&str>) -> Option<Outcome> {
    match (state, result, reason) {
        ("ok", Some(bytes), None) => Some(Outcome::Ok(Bytes::from(bytes))),
        ("error" | "err", Some(bytes), None) => Some(Outcome::Err(Bytes::from(bytes))),
        ("not-kept" | "unavailable", None, Some(reason)) => match reason {
            "too-large" | "too_large" => Some(Outcome::NotKept(NotKept::TooLarge)),
            "not-serializable" | "not_serializable" => Some(Outcome::NotKept(NotKept::NotSerializable)),
            _ => None,
        },
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
        ];
        for written in outcomes {
            let EndColumns { state, result, reason } = EndColumns::of(&written);
            assert_eq!(state, State::Done(written.clone()).as_str());
            assert_eq!(RowState::parse(state), Some(RowState::Done));
            assert_eq!(outcome(state, result.map(<[u8]>::to_vec), reason), Some(written));
        }
        assert_eq!(ABANDONED, State::Abandoned.as_str());
        assert_eq!(RowState::parse(ABANDONED), Some(RowState::Abandoned));
        let running = State::running(std::time::Duration::from_secs(1));
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
            ("running", bytes(), None),
            ("other", bytes(), None),
        ];
        for (state, result, reason) in cases {
            assert_eq!(outcome(state, result, reason), None, "{state}, {reason:?}");
        }
    }
}
