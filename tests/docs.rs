//! What a machine can check about the documentation and the set-ups in `examples/setups/`. Each failure says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use forwarder::crt;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What is in a directory, by name.
fn entries(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    let found = fs::read_dir(root().join(directory)).expect("a directory").flatten();
    let mut paths: Vec<_> = found.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// All pages, relative to the root.
fn pages() -> Vec<PathBuf> {
    let (mut pages, mut directories) = (Vec::new(), vec![root().to_path_buf()]);
    while let Some(directory) = directories.pop() {
        for path in entries(&directory) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                directories.push(path);
            } else if name.ends_with(".md") {
                pages.push(path.strip_prefix(root()).expect("it is below").to_path_buf());
            }
        }
    }
    pages
}

/// The lines of a page that are not in blocks of code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        is_code ^= fence;
        !is_code && !fence
    })
}

/// What a line says beside its `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The name by which a heading can be linked to, as on GitHub and in the book.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(page: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in prose(page) {
        if line.starts_with('#') {
            let name = anchor(line.trim_start_matches('#'));
            let times = seen.entry(name.clone()).or_default();
            anchors.insert(if *times == 0 { name } else { format!("{name}-{times}") });
            *times += 1;
        }
        anchors
            .extend(line.split("<a id=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.into())));
    }
    anchors
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

fn links(page: &str) -> Vec<String> {
    let in_line = |line: &str| -> Vec<String> {
        let text = without_code(line);
        text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
    };
    prose(page).flat_map(in_line).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let (mut broken, mut count) = (Vec::new(), 0);
    for page in pages() {
        let text = read(&page);
        for link in links(&text).iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            count += 1;
            let (file, wanted) = link.split_once('#').map_or((link.as_str(), None), |(f, a)| (f, Some(a)));
            let to = match (file, page.parent()) {
                ("", _) | (_, None) => page.clone(),
                (file, Some(directory)) => plain(&directory.join(file)),
            };
            let good = match wanted {
                Some(wanted) if root().join(&to).is_file() => anchors(&read(&to)).contains(wanted),
                _ => root().join(&to).exists(),
            };
            if !good {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
    assert!(count > 200, "only {count} links were found");
}

#[test]
fn every_page_is_in_the_summary_once() {
    let listed = links(&read("docs/SUMMARY.md"));
    let listed: Vec<_> = listed.iter().map(|link| plain(&Path::new("docs").join(link))).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "docs/SUMMARY.md has a page twice");
    let in_book = |page: &&PathBuf| {
        let of_docs = page.parent() == Some(Path::new("docs")) && !page.ends_with("SUMMARY.md");
        of_docs || page.starts_with("examples") || page.starts_with("perf/results")
    };
    let missing: Vec<_> = pages().into_iter().filter(|p| in_book(&p) && !unique.contains(p)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md: say where in the book these are: {missing:#?}");
}

/// The rows of a page's tables that have figures only.
fn rows_of_figures(page: &str) -> BTreeSet<String> {
    let is_figure = |cell: &str| cell.trim().starts_with(|c: char| c.is_ascii_digit());
    let rows =
        page.lines().filter(|line| line.starts_with("| ") && line.split('|').nth(1).is_some_and(is_figure));
    rows.map(str::to_owned).collect()
}

#[test]
fn the_figures_of_sizing_are_those_of_the_code_and_the_results() {
    let sizes = [
        (100_000, 25_000, 65_536, 65_536),
        (1_000_000, 250_000, 262_144, 262_144),
        (4_000_000, 1_000_000, 1_000_000, 262_144),
        (10_000_000, 1_000_000, 1_000_000, 1_000_000),
    ];
    let memory = sizes.map(|(connections_v4, connections_v6, flows, half_open)| {
        let config =
            crt::Config { connections_v4, connections_v6, flows, half_open, ..crt::Config::default() };
        let mib = config.bytes().expect("it is possible").div_ceil(1 << 20);
        format!("| {connections_v4} | {connections_v6} | {flows} | {half_open} | {mib} MiB |")
    });
    let results = read("perf/results/path.jsonl");
    let row = |line: &str| -> (String, f64) {
        let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        (row["name"].as_str().expect("a name").to_owned(), row["value"].as_f64().expect("a value"))
    };
    let results: BTreeMap<String, f64> = results.lines().map(row).collect();
    let packets = [("1k", 1_000), ("100k", 100_000), ("1m", 1_000_000), ("10m", 10_000_000)];
    let packets = packets.map(|(word, connections)| {
        let ns = results[&format!("stage_path_{word}_ns")];
        format!("| {connections} | {ns:.1} | {:.1} |", 1000.0 / ns)
    });
    let wanted: BTreeSet<String> = memory.into_iter().chain(packets).collect();
    // The table of buffers is compared where they are counted.
    let page = read("docs/sizing.md");
    let (before, rest) = page.split_once("## Packet buffers").expect("the section");
    let (_, after) = rest.split_once("\n## ").expect("a section behind it");
    let found = rows_of_figures(&(before.to_owned() + after));
    let say = |rows: Vec<&String>| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let (missing, wrong) = (wanted.difference(&found).collect(), found.difference(&wanted).collect());
    assert!(found == wanted, "docs/sizing.md: write\n{}in the place of\n{}", say(missing), say(wrong));
}

/// The directories of set-ups.
fn setups() -> Vec<PathBuf> {
    entries("examples/setups").into_iter().filter(|path| path.is_dir()).collect()
}

#[test]
fn every_file_of_a_set_up_is_good_and_on_its_page() {
    assert!(setups().len() >= 10, "there are ten set-ups");
    let index = read("examples/setups/README.md");
    for setup in setups() {
        let name = setup.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(index.contains(&format!("({name}/README.md)")), "examples/setups/README.md: list {name}");
        let page = read(setup.join("README.md"));
        for file in entries(&setup).iter().filter(|file| !file.ends_with("README.md")) {
            let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            assert!(page.contains(&format!("]({file})")), "{name}/README.md: say what {file} is");
        }
    }
    let all = setups().into_iter().flat_map(entries).chain(entries("examples/setups"));
    for file in all.filter(|path| path.extension().is_some_and(|e| e == "toml")) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_baton")).args(["check", "--file-only"]).arg(&file).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_set_up_is_run_by_a_test() {
    let tests = read("tests/e2e/setups.rs");
    for setup in setups() {
        let name = setup.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(tests.contains(&format!("follow(&lab, \"{name}\"")), "tests/e2e/setups.rs: run {name}");
    }
}
