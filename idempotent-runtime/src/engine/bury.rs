//! A run whose message is a dead letter: record and letter are written in one step, where the store keeps letters.

use std::{sync::Arc, time::Duration};

use super::{claim::Claim, record::share, reply::Answer, retry::Pauses, single_flight::Leadership};
use crate::{
    error::Error,
    store::{DeadLetter, StoreErrorKind, Token, Transition},
};

/// Ends the run as dead. The answer is `own` only if that is on record: until then the message must not be rejected.
pub(super) async fn bury(
    claim: &Arc<Claim>,
    token: Token,
    letter: DeadLetter,
    keep: Duration,
    leadership: Leadership,
    own: Answer,
) -> Result<Answer, Error> {
    let context = &claim.context;
    let outcome = letter.outcome();
    let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        let buried = match context.store().dead_letters() {
            Some(letters) => letters.bury(&context.key, &token, &letter, context.ttl).await,
            // The broker keeps the letter. Its record refuses the message until the broker must have heard of that, and no longer:
            // an operator may send the message again.
            None => context.store().complete(&context.key, &token, &outcome, keep).await,
        };
        match buried {
            Ok(Transition::Applied) => {
                share(leadership, outcome);
                return Ok(own);
            }
            Ok(Transition::Lost) => {
                claim.tell_lost();
                return Err(Error::ClaimLost);
            }
            Err(error) => {
                let hopeless = matches!(error.kind(), StoreErrorKind::Corrupt | StoreErrorKind::Refused);
                if hopeless || !pauses.sleep_before(claim.until()).await {
                    return Err(error.into());
                }
            }
        }
    }
}
