//! On PostgreSQL.

mod only;
mod processes;
#[path = "both/publishing.rs"]
mod publishing;
#[path = "both/relaying.rs"]
mod relaying;
#[path = "both/storm.rs"]
mod storm;
mod support;
