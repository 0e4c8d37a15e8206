//! The schemas say what the docs and the programs say: of every key, of good files and of bad ones.

use std::path::{Path, PathBuf};

use ::agent::config::Config as AgentConfig;
use control::config::Config;
use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use lab::Spec;
use lab::spec::RoutingNode;

use super::docs::Row;
use super::*;

const PROGRAMS: [Program; 2] = [Program::Batond, Program::Agent];
const BATOND: &str = include_str!("../../../../control/src/config/tests/good.toml");
const AGENT: &str = r#"
[node]
name = "t1"
cluster_address = ["198.18.0.21", "2001:db8::21"]
interface = ["eth0"]
fabric_mtu = 9000
[cluster]
ca = "pki/ca.pem"
certificate = "pki/t1.pem"
key = "pki/t1.key"
heartbeat_ms = 200
lost_after_ms = 1500
[[routing_stack]]
name = "rt1"
control = "198.18.0.10:7440"
dvipas = ["198.18.9.0/24"]
[admin]
socket = "/run/baton/agent.sock"
metrics = "192.0.2.21:9441"
metrics_socket = "m.sock"
metrics_mode = 0o640
metrics_group = 33
[witness]
directory = "/var/lib/baton"
[applications]
socket = "a.sock"
mode = 0o660
group = 33
users = [0, "root"]
[[application]]
user = "root"
group = 33
role = "target"
dvipa = ["198.18.9.1", "2001:db8:9::/64"]
ports = [80, 443]
job = ["images"]
hold_accepts = true
[bpf]
pin = "/sys/fs/bpf/baton"
cgroup = "/sys/fs/cgroup"
container_mark = 0x4000
[[container]]
port = 8080
address = "172.17.0.2:80"
protocol = "tcp"
dvipa = "198.18.9.1"
[[check]]
kind = "http"
ports = [80]
protocol = "tcp"
dvipa = ["198.18.9.1"]
interval_s = 5
timeout_ms = 500
rise = 1
fall = 2
path = "/healthz"
host = "shop.example"
status = [200, 204]
[[check]]
kind = "grpc"
ports = [81]
service = "shop"
[[check]]
kind = "script"
ports = [82]
command = ["/usr/local/lib/check"]
[watch]
unanswered_s = 0
repair_s = 10
[log]
level = "debug"
"#;

fn keys(program: Program) -> (&'static [Key], Docs) {
    match program {
        Program::Batond => (batond::KEYS, Docs::batond()),
        Program::Agent => (agent::KEYS, Docs::agent()),
    }
}

/// What the program says of a text.
fn program_says(program: Program, text: &str) -> Result<(), String> {
    match program {
        Program::Batond => {
            Config::parse("batond.toml", text, Path::new("/etc/baton")).map(drop).map_err(|e| e.to_string())
        }
        Program::Agent => AgentConfig::parse(Path::new("/etc/baton/agent.toml"), text)
            .map(drop)
            .map_err(|e| e.lines().collect::<Vec<_>>().join("\n")),
    }
}

fn validator(program: Program) -> Validator {
    jsonschema::draft7::new(&of(program)).unwrap()
}

