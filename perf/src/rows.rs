//! The rows: their names, what was wanted of them, and how they are printed.

use std::fmt::Write as _;

/// A measured value.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    unit: &'static str,
    value: f64,
    /// What a reader has to know of how it was measured.
    note: String,
}

/// The rows that are asked for, as they are measured.
pub(crate) struct Rows {
    asked: Vec<String>,
    json: bool,
    rows: Vec<Row>,
}

/// How the names of the plot's rows begin, which are measured only if they are asked for.
const STAGE: &str = "stage_";
/// How the names of a cluster's rows begin.
pub(crate) const OF_A_CLUSTER: &[&str] = &[
    "transfer",
    "routing_cpu",
    "moves_",
    "agent_",
    "takeover_",
    "planned_move_",
    "keepalived_haproxy_",
    "core_cpu_",
    "core_requests_per_s_",
    "core_p50_",
    "core_p99_",
    "core_cycles_",
    "core_pause_",
    "balance",
];
/// How the names of rows begin that need no port of DPDK, and the words for them.
pub(crate) const WITHOUT_PORTS: &[&str] =
    &["control", "takeover", "planned_move", "keepalived", "cold_node", "warm_backup", "crt_attach"];
/// Rows that are asked for by one word, by how their names begin.
const BY_WORD: &[(&str, &[&str])] = &[
    ("transfer", &["transfer", "routing_cpu", "moves_", "agent_"]),
    ("core", &["core_", "path_syn_ns", "path_v4_1k_ns"]),
    (
        "takeover",
        &["takeover_", "planned_move_", "cold_node_", "crt_attach_", "warm_backup_", "keepalived_haproxy_"],
    ),
];

impl Rows {
    /// Those whose name contains one of `asked`; all but the stages of the path, if there is none.
    pub(crate) fn new(asked: Vec<String>, json: bool) -> Self {
        Self { asked, json, rows: Vec::new() }
    }

    /// Whether any of these rows is asked for.
    pub(crate) fn wants(&self, names: &[&str]) -> bool {
        (self.asked.is_empty() && !names.iter().all(|name| name.starts_with(STAGE)))
            || names.iter().any(|name| self.asked.iter().any(|part| is_meant(name, part)))
    }

    /// Nothing but rows whose names begin with one of these is asked for.
    pub(crate) fn are_all_of(&self, prefixes: &[&str]) -> bool {
        let is_one = |part: &String| prefixes.iter().any(|prefix| part.starts_with(prefix));
        !self.asked.is_empty() && self.asked.iter().all(is_one)
    }

    /// Adds a row, if it is asked for. A difference of costs below zero is none that could be measured: it becomes 0, with a word.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, value: f64, note: impl Into<String>) {
        if !self.wants(&[name]) {
            return;
        }
        let (mut value, mut note) = (value, note.into());
        if value < 0.0 {
            value = 0.0;
            note = format!("below the noise; {note}");
        }
        let row = Row { name: name.to_owned(), unit, value, note };
        if self.json {
            println!("{}", json(&row));
        } else {
            eprintln!("measured {name}");
        }
        self.rows.push(row);
    }

    /// A row's value, if it was measured.
    #[cfg(feature = "plot")]
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name).map(|row| row.value)
    }

    /// All rows, as `--json` prints them.
    #[cfg(feature = "plot")]
    pub(crate) fn json_lines(&self) -> String {
        self.rows.iter().map(|row| json(row) + "\n").collect()
    }

    /// Prints the table, unless the rows were printed as they came.
    pub(crate) fn finish(self) {
        if !self.json {
            print!("{}", table(&self.rows));
        }
    }
}

fn is_meant(name: &str, part: &str) -> bool {
    let is_one = |(_, prefixes): &&(&str, &[&str])| prefixes.iter().any(|prefix| name.starts_with(prefix));
    name.contains(part) || BY_WORD.iter().filter(|(word, _)| *word == part).any(|group| is_one(&group))
}

/// A goal: `row` is at most `factor` times `of`, or at least.
struct Goal {
    row: &'static str,
    of: &'static str,
    most: bool,
    factor: f64,
}

const fn at_most(row: &'static str, factor: f64, of: &'static str) -> Goal {
    Goal { row, of, most: true, factor }
}

const fn at_least(row: &'static str, factor: f64) -> Goal {
    Goal { row, of: "", most: false, factor }
}

