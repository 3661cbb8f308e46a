//! Right forms compile, and of each mistake the compiler says what it is, where, and how to fix it.
//! `TRYBUILD=overwrite` rewrites the expected messages.

#[test]
fn right_forms_compile_and_mistakes_are_explained() {
    let cases = trybuild::TestCases::new();
    cases.pass("cases/pass/*.rs");
    cases.compile_fail("cases/fail/*.rs");
}
