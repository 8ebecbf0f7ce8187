//! *Reply*: the one place where a call is answered, and where its answer is told.

use bytes::Bytes;

use super::{
    disposition::Disposition,
    events::{self, About},
    scope::{Scope, TransactionEnd},
};
use crate::{error::Error, store::Outcome};

/// The answer of a call.
pub(super) enum Answer {
    /// By the output of its own body.
    Own(Disposition),
    /// By the output of its own body, whose event was told already.
    Told,
    /// By the output of its own body, which did not run: it was refused for this reason.
    Refused(Error),
    /// By the outcome of another run.
    Other(Outcome, Disposition),
}

/// An answer that was told to the operator, and not yet to whoever awaits the call.
pub(super) struct Reply<R> {
    result: Result<R, Error>,
    disposition: Option<Disposition>,
}

impl<R> Reply<R> {
    /// Answers a call: with `own`, the output of its body, or with the outcome of another run, decoded.
    pub(super) fn new(
        about: About<'_>,
        answer: Result<Answer, Error>,
        own: Option<R>,
        decode: impl FnOnce(Outcome) -> Result<R, Error>,
    ) -> Self {
        #[cfg(feature = "testing")]
        let told = crate::testing::probe::Told { about, ran: own.is_some() };
        let (result, disposition) = match answer {
            // A call is answered by its own body only after that body has ended, so that there is an output.
            Ok(Answer::Own(disposition)) => (own.ok_or(Error::ClaimLost), Some(disposition)),
            Ok(Answer::Told) => return Self { result: own.ok_or(Error::ClaimLost), disposition: None },
            Ok(Answer::Refused(reason)) => {
                events::refused(about, &reason);
                #[cfg(feature = "testing")]
                told.refused(reason.code());
                return Self { result: own.ok_or(Error::ClaimLost), disposition: Some(Disposition::Refused) };
            }
            Ok(Answer::Other(outcome, disposition)) => (decode(outcome), Some(disposition)),
            Err(error) => (Err(error), None),
        };
        match (&result, disposition) {
            (Err(error), _) => {
                if matches!(error, Error::Store(fault) if fault.is_retryable()) {
                    Scope::note_transaction(TransactionEnd::TryAgain);
                }
                events::refused(about, error);
                #[cfg(feature = "testing")]
                told.refused(error.code());
                Self { result, disposition: Some(Disposition::Refused) }
            }
            (Ok(_), Some(answered)) => {
                events::answered(about, answered);
                #[cfg(feature = "testing")]
                told.answered(answered);
                Self { result, disposition }
            }
            (Ok(_), None) => Self { result, disposition },
        }
    }

    /// Tells [`with_disposition`](crate::with_disposition) around the caller, and gives the result up.
    pub(super) fn give(self) -> Result<R, Error> {
        if let Some(disposition) = self.disposition {
            Scope::note(disposition);
        }
        self.result
    }
}

/// Decodes the outcome of another run.
pub(super) fn decode<R>(
    outcome: Outcome,
    ok: impl FnOnce(&Bytes) -> Result<R, Error>,
    err: impl FnOnce(&Bytes) -> Result<R, Error>,
) -> Result<R, Error> {
    match outcome {
        Outcome::Ok(bytes) => ok(&bytes),
        Outcome::Err(bytes) => err(&bytes),
        Outcome::NotKept(why) => Err(Error::ResultNotKept(why)),
        // A message is worked off by its inbox, which reads its own outcomes.
        Outcome::Exhausted | Outcome::Dead => Err(Error::Exhausted),
    }
}