/// What the project wants of its rows.
const GOALS: &[Goal] = &[
    at_most("crt_lookup_v4_1m_ns", 1.5, "limit_line_1m_ns"),
    at_most("crt_lookup_v4_10m_ns", 1.5, "limit_line_10m_ns"),
    at_most("crt_miss_v4_1m_ns", 1.5, "limit_line_1m_ns"),
    at_most("crt_miss_v4_10m_ns", 1.5, "limit_line_10m_ns"),
    at_most("crt_lookup_v6_1m_ns", 2.0, "limit_line_v6_1m_ns"),
    at_most("crt_lookup_v4_10k_ns", 0.5, "rte_hash_lookup_10k_ns"),
    at_most("crt_lookup_v4_1m_ns", 0.5, "rte_hash_lookup_1m_ns"),
    at_most("crt_lookup_v4_10m_ns", 0.5, "rte_hash_lookup_10m_ns"),
    at_most("crt_insert_10m_ns", 0.333, "rte_hash_insert_10m_ns"),
    at_most("crt_remove_10m_ns", 0.333, "rte_hash_insert_10m_ns"),
    at_most("crt_bytes_per_connection", 32.0, ""),
    at_most("crt_bytes_per_connection_v6", 64.0, ""),
    at_most("crt_lookup_beside_writer_ratio", 1.1, ""),
    at_most("crt_insert_beside_reader_ratio", 1.1, ""),
    at_most("crt_age_ratio", 1.02, ""),
    at_most("crt_age_10m_percent", 5.0, ""),
    at_most("crt_attach_10m_ms", 100.0, ""),
    at_most("path_v4_1k_ns", 3.5, "testpmd_io_ns"),
    at_most("path_v4_100k_ns", 3.5, "testpmd_io_ns"),
    at_most("path_v4_1m_ns", 4.5, "testpmd_io_ns"),
    at_most("path_v4_10m_ns", 5.0, "testpmd_io_ns"),
    at_most("path_v6_1m_ns", 1.25, "path_v4_1m_ns"),
    at_most("path_gue_1m_ns", 1.25, "path_v4_1m_ns"),
    at_most("path_udp_1m_ns", 1.25, "path_v4_1m_ns"),
    at_most("path_vlan_1m_ns", 1.1, "path_v4_1m_ns"),
    at_most("path_syn_ns", 200.0, ""),
    at_most("path_syn_full_ns", 2.0, "path_syn_ns"),
    at_most("path_udp_full_ns", 2.0, "path_syn_ns"),
    at_most("path_orphan_ns", 2.0, "path_syn_ns"),
    at_most("path_allocs_per_packet", 0.0, ""),
    at_least("scaling_2_workers", 1.9),
    at_most("core_syn_ns", 1.5, "path_syn_ns"),
    at_most("core_request_ns", 700.0, ""),
    at_most("core_request_10k_hosts_ns", 1.3, "core_request_ns"),
    at_most("core_cpu_1k_ratio_haproxy", 0.333, ""),
    at_most("core_cpu_100k_ratio_haproxy", 0.2, ""),
    at_most("core_cpu_10m_ratio_haproxy", 0.1, ""),
    at_most("core_cycles_1k_ratio_haproxy", 0.1, ""),
    at_most("core_cycles_100k_ratio_haproxy", 0.02, ""),
    at_most("core_cycles_10m_ratio_haproxy", 0.01, ""),
    at_least("core_requests_per_s_ratio_haproxy", 1.5),
    at_most("core_p50_ratio_haproxy", 1.0, ""),
    at_most("core_p99_ratio_haproxy", 1.0, ""),
    at_most("core_pause_p50_ratio", 1.2, ""),
    at_most("balance_power_of_two_p99_ratio_haproxy", 1.0, ""),
    at_most("balance_power_of_two_p99_ratio_round_robin", 0.5, ""),
    at_least("control_newconn_per_s", 200_000.0),
    at_most("control_newconn_services", 0.0, ""),
    at_most("control_reload_services", 1.0, ""),
    at_most("control_listen_services", 1.0, ""),
    at_most("control_look_share", 0.01, ""),
    at_most("control_account_1m_s", 1.0, ""),
    at_most("control_heartbeat_gap_ratio", 1.0, ""),
    at_most("cold_node_1m_s", 3.0, ""),
    at_most("cold_node_agent_turn_ratio", 1.0, ""),
    at_most("takeover_outage_p99_ms", 1000.0, ""),
    at_most("takeover_outage_p99_ms", 1.0, "keepalived_haproxy_outage_p99_ms"),
    at_most("takeover_resets", 0.0, ""),
    at_most("takeover_fast_outage_p99_ms", 1.0, "keepalived_haproxy_fast_outage_p99_ms"),
    at_most("takeover_fast_resets", 0.0, ""),
    at_most("planned_move_lost_requests", 0.0, ""),
    at_most("transfer_pause_p50_ratio", 2.0, ""),
    at_most("transfer_pause_p99_ratio", 5.0, ""),
    at_least("transfer_repair_rate_ratio", 0.5),
    at_least("moves_repair_per_s", 10_000.0),
    at_most("agent_longest_turn_ms", 10.0, ""),
    at_most("agent_1m_start_ms", 10.0, ""),
    at_most("agent_1m_rest_ms", 10.0, ""),
    at_most("agent_1m_drain_ms", 10.0, ""),
    at_most("agent_1m_end_ms", 10.0, ""),
    at_least("transfer_inject_rate_ratio", 1.0),
    at_least("moves_inject_per_s", 20_000.0),
    at_most("routing_cpu_100k_ratio_haproxy", 0.5, ""),
    at_most("routing_cpu_100k_ratio_nginx", 0.5, ""),
    at_most("routing_cpu_10m_ratio_haproxy", 0.1, ""),
    at_most("routing_cpu_10m_ratio_nginx", 0.1, ""),
];

