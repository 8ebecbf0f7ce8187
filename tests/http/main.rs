//! The HTTP layer over real sockets, line by line of the checklists: `a…` the draft "The Idempotency-Key HTTP Header Field",
//! `b…` Stripe's API. Each handler counts its runs.

mod support;

mod attacks;
mod axum_feature;
mod bodies;
mod endings;
mod grpc;
mod keys;
mod load;
mod payloads;
mod requests;
mod stripe;
mod with_other_layers;
