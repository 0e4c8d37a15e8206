//! What Prometheus makes of the metrics.

use std::collections::BTreeSet;
use std::path::Path;

use lab::{Lab, Spec, client};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{SOON, connect, dvipa4, lab, web4};

/// The dashboard's variables, as Grafana fills them in.
const VARIABLES: [(&str, &str); 2] = [("$__rate_interval", "30s"), ("$instance", ".+")];

fn packaging(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All strings under a key, wherever it is.
fn all_under<'v>(key: &str, value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str));
            fields.values().for_each(|field| all_under(key, field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| all_under(key, item, found)),
        _ => {}
    }
}

/// The metrics that an expression names.
fn metrics_of(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("baton_") && !word.ends_with('_')).collect()
}

/// What Prometheus answers.
fn prometheus(lab: &Lab, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
    let url = format!("http://127.0.0.1:9090/api/v1/{path}");
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let data = pairs.iter().flat_map(|pair| ["--data-urlencode", pair]);
    let words: Vec<&str> = ["curl", "-sfG", &url].into_iter().chain(data).collect();
    let text = lab.host("rt1").run(&words).map_err(|e| e.to_string())?;
    let answer: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
    Ok(answer["data"].clone())
}

/// B5: Prometheus reads batond's and the agents' metrics; the alert rules and the dashboard load and name no metric that is not
/// there, and who asks how many connections a service has at a target is told; a service without a target raises its alert.
#[test]
#[ignore = "needs root"]
fn prometheus_reads_all_that_its_rules_and_dashboard_name() {
    let lab = lab(Spec { targets: 2, ..Spec::default() }.web(["t1", "t2"].map(lab::Web::wildcard)));
    for (target, address) in [("t1", "198.18.0.21:9441"), ("t2", "198.18.0.22:9441")] {
        let file = lab.files().join(format!("{target}.toml"));
        let text = std::fs::read_to_string(&file).expect("its file");
        let text = text.replace("[admin]\n", &format!("[admin]\nmetrics = \"{address}\"\n"));
        std::fs::write(&file, text).expect("another one");
        lab.stop(&format!("agent-{target}"), Signal::SIGTERM).expect("it ends");
        lab.start_agent(target).expect("it starts");
        lab.wait_for_session(target, "up").expect("it is back");
    }
    lab.wait_for_targets(80, &["t1", "t2"]).expect("both listen");
    let config = packaging("prometheus/prometheus.yml")
        .replace("192.0.2.10:9440\", \"192.0.2.11:9440", "127.0.0.1:9440")
        .replace("192.0.2.21:9441\", \"192.0.2.22:9441", "198.18.0.21:9441\", \"198.18.0.22:9441");
    let here = |name: &str| lab.files().join(name);
    std::fs::write(
        here("prometheus.yml"),
        format!("global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n{config}"),
    )
    .expect("a file");
    std::fs::write(here("alerts.yml"), packaging("prometheus/alerts.yml")).expect("a file");
    let file = here("prometheus.yml").display().to_string();
    lab.host("rt1").run(&["promtool", "check", "config", &file]).unwrap_or_else(|e| panic!("{e}"));
    let (config, data) =
        (format!("--config.file={file}"), format!("--storage.tsdb.path={}", here("tsdb").display()));
    lab.start_on("rt1", "prometheus", &["prometheus", &config, &data, "--web.listen-address=127.0.0.1:9090"])
        .expect("it starts");

    // Something to see: connections, a refused one, a transfer, and a drain of what is left.
    let connections: Vec<_> = (0..4).map(|_| connect(&lab, web4())).collect();
    let _ = client::ask(lab.client(), dvipa4(81));
    let answer = lab.baton_json(&["crt", "--stack", "t1"]).expect("connections");
    let moves = answer["connections"][0]["client"].as_str().expect("one at t1").to_owned();
    lab.baton(&["move", &moves, "198.18.9.1:80", "t2"]).expect("it moves");

    let dashboard: Value =
        serde_json::from_str(&packaging("grafana/baton.json")).expect("the dashboard is JSON");
    let mut expressions = Vec::new();
    all_under("expr", &dashboard, &mut expressions);
    let rules = packaging("prometheus/alerts.yml");
    expressions.extend(rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")));
    assert!(expressions.len() > 40, "{expressions:#?}");
    let wanted: BTreeSet<&str> = expressions.iter().flat_map(|expression| metrics_of(expression)).collect();
    lab.wait_for("all metrics that are named", SOON * 3, || {
        let names = prometheus(&lab, "label/__name__/values", &[])?;
        let names: BTreeSet<&str> =
            names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let missing: Vec<_> = wanted.difference(&names).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for expression in expressions {
        let filled =
            VARIABLES.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
        prometheus(&lab, "query", &[("query", &filled)]).unwrap_or_else(|e| panic!("{filled}: {e}"));
    }
    let until = |query: &str, value: &str| {
        lab.wait_for(&format!("{query} to be {value}"), SOON * 3, || {
            let answer = prometheus(&lab, "query", &[("query", query)])?;
            let is_so = answer["result"][0]["value"][1] == value;
            if is_so { Ok(()) } else { Err(answer.to_string()) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    };
    until("sum(baton_service_connections_opened_total{port=\"80\"})", "4");
    until("baton_service_connections{dvipa=\"198.18.9.1\",port=\"80\",stack=\"t2\"}", "3");
    until("sum(baton_service_connections_moved_total{stack=\"t2\"})", "1");
    until("sum(baton_transfer_pause_seconds_count)", "1");
    until("count(up == 1)", "3");
    until("count(ALERTS{alertname=\"BatonServiceWithoutTarget\"}) or vector(0)", "0");
    for target in ["t1", "t2"] {
        lab.kill_all(target, "nginx").expect("it is killed");
    }
    until("baton_service_targets{dvipa=\"198.18.9.1\",port=\"80\"}", "0");
    until("count(ALERTS{alertname=\"BatonServiceWithoutTarget\"})", "2");
    drop(connections);
}
