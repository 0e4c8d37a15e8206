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
    let installed = build::install(directory.path());
    for (compiler, standard) in [("gcc", "-std=c11"), ("g++", "-std=c++17")] {
        let program = directory.path().join(compiler);
        let language = if compiler == "g++" { "c++" } else { "c" };
        installed.compile(compiler, &[standard, "-x", language], &source, &program);
    }
    let c99 = directory.path().join("c99");
    installed.compile("gcc", &["-std=c99"], &build::root().join("app/c/tests/programs/calls.c"), &c99);
}

/// Bad arguments are refused with a text, and nothing is touched.
#[test]
fn bad_arguments_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let installed = build::install(directory.path());
    let program = directory.path().join("calls");
    installed.compile("gcc", &["-std=c99"], &build::root().join("app/c/tests/programs/calls.c"), &program);
    let output = build::command(&program).output().expect("runs");
    assert!(output.status.success(), "{}", build::said(&output));
}

/// What a packager relies on: a SONAME, relative links that hold below any DESTDIR, paths that are those of the installed system.
#[test]
fn the_installed_tree_is_one_that_a_package_can_be_made_of() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = Command::new("make")
        .args(["-C", "app/c", "install", "PREFIX=/usr", "LIBDIR=/usr/lib/here"])
        .arg(format!("BUILT={}", build::libraries().display()))
        .arg(format!("DESTDIR={}", directory.path().display()))
        .current_dir(build::root())
        .output()
        .expect("make runs");
    assert!(output.status.success(), "{}", build::said(&output));
    let libraries = directory.path().join("usr/lib/here");
    assert!(directory.path().join("usr/include/baton.h").is_file());
    assert!(libraries.join("libbaton_c.a").is_file());
    let version = env!("CARGO_PKG_VERSION");
    let (minor, _) = version.rsplit_once('.').expect("a version");
    let library = libraries.join(format!("libbaton_c.so.{version}"));
    let output = Command::new("objdump").arg("-p").arg(library).output().expect("objdump (binutils) runs");
    let soname = format!("libbaton_c.so.{minor}");
    assert!(build::said(&output).lines().any(|l| l.trim().starts_with("SONAME") && l.ends_with(&soname)));
    let points_to = |link: &str| fs::read_link(libraries.join(link)).expect("a link");
    assert_eq!(points_to("libbaton_c.so").as_os_str(), soname.as_str());
    assert_eq!(points_to(&soname).as_os_str(), format!("libbaton_c.so.{version}").as_str());
    let package = fs::read_to_string(libraries.join("pkgconfig/baton.pc")).expect("baton.pc");
    assert!(package.contains("prefix=/usr\nlibdir=/usr/lib/here\nincludedir=/usr/include\n"), "{package}");
    assert!(package.contains(&format!("Version: {version}\n")) && !package.contains('@'), "{package}");
}

/// A program that has the library in itself needs no other file.
#[test]
fn a_program_may_be_linked_with_the_static_library() {
    let directory = tempfile::tempdir().expect("a directory");
    let installed = build::install(directory.path());
    let found = installed.flags(&["--static", "--cflags", "--libs"]);
    let archive = installed.libraries.join("libbaton_c.a").display().to_string();
    let found: Vec<&str> =
        found.iter().map(|flag| if flag == "-lbaton_c" { archive.as_str() } else { flag.as_str() }).collect();
    let (source, program) =
        (build::root().join("app/c/tests/programs/calls.c"), directory.path().join("calls"));
    build::link("gcc", &["-std=c99"], &source, &program, &found);
    fs::remove_dir_all(&installed.libraries).expect("removed");
    let output = build::command(&program).output().expect("runs");
    assert!(output.status.success(), "{}", build::said(&output));
}
