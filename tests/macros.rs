//! What compiles, and what the others are told. `TRYBUILD=overwrite` writes the `.stderr` files anew: read them.

#[test]
fn fixtures() {
    let fixtures = trybuild::TestCases::new();
    fixtures.pass("ui/pass/*.rs");
    fixtures.compile_fail("ui/fail/*/*.rs");
}
