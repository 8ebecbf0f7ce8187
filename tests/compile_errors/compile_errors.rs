//! Each mistake is told what to change. `TRYBUILD=overwrite` writes the `.stderr` files anew: read them.

#[test]
fn mistakes_are_told_what_to_change() {
    trybuild::TestCases::new().compile_fail("*/*.rs");
}
