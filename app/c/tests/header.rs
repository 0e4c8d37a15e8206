//! `baton.h` says what the library has: the same calls, layouts and numbers, in C99 and in C++.

#[allow(dead_code)]
mod build;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use app::Refusal;

fn header() -> String {
    fs::read_to_string(build::root().join("app/c/include/baton.h")).expect("the header")
}

/// The calls that the header declares: `baton_…(` outside of comments.
fn declared() -> BTreeSet<String> {
    let header = header();
    let code: String = header.split("/*").filter_map(|part| part.split("*/").last()).collect();
    let words = code.split(|c: char| c.is_whitespace() || "*,;".contains(c));
    let calls = words.filter_map(|word| word.split_once('(')).map(|(name, _)| name.to_owned());
    calls.filter(|name| name.starts_with("baton_")).collect()
}

#[test]
fn every_call_of_the_header_is_in_the_library_and_the_reverse() {
    let library = build::libraries().join("libbaton_c.so");
    let output =
        Command::new("nm").args(["-D", "--defined-only"]).arg(library).output().expect("nm (binutils) runs");
    let symbols = build::said(&output);
    let exported: BTreeSet<String> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .filter(|symbol| symbol.starts_with("baton_"))
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(exported, declared());
}

#[test]
fn every_refusal_has_its_number_in_the_header() {
    let header = header();
    let refusals = header.split("enum baton_refusal {").nth(1).and_then(|rest| rest.split('}').next());
    let lines: BTreeSet<String> = refusals
        .expect("enum baton_refusal")
        .split(',')
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    let named = |r: &Refusal| format!("BATON_{} = {}", r.name().to_uppercase(), r.number());
    assert_eq!(lines, Refusal::ALL.iter().map(named).collect());
}

#[test]
fn the_structs_are_laid_out_as_the_library_has_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = build::root().join("app/c/tests/programs/layout.c");
    for (compiler, standard) in [("gcc", "-std=c11"), ("g++", "-std=c++17")] {
        let program = directory.path().join(compiler);
        let language = if compiler == "g++" { "c++" } else { "c" };
        build::compile(compiler, &[standard, "-x", language], &source, &program);
    }
    let c99 = directory.path().join("c99");
    build::compile("gcc", &["-std=c99"], &build::root().join("app/c/tests/programs/calls.c"), &c99);
}

/// Bad arguments are refused with a text, and nothing is touched.
#[test]
fn bad_arguments_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("calls");
    build::compile("gcc", &["-std=c99"], &build::root().join("app/c/tests/programs/calls.c"), &program);
    let output = build::command(&program).output().expect("runs");
    assert!(output.status.success(), "{}", build::said(&output));
}
