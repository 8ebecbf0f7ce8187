//! What compiles, and what the others are told. `TRYBUILD=overwrite` writes the `.stderr` files anew: read them.

/// Apart from the fixtures that compile: only where none is to run does `trybuild` check all of them at once.
#[test]
fn fixtures_with_mistakes_are_told_what_to_change() {
    trybuild::TestCases::new().compile_fail("ui/fail/*/*.rs");
}

#[test]
fn fixtures_without_mistakes_compile_and_run() {
    trybuild::TestCases::new().pass("ui/pass/*.rs");
}
