//! Many callers, few keys, and everything that can go wrong: every promise is checked from what was recorded.
//!
//! `CHAOS_SECONDS` makes the runs longer than their twenty seconds, `CHAOS_SEED` repeats one: exactly as to what is done
//! and when, as far as processes and threads allow as to what comes of it. `CHAOS_DIR` keeps the histories.

mod redis;
mod regressions;
mod simulation;

use idempotent_tests::chaos::history::Event;

/// The length of a run, in seconds of its own clock.
fn seconds() -> u64 {
    std::env::var("CHAOS_SECONDS").map_or(20, |seconds| seconds.parse().expect("seconds"))
}

/// The seed of a run, printed for its repetition.
fn seed(run: &str) -> u64 {
    let seed = std::env::var("CHAOS_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a seed"));
    println!("{run}: CHAOS_SEED={seed}");
    seed
}

/// Keeps a history, if there is somewhere to.
fn keep(run: &str, events: &[Event]) {
    if let Ok(folder) = std::env::var("CHAOS_DIR") {
        let lines: Vec<_> = events.iter().map(|event| serde_json::to_string(event).expect("JSON")).collect();
        std::fs::write(std::path::Path::new(&folder).join(run), lines.join("\n")).expect("the history can be kept");
    }
}
