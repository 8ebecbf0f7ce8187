//! Checks what a caller sees, scenario by scenario, on every store. The numbers are those of `tests/SCENARIOS.md`.

mod process;
mod support;

mod arguments;
mod attempts;
mod basics;
mod endings;
mod held_keys;
mod identity;
mod killed;
mod mismatch;
mod nesting;
mod operators;
mod races;
mod racing_changes;
mod reconcile;
mod releases;
mod steps;
mod times;
mod values;

mod captured_log;
mod test_bodies;

mod abnormal_ends;
mod blocking;
mod cancellation;
mod faults;
mod late_owners;
mod redaction;
mod waiting;
