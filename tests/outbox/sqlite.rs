//! In a SQLite file.

#[path = "both/publishing.rs"]
mod publishing;
#[path = "both/relaying.rs"]
mod relaying;
#[path = "both/storm.rs"]
mod storm;
mod support;
