//! The rows of a cluster, in a size that shows that they can be measured and says nothing of how fast anything is.

use std::process::Command;

/// Measures what is asked for, and expects these rows.
fn measured(asked: &[&str], expected: &[String]) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_baton-perf")).args(["--json", "--tiny"]).args(asked).output();
    let output = output.expect("it runs");
    let (said, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let row = |line: &str| line.split('"').nth(3).map(str::to_owned);
    let rows: Vec<_> = said.lines().filter_map(row).collect();
    assert_eq!(rows, expected, "{said}{problem}");
    let value =
        |line: &str| line.trim_end_matches('}').rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
    // In so small a run a program may not use more than it does at rest.
    let measured = |line: &str| value(line).is_some_and(|value| value.is_finite() && value >= 0.0);
    assert!(said.lines().all(measured), "{said}{problem}");
}

#[test]
#[ignore = "needs root"]
fn every_row_of_a_cluster_can_be_measured() {
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
        "agent_1m_known_s",
        "agent_1m_start_ms",
        "agent_1m_rest_ms",
        "agent_1m_drain_ms",
        "agent_1m_mib",
        "agent_1m_end_ms",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(proxied.into_iter().flatten())
    .collect();
    measured(&["transfer"], &expected);
}

#[test]
#[ignore = "needs root"]
fn every_row_of_first_requests_in_a_cluster_can_be_measured() {
    let of_sizes = ["1k", "100k", "10m"].map(|size| {
        let cpu = ["haproxy", "nginx"].map(|proxy| format!("core_cpu_{size}_ratio_{proxy}"));
        cpu.into_iter().chain([format!("core_cycles_{size}_ratio_haproxy")])
    });
    let seen = ["core_requests_per_s_ratio_haproxy", "core_p50_ratio_haproxy", "core_p99_ratio_haproxy"];
    let seen = seen.into_iter().chain(["core_pause_p50_ratio"]).map(str::to_owned);
    let expected: Vec<_> = of_sizes.into_iter().flatten().chain(seen).collect();
    measured(
        &["core_cpu_", "core_cycles_", "core_requests_per_s_", "core_p50_", "core_p99_", "core_pause_"],
        &expected,
    );
}

#[test]
#[ignore = "needs root"]
fn every_row_of_methods_beside_haproxy_can_be_measured() {
    let methods = ["round_robin", "least_connections", "power_of_two", "haproxy_random2"];
    let of = |method: &str, other: &str| {
        ["p50", "p99"].map(|part| format!("balance_{method}_{part}_ratio_{other}"))
    };
    let beside_haproxy = methods.iter().flat_map(|method| of(method, "haproxy"));
    let expected: Vec<_> = beside_haproxy.chain(of("power_of_two", "round_robin")).collect();
    measured(&["balance"], &expected);
}
