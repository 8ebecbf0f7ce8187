//! What a caller sees, scenario by scenario, on every store. The numbers are those of the list of scenarios.

#[path = "scenarios/support.rs"]
mod support;

#[path = "scenarios/basics.rs"]
mod basics;
#[path = "scenarios/canary.rs"]
mod canary;
#[path = "scenarios/cancellation.rs"]
mod cancellation;
#[path = "scenarios/endings.rs"]
mod endings;
#[path = "scenarios/faults.rs"]
mod faults;
#[path = "scenarios/late_owners.rs"]
mod late_owners;
#[path = "scenarios/probe.rs"]
mod probe;
#[path = "scenarios/trace.rs"]
mod trace;
#[path = "scenarios/waiting.rs"]
mod waiting;
