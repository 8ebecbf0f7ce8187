//! The application's side of a relay: what hands messages to a broker.

use std::{error::Error as StdError, fmt, future::Future};

use super::OutboxMessage;

/// An error of a broker's client.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Hands messages to a broker, and tells what the broker has confirmed.
///
/// ```
/// use idempotent_runtime::outbox::{OutboxMessage, PublishError, Publisher};
///
/// struct Log;
///
/// impl Publisher for Log {
///     async fn publish(&self, batch: &[OutboxMessage]) -> Vec<Result<(), PublishError>> {
///         batch.iter().map(|message| Ok(println!("{} to {}", message.id, message.topic))).collect()
///     }
/// }
/// ```
pub trait Publisher: Send + Sync + 'static {
    /// Hands a batch to the broker. Each message has another key, so that they may go in any order, or all at once.
    ///
    /// Answers for each message, in the order of the batch, once the broker has confirmed it. What has no answer is tried
    /// again; so is a batch whose future panics, or takes longer than the relay's
    /// [time-out](super::Relay::publish_timeout) and is dropped then.
    fn publish(&self, batch: &[OutboxMessage]) -> impl Future<Output = Vec<Result<(), PublishError>>> + Send;
}

/// The reason why a message is not confirmed.
#[derive(Debug)]
pub enum PublishError {
    /// It may go later: the broker is away, full, or did not confirm in time. It is tried again, for ever.
    Retry(BoxError),
    /// It will never go: the broker refuses this very message. It is parked for an operator, with the text of the error.
    Permanent(BoxError),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retry(_) => "the broker did not confirm the message",
            Self::Permanent(_) => "the broker will never take the message",
        })
    }
}

impl StdError for PublishError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let (Self::Retry(error) | Self::Permanent(error)) = self;
        Some(&**error)
    }
}
