//! What docs/applications.md says to programs in Rust.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The block of the page in this language.
fn block(language: &str) -> String {
    let page = read("../docs/applications.md");
    let text = page.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
    text.unwrap_or_else(|| panic!("docs/applications.md has nothing in {language}")).to_owned()
}

#[test]
fn the_program_of_the_page_is_one_that_compiles() {
    assert_eq!(block("rust"), read("examples/balance.rs"), "docs/applications.md: app/examples/balance.rs");
}

#[test]
fn the_dependency_of_the_page_is_this_package() {
    let (said, package) = (block("toml"), read("Cargo.toml"));
    assert!(said.starts_with("[dependencies]\nbaton-app = { path = "), "{said}");
    assert!(package.contains("\nname = \"baton-app\"\n"), "{package}");
    let features = said.split("features = [\"").nth(1).and_then(|rest| rest.split('"').next());
    let feature = features.expect("it names a feature");
    assert!(package.contains(&format!("\n{feature} = [")), "{package}");
    let path = said.split("path = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a path");
    assert!(path.ends_with("/app"), "{path}: the package is in app/");
}
