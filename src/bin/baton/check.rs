//! `baton check`: a configuration file and its host, before the file is put in force.

use std::path::Path;

use control::config::{Config, ConfigError, DecidedBy, Mistake};
use control::runtime::api::{MistakeRow, Problem};
use control::runtime::check as host;
use serde_json::json;
use transport::IdentityFiles;

use crate::arguments::Program;
use crate::failure::Failure;

/// What a check looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct What<'a> {
    /// Which file.
    pub(crate) file: &'a Path,
    /// Whose it is.
    pub(crate) program: Option<Program>,
    /// Not at the host, because it is another one's file.
    pub(crate) file_only: bool,
}

/// Checks the file, and whether this host has what it names; returns one line that says that it is good.
pub(crate) fn check(what: What<'_>, json: bool) -> Result<String, Failure> {
    let Found { summary, problems, notes } = match what.program.unwrap_or_else(|| guess(what.file)) {
        Program::Batond => batond(what, json)?,
        Program::Agent => agent(what, json)?,
    };
    if let [first, rest @ ..] = &problems[..] {
        let rest = rest.iter().map(|problem| format!("\nerror: {problem}"));
        let error = rest.fold(first.clone(), |text, problem| text + &problem);
        return Err(Failure::Refused(Problem { error, mistakes: Vec::new() }));
    }
    let file = what.file.display();
    Ok(if json {
        format!(
            "{:#}\n",
            json!({ "file": file.to_string(), "good": true, "summary": summary, "notes": notes })
        )
    } else {
        let notes = notes.iter().map(|note| format!("note: {note}\n"));
        notes.fold(format!("{file}: good ({summary})\n"), |text, note| text + &note)
    })
}

/// Both files may name routing stacks; only batond's has a forwarder and definitions.
fn guess(file: &Path) -> Program {
    let table = std::fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let has = |t: &toml::Table, keys: &[&str]| keys.iter().any(|key| t.contains_key(*key));
    let is_agents = |t| has(t, &["routing_stack", "bpf"]) && !has(t, &["forwarder", "vipadynamic"]);
    let agent = table.as_ref().is_some_and(is_agents);
    if agent { Program::Agent } else { Program::Batond }
}

/// What a file says.
#[derive(Debug, Default)]
struct Found {
    summary: String,
    /// What is wrong with its host.
    problems: Vec<String>,
    /// What can't be promised with it.
    notes: Vec<String>,
}

/// Two nodes alone can't know which of them is cut off.
const TWO_OWNERS: &str = "routing stacks that live and can't hear each other all own the DVIPAs that they share, because nothing decides between them: name witnesses (`cluster.witnesses`) or an etcd (`[cluster.etcd]`); docs/failures.md says what follows";

fn batond(what: What<'_>, json: bool) -> Result<Found, Failure> {
    let load = if what.file_only { Config::load_alone } else { Config::load };
    let config = load(what.file).map_err(|e| match e {
        ConfigError::Mistakes(mistakes) if json => {
            let row = |m: &Mistake| row(m.line, m.column, &m.what, &m.fix);
            refused(what.file, mistakes.iter().map(row).collect())
        }
        ConfigError::Mistakes(mistakes) => {
            Failure::Text(mistakes.report(std::io::IsTerminal::is_terminal(&std::io::stderr())))
        }
        ConfigError::Unreadable { path, cause } => {
            Failure::Text(format!("error: cannot read the configuration {}: {cause}", path.display()))
        }
    })?;
    let v = &config.vipadynamic;
    let summary = format!(
        "batond, node {}: {} DVIPAs, {} as backup, {} distributions",
        config.node.name,
        v.defines.len(),
        v.backups.len(),
        v.distributes.len()
    );
    let problems = if what.file_only { Vec::new() } else { host::host(&config) };
    let lease = config.cluster.lease.as_millis();
    let note = match config.cluster.decided_by() {
        DecidedBy::Itself => (!config.routing_stacks.is_empty()).then(|| TWO_OWNERS.to_owned()),
        DecidedBy::Witnesses => None,
        DecidedBy::Etcd => Some(format!(
            "etcd decides which routing stack owns a DVIPA: never two, and a DVIPA whose owner dies has a new one after {lease} ms at the earliest (`cluster.lease_ms`); witnesses can be faster"
        )),
    };
    Ok(Found { summary, problems, notes: note.into_iter().collect() })
}

fn row(line: usize, column: usize, what: &str, fix: &str) -> MistakeRow {
    MistakeRow { line, column, what: what.to_owned(), fix: fix.to_owned() }
}

fn refused(file: &Path, mistakes: Vec<MistakeRow>) -> Failure {
    Failure::Refused(Problem { error: format!("{} has mistakes", file.display()), mistakes })
}

fn agent(what: What<'_>, json: bool) -> Result<Found, Failure> {
    let config = agent::config::Config::load(what.file).map_err(|mistakes| {
        if !json {
            return Failure::Text(format!("{:?}", miette::Report::new(mistakes)));
        }
        let rows = mistakes.places().map(|(place, what, fix)| {
            let (line, column) = place.unwrap_or_default();
            row(line, column, what, fix)
        });
        refused(what.file, rows.collect())
    })?;
    let summary = format!("agent, node {}: {} routing stacks", config.node.name, config.routing_stacks.len());
    if what.file_only {
        return Ok(Found { summary, ..Found::default() });
    }
    let agent::config::Cluster { ca, certificate, key, .. } = config.cluster;
    let mut problems = host::identity(&IdentityFiles { ca, certificate, key }, &config.node.name);
    problems.extend(config.node.interfaces.iter().filter_map(|name| host::interface(name)));
    Ok(Found { summary, problems, notes: Vec::new() })
}
