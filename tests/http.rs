//! The HTTP layer over real sockets, line by line of the checklists: `a…` the draft "The Idempotency-Key HTTP Header Field",
//! `b…` Stripe's API. Each handler counts its runs.

#[path = "http/support.rs"]
mod support;

#[path = "http/attacks.rs"]
mod attacks;
#[path = "http/axum.rs"]
mod axum_niceties;
#[path = "http/bodies.rs"]
mod bodies;
#[path = "http/company.rs"]
mod company;
#[path = "http/endings.rs"]
mod endings;
#[path = "http/keys.rs"]
mod keys;
#[path = "http/load.rs"]
mod load;
#[path = "http/requests.rs"]
mod requests;
#[path = "http/stripe.rs"]
mod stripe;
