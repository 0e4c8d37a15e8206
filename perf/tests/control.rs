//! The rows of the control thread, in a size that shows that they can be measured; what they count is the same in every size.

use std::process::Command;

#[test]
fn every_row_of_the_control_thread_can_be_measured_and_counts_only_what_changed() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_baton-perf")).args(["--json", "--tiny", "control"]).output();
    let output = output.expect("it runs");
    let (said, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let name = |line: &str| line.split('"').nth(3).map(str::to_owned).unwrap_or_default();
    let value = |line: &str| {
        let value = line.trim_end_matches('}').rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("{line}\n{problem}"))
    };
    let rows: Vec<(String, f64)> = said.lines().map(|line| (name(line), value(line))).collect();
    let counted = |row: &str| rows.iter().find(|(name, _)| name == row).map(|(_, value)| *value);
    assert_eq!(counted("control_newconn_services"), Some(0.0), "{said}{problem}");
    assert_eq!(counted("control_reload_services"), Some(1.0), "{said}{problem}");
    assert_eq!(counted("control_listen_services"), Some(1.0), "{said}{problem}");
    for row in
        ["newconn_per_s", "reload_one_of_4000_ratio", "account_1m_s", "heartbeat_gap_ratio", "return_s"]
    {
        let value = counted(&format!("control_{row}"));
        assert!(value.is_some_and(|value| value.is_finite() && value > 0.0), "{row}\n{said}{problem}");
    }
}