fn instance(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

fn schema_says(program: Program, text: &str) -> Result<(), String> {
    let instance = instance(text);
    let validator = validator(program);
    let errors: Vec<String> =
        validator.iter_errors(&instance).map(|e| format!("{}: {e}", e.instance_path())).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
}

/// The default that a page gives, if it is a value.
fn documented(cell: &str, is_path: bool) -> Option<Value> {
    let word =
        cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')).filter(|word| !word.contains('`'));
    match word {
        Some(word) if is_path => {
            Some(if literal(word).is_null() { Value::from(word) } else { literal(word) })
        }
        Some(word) => Some(literal(word)).filter(|value| !value.is_null()),
        None => cell.parse::<i64>().ok().map(Value::from),
    }
}

#[test]
fn every_key_of_the_docs_is_in_the_schema_with_its_default_and_the_other_way_round() {
    for program in PROGRAMS {
        let (keys, docs) = keys(program);
        let rows = docs.rows();
        let unwritten: Vec<&str> =
            keys.iter().map(|key| key.path).filter(|path| !rows.contains_key(*path)).collect();
        assert!(unwritten.is_empty(), "write them into docs/configuration.md: {unwritten:?}");
        for (path, Row { default, .. }) in rows.iter().filter(|(path, _)| *path != "key") {
            let key = keys.iter().find(|key| key.path == path.as_str());
            let key = key.unwrap_or_else(|| panic!("write `{path}` into src/bin/baton/schema"));
            let is_agents = program == Program::Agent;
            match (documented(default, is_agents), key.absent) {
                (Some(documented), Absent::Is(ours)) => assert_eq!(literal(ours), documented, "{path}"),
                (None, Absent::Is(ours)) => panic!("{path}: the docs have no default, the schema {ours}"),
                (Some(documented), _) => panic!("{path}: the docs have {documented}, the schema nothing"),
                (None, absent) if !is_agents && !default.is_empty() => {
                    let is_needed = default == "needed" || default == "needed in this table";
                    assert_eq!(absent == Absent::Needed, is_needed, "{path}: {default}");
                }
                (None, _) => {}
            }
        }
    }
}

/// Each key where it belongs, with a value that no key has.
#[test]
fn the_programs_know_every_key_of_the_schema() {
    for program in PROGRAMS {
        let (keys, _) = keys(program);
        for key in keys {
            let mut text = String::new();
            let parts: Vec<&str> = key.path.split('.').collect();
            for depth in 1..parts.len() {
                let table = parts[..depth].join(".");
                let is_list = keys.iter().any(|key| key.path == table && matches!(key.kind, Kind::Tables));
                text += &if is_list { format!("[[{table}]]\n") } else { format!("[{table}]\n") };
            }
            let last = parts.last().unwrap();
            for value in ["1979-05-27", "{ no-such-key = 1 }"] {
                let says = program_says(program, &format!("{text}{last} = {value}\n")).unwrap_err();
                let unknown = [format!("has no key `{last}`"), format!("unknown field `{last}`")];
                assert!(!unknown.iter().any(|words| says.contains(words)), "{}: {says}", key.path);
            }
        }
    }
}

/// Files that are whole, and whose: in the docs, the packages, the tests.
fn whole() -> Vec<(Program, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read =
        |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut files = vec![
        (Program::Batond, "good.toml".to_owned(), BATOND.to_owned()),
        (Program::Agent, "AGENT".to_owned(), AGENT.to_owned()),
    ];
    for (program, path) in [
        (Program::Batond, "packaging/batond/batond.toml"),
        (Program::Agent, "packaging/baton-agent/agent.toml"),
    ] {
        files.push((program, path.to_owned(), read(&root.join(path))));
    }
    for path in setups(&root.join("examples/setups")) {
        let is_agents = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("agent"));
        let program = if is_agents { Program::Agent } else { Program::Batond };
        files.push((program, path.display().to_string(), read(&path)));
    }
    for (name, block) in blocks() {
        if block.contains("[node]") && block.contains("[cluster]") {
            let program = if block.contains("[forwarder]") { Program::Batond } else { Program::Agent };
            files.push((program, name, block));
        }
    }
    let (run, spec) = (PathBuf::from("/run/lab"), Spec::default().witnessed());
    files.push((Program::Batond, "lab".into(), lab::files::batond(&spec, RoutingNode::First, &run, &[1])));
    files.push((Program::Agent, "lab".into(), lab::files::agent(&spec, "t1", &run)));
    files
}

/// The files of the usual set-ups.
fn setups(directory: &Path) -> Vec<PathBuf> {
    let below = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let (directories, files): (Vec<_>, Vec<_>) = below.partition(|path| path.is_dir());
    let files =
        files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.chain(directories.iter().flat_map(|directory| setups(directory))).collect()
}

/// Every TOML block of the docs, with its page.
fn blocks() -> Vec<(String, String)> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let pages = std::fs::read_dir(docs).unwrap().flatten().map(|entry| entry.path());
    let mut blocks = Vec::new();
    for page in pages.filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        let in_page = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        blocks.extend(in_page.map(|block| (page.display().to_string(), block.to_owned())));
    }
    assert!(blocks.len() > 10, "the docs have examples");
    blocks
}

#[test]
fn good_files_are_good_to_both() {
    let files = whole();
    assert!(files.len() >= 20, "{files:?}");
    for (program, name, text) in files {
        // Whether this host has the packages' group is not what this is about.
        let text = text.replace("group = \"baton\"", "group = \"root\"");
        program_says(program, &text).unwrap_or_else(|e| panic!("{name}: {e}"));
        schema_says(program, &text).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
    }
}

/// Of a part of a file nothing is wrong but that it is a part.
#[test]
fn parts_of_files_in_the_docs_have_keys_that_the_schema_knows() {
    for (page, block) in blocks() {
        let is_part = block.starts_with('[') && !block.starts_with("[dependencies]");
        if !is_part {
            continue;
        }
        // Such a part is for a block that is there.
        let is_inner = block.contains("[[vipadynamic.") && !block.contains("[[vipadynamic]]");
        let instance = instance(&if is_inner { format!("[[vipadynamic]]\n{block}") } else { block.clone() });
        let is_good = |program: &Program| {
            let validator = validator(*program);
            validator.iter_errors(&instance).all(|e| matches!(e.kind(), ValidationErrorKind::Required { .. }))
        };
        assert!(PROGRAMS.iter().any(is_good), "{page}: neither schema knows this:\n{block}");
    }
}

#[test]
fn bad_files_are_bad_to_both() {
    let rows: [(Program, &str, &str); 29] = [
        (Program::Batond, "name = \"rt1\"", "name = \"RT1\""),
        (Program::Batond, "name = \"rt1\"\n", ""),
        (Program::Batond, "[\"198.18.0.10\", \"2001:db8::10\"]", "[]"),
        (Program::Batond, "listen = \"198.18.0.10:7440\"", "listen = \"198.18.0.10\""),
        (Program::Batond, "ca = \"pki/ca.pem\"\n", ""),
        (Program::Batond, "heartbeat_ms = 200", "heartbeat_ms = 5"),
        (Program::Batond, "heartbeat_ms = 200", "heartbet_ms = 200"),
        (Program::Batond, "heartbeat_ms = 200", "heartbeat_ms = \"200\""),
        (Program::Batond, "lease_ms = 600", "lease_ms = 60001"),
        (Program::Batond, "witnesses = [\"t1\", \"t2\", \"t3\"]", "witnesses = [\"t1\"]"),
        (Program::Batond, "config = \"file\"", "config = \"disk\""),
        (Program::Batond, "metrics_mode = 0o640", "metrics_mode = 0o1640"),
        (Program::Batond, "workers = [1, 2]", "workers = []"),
        (Program::Batond, "idle = \"backoff\"", "idle = \"back-off\""),
        (Program::Batond, "fabric_mtu = 1500", "fabric_mtu = 1279"),
        (Program::Batond, "vlan = 100", "vlan = 4095"),
        (Program::Batond, "route_table = 200", "route_table = 253"),
        (Program::Batond, "destip = [\"t1\", \"198.18.0.22\", \"t3\"]", "destip = \"everyone\""),
        (Program::Batond, "weights = { t1 = 10", "weights = { t1 = 65536"),
        (Program::Batond, "method = \"weighted-round-robin\"", "method = \"rownd-robin\""),
        (Program::Batond, "client = \"198.18.1.0/24\"\n", ""),
        (Program::Batond, "slots = [0, 8191]", "slots = [0, 16384]"),
        (Program::Batond, "type = \"PathPrefix\"", "type = \"Prefix\""),
        (Program::Agent, "name = \"t1\"\n", ""),
        (Program::Agent, "fabric_mtu = 9000", "fabric_mtu = 9"),
        (Program::Agent, "control = \"198.18.0.10:7440\"", "control = \"198.18.0.10\""),
        (Program::Agent, "role = \"target\"", "role = \"server\""),
        (Program::Agent, "kind = \"http\"", "kind = \"https\""),
        (Program::Agent, "level = \"debug\"", "level = \"loud\""),
    ];
    for (program, good, bad) in rows {
        let file = if program == Program::Batond { BATOND } else { AGENT };
        let text = file.replacen(good, bad, 1);
        assert_ne!(text, file, "{good}");
        assert!(program_says(program, &text).is_err(), "the program takes {bad}");
        assert!(schema_says(program, &text).is_err(), "the schema takes {bad}");
    }
}
