//! What a machine can check about the project itself. Each failure says what to do.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines beyond which a file is more than one idea.
const MAX_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All files below the root with one of these extensions, without what git ignores.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root().to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let is_built = [root().join("target"), root().join("fuzz/target")].contains(&path);
            if path.is_dir() && !name.starts_with('.') && !is_built {
                directories.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What `code` quotes name in a line of Markdown.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Name and doc comment of every test in a file.
fn tests_in(source: &str) -> Vec<(String, String)> {
    let (mut tests, mut doc, mut is_test) = (Vec::new(), String::new(), false);
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("///") {
            doc += text;
        } else if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let name = rest.split('(').next().unwrap_or_default().to_owned();
            if is_test {
                tests.push((name, doc.trim().to_owned()));
            }
            (doc, is_test) = (String::new(), false);
        } else if !line.starts_with("#[") {
            doc.clear();
        }
    }
    tests
}

/// Cleaners and searches take such a directory for what a build has made, and pass it over.
#[test]
fn only_builds_make_directories_called_target() {
    let sources = files(&["rs", "c", "h", "py", "toml", "md"]);
    let below =
        |path: &Path| path.strip_prefix(root()).is_ok_and(|path| path.iter().any(|part| part == "target"));
    let hidden: Vec<_> = sources.iter().filter(|path| below(path)).collect();
    assert!(sources.len() > 300 && hidden.is_empty(), "give their directories another name: {hidden:#?}");
}

