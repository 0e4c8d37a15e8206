//! The rows of a cluster, in a size that shows that they can be measured and says nothing of how fast anything is.

use std::process::Command;

#[test]
#[ignore = "needs root"]
fn every_row_of_a_cluster_can_be_measured() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_baton-perf")).args(["--json", "--tiny", "transfer"]).output();
    let output = output.expect("it runs");
    let (said, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let row = |line: &str| line.split('"').nth(3).map(str::to_owned);
    let rows: Vec<_> = said.lines().filter_map(row).collect();
    let proxied = ["1k", "100k", "10m"]
        .map(|size| ["haproxy", "nginx"].map(|p| format!("routing_cpu_{size}_ratio_{p}")));
    let expected: Vec<_> = [
        "transfer_pause_p50_ratio",
        "transfer_pause_p99_ratio",
        "transfer_repair_rate_ratio",
        "moves_repair_per_s",
        "agent_longest_turn_ms",
        "transfer_inject_rate_ratio",
        "moves_inject_per_s",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(proxied.into_iter().flatten())
    .collect();
    assert_eq!(rows, expected, "{said}{problem}");
    let value =
        |line: &str| line.trim_end_matches('}').rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
    // In so small a run a program may not use more than it does at rest.
    let measured = |line: &str| value(line).is_some_and(|value| value.is_finite() && value >= 0.0);
    assert!(said.lines().all(measured), "{said}{problem}");
}
