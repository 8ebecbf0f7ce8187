//! What a caller sees, scenario by scenario, on every store. The numbers are those of the list of scenarios.

#[path = "scenarios/process.rs"]
mod process;
#[path = "scenarios/support.rs"]
mod support;

#[path = "scenarios/arguments.rs"]
mod arguments;
#[path = "scenarios/basics.rs"]
mod basics;
#[path = "scenarios/changes.rs"]
mod changes;
#[path = "scenarios/endings.rs"]
mod endings;
#[path = "scenarios/identity.rs"]
mod identity;
#[path = "scenarios/mismatch.rs"]
mod mismatch;
#[path = "scenarios/nesting.rs"]
mod nesting;
#[path = "scenarios/races.rs"]
mod races;
#[path = "scenarios/releases.rs"]
mod releases;
#[path = "scenarios/times.rs"]
mod times;
#[path = "scenarios/values.rs"]
mod values;

#[path = "scenarios/probe.rs"]
mod probe;
#[path = "scenarios/trace.rs"]
mod trace;

#[path = "scenarios/blocking.rs"]
mod blocking;
#[path = "scenarios/canary.rs"]
mod canary;
#[path = "scenarios/cancellation.rs"]
mod cancellation;
#[path = "scenarios/faults.rs"]
mod faults;
#[path = "scenarios/late_owners.rs"]
mod late_owners;
#[path = "scenarios/mishaps.rs"]
mod mishaps;
#[path = "scenarios/waiting.rs"]
mod waiting;