/// One JSON object a line.
fn json(row: &Row) -> String {
    format!(r#"{{"name": "{}", "unit": "{}", "value": {:.4}}}"#, row.name, row.unit, row.value)
}

/// The table for people, with what is known of each goal.
fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let value = |name: &str| rows.iter().find(|row| row.name == name).map(|row| row.value);
    for row in rows {
        let _ = write!(text, "{:<31}{:>10.2} {:<6}", row.name, row.value, row.unit);
        for goal in GOALS.iter().filter(|goal| goal.row == row.name) {
            let sign = if goal.most { "≤" } else { "≥" };
            let of = if goal.of.is_empty() { String::new() } else { format!(" × {}", goal.of) };
            let Some(reference) = (if goal.of.is_empty() { Some(1.0) } else { value(goal.of) }) else {
                let _ = write!(text, "  (wanted {sign} {}{of}, which was not measured)", goal.factor);
                continue;
            };
            let ratio = row.value / reference;
            let held = if goal.most { ratio <= goal.factor } else { ratio >= goal.factor };
            let mark = if held { "held" } else { "MISSED" };
            let _ = write!(text, "  {ratio:.2}{of} (wanted {sign} {}: {mark})", goal.factor);
        }
        if !row.note.is_empty() {
            let _ = write!(text, "  [{}]", row.note);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(measured: &[(&str, f64)]) -> String {
        let mut rows = Rows::new(vec![], false);
        measured.iter().for_each(|(name, value)| rows.add(name, "ns", *value, ""));
        table(&rows.rows)
    }

    #[test]
    fn a_goal_says_whether_it_is_held_and_what_it_could_not_be_compared_with() {
        let held = printed(&[("testpmd_io_ns", 10.0), ("path_v4_1m_ns", 44.0)]);
        assert!(held.contains("4.40 × testpmd_io_ns (wanted ≤ 4.5: held)"), "{held}");
        let alone = printed(&[("path_v4_1m_ns", 44.0)]);
        assert!(alone.contains("(wanted ≤ 4.5 × testpmd_io_ns, which was not measured)"), "{alone}");
    }

    #[test]
    fn a_word_asks_for_the_rows_of_its_group() {
        let rows = Rows::new(vec!["takeover".to_owned()], false);
        for name in ["takeover_resets", "cold_node_1m_s", "crt_attach_10m_ms", "keepalived_haproxy_resets"] {
            assert!(rows.wants(&[name]), "{name}");
        }
        assert!(!rows.wants(&["transfer_pause_p50_ratio", "crt_insert_10m_ns"]));
    }

    #[test]
    fn a_difference_below_zero_is_shown_as_noise() {
        let noise = printed(&[("crt_lookup_v4_10k_ns", -0.3)]);
        assert!(noise.contains(" 0.00 ns") && noise.contains("below the noise"), "{noise}");
    }
}
