//! The rows of the packet path, in a size that shows that they can be measured and says nothing of how fast anything is:
//! `cargo test -p baton-perf --features dpdk`.
#![cfg(feature = "dpdk")]

use std::process::Command;

/// Rows, what each row's name begins with.
const ROWS: [(usize, &str); 5] =
    [(15, "stage_"), (20, "path_"), (1, "scaling_2_workers"), (1, "core_syn_ns"), (2, "core_request_")];

#[test]
fn every_row_of_the_path_can_be_measured() {
    let names = ROWS.map(|(_, name)| name);
    let output =
        Command::new(env!("CARGO_BIN_EXE_baton-perf")).args(["--json", "--tiny"]).args(names).output();
    let output = output.expect("it runs");
    let (said, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{problem}");
    let name = |line: &str| line.split('"').nth(3).map(str::to_owned).unwrap_or_default();
    for (count, begin) in ROWS {
        let found = said.lines().filter(|line| name(line).starts_with(begin)).count();
        assert_eq!(found, count, "{begin}\n{said}{problem}");
    }
    let value =
        |line: &str| line.trim_end_matches('}').rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
    let no_stage_is_negative =
        said.lines().all(|line| value(line).is_some_and(|v| v.is_finite() && v >= 0.0));
    assert!(no_stage_is_negative, "{said}{problem}");
}
