//! Brokers on servers, as producers have them. The consumers' side is in the library of the examples.

mod rabbitmq;
mod redis_streams;

pub(crate) use self::{
    rabbitmq::Rabbitmq,
    redis_streams::{GROUP, Redis},
};

/// A message on its way to the broker.
pub(crate) struct Outbound<'a> {
    /// The name of its queue, or of its stream.
    pub(crate) topic: &'a str,
    /// Its id: each sending has it.
    pub(crate) id: &'a str,
    pub(crate) payload: &'a [u8],
}
