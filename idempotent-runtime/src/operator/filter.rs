//! The records that an operator asks for.

use std::{fmt, str::FromStr, time::Duration};

use crate::store::{KeyDigest, Record, State};

/// The records that [`Operator::list`](super::Operator::list) gives. All, unless said otherwise.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Filter {
    pub(super) operation: Option<String>,
    pub(super) limit: Option<usize>,
    state: Option<StateFilter>,
    expires_within: Option<Duration>,
    digest: Option<KeyDigest>,
}

impl Filter {
    /// Lets all records pass.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets those of one operation pass, named as calls name it or as [`RecordKey::operation`](crate::RecordKey::operation)
    /// does.
    pub fn operation(mut self, name: impl Into<String>) -> Self {
        self.operation = Some(name.into());
        self
    }

    /// Lets those in one state pass.
    pub const fn state(mut self, state: StateFilter) -> Self {
        self.state = Some(state);
        self
    }

    /// Lets those pass that the store keeps for no longer than this from now on. A record does not say how old it is.
    pub const fn expires_within(mut self, time: Duration) -> Self {
        self.expires_within = Some(time);
        self
    }

    /// Lets those with this digest of their key pass: the `key_digest` of an event.
    pub const fn digest(mut self, digest: KeyDigest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Ends the listing after so many records.
    pub const fn limit(mut self, records: usize) -> Self {
        self.limit = Some(records);
        self
    }

    pub(crate) fn lets_pass(&self, record: &Record) -> bool {
        self.state.is_none_or(|state| state.lets_pass(record))
            && self.expires_within.is_none_or(|time| record.expires_in <= time)
            && self.digest.is_none_or(|digest| record.key.digest() == digest)
    }
}

/// A state to look for: a word of [`State::as_str`], or `suspended`.
///
/// ```
/// use idempotent_runtime::operator::StateFilter;
///
/// assert_eq!("not-kept".parse(), Ok(StateFilter::NotKept));
/// assert!("finished".parse::<StateFilter>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StateFilter {
    /// `running`: claimed, and the lease has not lapsed.
    Running,
    /// `lapsed`: claimed, and the lease has lapsed.
    Lapsed,
    /// `failed`: the last run ended in an error, and another may follow.
    Failed,
    /// `abandoned`: the last run ended without an outcome.
    Abandoned,
    /// `suspended`: failed or abandoned, and too early for the next run.
    Suspended,
    /// `ok`: finished, with a result.
    Ok,
    /// `error`: finished, with an error that is kept.
    Error,
    /// `not-kept`: finished, with a result that could not be kept.
    NotKept,
    /// `exhausted`: run as often as the operation allows.
    Exhausted,
    /// `dead`: a message that was given up.
    Dead,
}

impl StateFilter {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Running,
        Self::Lapsed,
        Self::Failed,
        Self::Abandoned,
        Self::Suspended,
        Self::Ok,
        Self::Error,
        Self::NotKept,
        Self::Exhausted,
        Self::Dead,
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Lapsed => "lapsed",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
            Self::Suspended => "suspended",
            Self::Ok => "ok",
            Self::Error => "error",
            Self::NotKept => "not-kept",
            Self::Exhausted => "exhausted",
            Self::Dead => "dead",
        }
    }

    fn lets_pass(self, record: &Record) -> bool {
        match self {
            Self::Suspended => record.not_before.is_some() && matches!(record.state, State::Failed | State::Abandoned),
            _ => record.state.as_str() == self.as_str(),
        }
    }
}

impl FromStr for StateFilter {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == word).ok_or(UnknownState { _private: () })
    }
}

/// A word that names no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownState {
    _private: (),
}

impl fmt::Display for UnknownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = StateFilter::ALL.map(StateFilter::as_str).join(", ");
        write!(f, "the word names no state: expected one of {words}")
    }
}

impl std::error::Error for UnknownState {}
