//! What a caller sees, scenario by scenario, on every store. The numbers are those of the list of scenarios.

#[path = "scenarios/support.rs"]
mod support;

#[path = "scenarios/basics.rs"]
mod basics;
