//! The README shows the examples as they are.

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_shows_the_program_that_embeds_the_core() {
    assert!(
        README.contains(include_str!("../src/bin/embed.rs")),
        "README.md differs from examples/src/bin/embed.rs"
    );
}