#[test]
fn every_requirement_row_names_tests_that_name_it() {
    let table = read("docs/requirements.md");
    let mut rows = 0;
    for line in table.lines().filter(|l| l.starts_with("| ") && l.contains("::")) {
        let row = line.split('|').nth(1).map(str::trim).unwrap_or_default();
        rows += 1;
        for test in quoted(line).filter(|q| q.starts_with("e2e::")) {
            let mut parts = test.split("::").skip(1);
            let (module, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let tests = tests_in(&read(format!("tests/e2e/{module}.rs")));
            let doc = tests.iter().find(|(n, _)| n == name).map(|(_, doc)| doc);
            let doc = doc
                .unwrap_or_else(|| panic!("docs/requirements.md: there is no test {test}: name one that is"));
            let names = doc.split(':').next().unwrap_or_default();
            assert!(
                names.split(", ").any(|r| r == row),
                "{test}: begin its doc comment with {row}, as the table says"
            );
        }
    }
    assert!(rows >= 12, "docs/requirements.md has only {rows} rows with tests");
}

#[test]
fn every_end_to_end_test_is_in_the_table_of_its_rows() {
    let table = read("docs/requirements.md");
    let mut missing = Vec::new();
    let modules = fs::read_dir(root().join("tests/e2e")).expect("tests/e2e").flatten().map(|e| e.path());
    for path in modules.filter(|path| path.is_file()) {
        let module = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        for (name, doc) in tests_in(&read(&path)) {
            let full = format!("`e2e::{module}::{name}`");
            for row in doc.split(':').next().unwrap_or_default().split(", ") {
                assert!(
                    row.len() <= 3 && row.starts_with(['W', 'U', 'C', 'T', 'F', 'R', 'S', 'B']),
                    "{full}: begin its doc comment with the requirement rows that it meets, as `W1, F6: …`"
                );
                let line = table.lines().find(|l| l.starts_with(&format!("| {row} |")));
                if !line.is_some_and(|l| l.contains(&full)) {
                    missing.push(format!("{row}: {full}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "docs/requirements.md: add to the rows\n{}", missing.join("\n"));
}

#[test]
fn every_failure_in_the_docs_is_a_test() {
    let page = read("docs/failures.md");
    let sources: String = files(&["rs"]).iter().map(read).collect();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let rows = rows.filter(|line| !line.ends_with("| test |"));
    let mut count = 0;
    for row in rows {
        count += 1;
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let tests: Vec<_> = quoted(last).filter_map(|test| test.rsplit("::").next()).collect();
        let is_known = |test: &&str| sources.contains(&format!("fn {test}("));
        assert!(!tests.is_empty(), "docs/failures.md: name the test of this line in its last column: {row}");
        assert!(tests.iter().all(is_known), "docs/failures.md: one of these tests does not exist: {tests:?}");
    }
    assert!(count > 20, "docs/failures.md has only {count} lines in its tables");
}

#[test]
fn every_reason_has_a_sentence_and_is_in_the_docs() {
    let page = read("docs/counters.md");
    for reason in forwarder::Reason::ALL {
        let (name, sentence) = (reason.name(), reason.sentence());
        assert!(sentence.ends_with('.') && sentence.len() > 20, "{name}: `{sentence}` is no sentence");
        let blame = reason.blame().map_or("", model::Blame::word);
        let line = format!("| `{name}` | {blame} | {sentence} |");
        assert!(page.contains(&line), "docs/counters.md: write the line\n{line}");
    }
}

#[test]
fn every_counter_of_sessions_is_in_the_docs() {
    let page = read("docs/counters.md");
    for tally in transport::Tally::ALL {
        let line = format!(
            "| `{}` | {} | {} |",
            tally.name(),
            tally.blame().map_or("", model::Blame::word),
            tally.sentence()
        );
        assert!(page.contains(&line), "docs/counters.md: write the line\n{line}");
    }
}

#[test]
fn every_command_in_the_readme_exists() {
    let readme = read("README.md");
    let blocks: String = readme.split("```sh\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert!(
        blocks.starts_with("scripts/demo\nscripts/test\n"),
        "README.md: the first two commands are demo and test"
    );
    for line in blocks.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["baton", rest @ ..] => {
                let command: Vec<&str> = rest.iter().copied().take_while(|w| is_subcommand(w)).collect();
                let known =
                    (1..=command.len()).rev().any(|n| helps(env!("CARGO_BIN_EXE_baton"), &command[..n]));
                assert!(known, "README.md: `{line}`: there is no such command");
            }
            ["baton-agent", ..] => assert!(helps(env!("CARGO_BIN_EXE_baton-agent"), &[])),
            ["batond", ..] => {
                assert!(cfg!(not(feature = "dpdk")) || root().join("src/bin/batond/main.rs").exists())
            }
            [script, ..] => {
                let path = root().join(script);
                let mode =
                    fs::metadata(&path).map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()));
                assert!(
                    mode.is_ok_and(|m| m & 0o111 != 0),
                    "README.md: {script} is not there, or is not executable"
                );
            }
            [] => {}
        }
    }
}

fn is_subcommand(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_lowercase())
}

fn helps(program: &str, words: &[&str]) -> bool {
    let output = std::process::Command::new(program).args(words).arg("--help").output();
    output.is_ok_and(|o| o.status.success())
}

#[test]
fn the_readme_is_a_page() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 80, "README.md: {lines} lines: what is more belongs to a page of docs/");
}

#[test]
fn every_directory_is_in_the_readme() {
    let readme = read("README.md");
    for entry in fs::read_dir(root()).expect("the root").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') && name != "target" {
            assert!(
                readme.contains(&format!("`{name}/`")),
                "README.md: say in the directory index what {name}/ is"
            );
        }
    }
}

#[test]
fn every_file_is_one_idea() {
    for path in files(&["rs", "c", "h", "sh"]) {
        let lines = read(&path).lines().count();
        assert!(lines <= MAX_LINES, "{}: {lines} lines: split it by what it decides", path.display());
    }
}

#[test]
fn nothing_is_a_stub() {
    // Put together here, so that this file does not contain them.
    let marks = [["to", "do!("], ["unimplem", "ented!("], ["FIX", "ME"], ["TO", "DO"], ["XX", "X"]]
        .map(|m| m.concat());
    for path in files(&["rs", "c", "h", "sh", "toml", "md"]) {
        for (number, line) in read(&path).lines().enumerate() {
            if let Some(mark) = marks.iter().find(|m| line.contains(*m)) {
                panic!("{}:{}: `{mark}`: finish it, or leave it out", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn every_package_script_line_is_one_package() {
    for line in read("scripts/packages").lines().filter(|l| !l.starts_with('#')) {
        let good = line.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        assert!(good, "scripts/packages: `{line}`: one Debian package a line");
    }
}
