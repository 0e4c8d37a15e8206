//! The rows of takeovers, in a size that shows that they can be measured.
#![cfg(feature = "transfer")]

use std::process::Command;

/// The names and values of the rows that these words ask for.
fn measured(words: &[&str]) -> Vec<(String, f64)> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_baton-perf")).args(["--json", "--tiny"]).args(words).output();
    let output = output.expect("it runs");
    let (said, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{problem}");
    eprintln!("{problem}");
    let row = |line: &str| {
        let name = line.split('"').nth(3).map(str::to_owned)?;
        let value = line.trim_end_matches('}').rsplit(' ').next()?.parse().ok()?;
        Some((name, value))
    };
    said.lines().map(|line| row(line).unwrap_or_else(|| panic!("{line}\n{problem}"))).collect()
}

fn of(rows: &[(String, f64)], name: &str) -> f64 {
    let row = rows.iter().find(|(row, _)| row == name);
    row.map(|(_, value)| *value).unwrap_or_else(|| panic!("no {name} in {rows:?}"))
}

#[test]
fn cold_nodes_and_warm_backups_can_be_measured() {
    let rows = measured(&["cold_node", "warm_backup"]);
    for name in ["cold_node_1m_s", "cold_node_agent_turn_ratio", "warm_backup_node_percent"] {
        assert!(of(&rows, name) > 0.0, "{rows:?}");
    }
    assert!(of(&rows, "warm_backup_cpu_ratio") > 0.5, "who tells two does not do less: {rows:?}");
}

#[test]
fn a_table_in_a_file_can_be_attached_to() {
    let rows = measured(&["crt_attach"]);
    assert!(of(&rows, "crt_attach_10m_ms") > 0.0 && of(&rows, "crt_attach_10m_ratio") > 0.0, "{rows:?}");
}

#[test]
#[ignore = "needs root"]
fn no_takeover_and_no_move_resets_a_connection() {
    let times = ["takeover_outage", "takeover_detection", "takeover_first"];
    let rows = measured(&[&times[..], &["takeover_resets", "planned_move"]].concat());
    for name in ["takeover_outage_p99_ms", "takeover_detection_ms", "takeover_first_packet_ms"] {
        assert!(of(&rows, name) > 0.0, "{rows:?}");
    }
    assert_eq!(
        (of(&rows, "takeover_resets"), of(&rows, "planned_move_lost_requests")),
        (0.0, 0.0),
        "{rows:?}"
    );
}

#[test]
#[ignore = "needs root"]
fn keepalived_with_haproxy_can_be_measured_beside() {
    let rows = measured(&["keepalived_haproxy_outage", "keepalived_haproxy_resets"]);
    assert!(of(&rows, "keepalived_haproxy_outage_p99_ms") > 0.0, "{rows:?}");
    assert!(of(&rows, "keepalived_haproxy_resets") > 0.0, "its connections end with it: {rows:?}");
}
