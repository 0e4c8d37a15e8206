//! `baton check`: a configuration file and its host, before the file is put in force.

use std::path::Path;

use control::config::{Config, ConfigError};
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
    let (summary, problems) = match what.program.unwrap_or_else(|| guess(what.file)) {
        Program::Batond => batond(what, json)?,
        Program::Agent => agent(what)?,
    };
    if let [first, rest @ ..] = &problems[..] {
        let rest = rest.iter().map(|problem| format!("\nerror: {problem}"));
        let error = rest.fold(first.clone(), |text, problem| text + &problem);
        return Err(Failure::Refused(Problem { error, mistakes: Vec::new() }));
    }
    let file = what.file.display();
    Ok(if json {
        format!("{:#}\n", json!({ "file": file.to_string(), "good": true, "summary": summary }))
    } else {
        format!("{file}: good ({summary})\n")
    })
}

/// Only an agent's file says whom to dial.
fn guess(file: &Path) -> Program {
    let table = std::fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let agent = table.is_some_and(|t| t.contains_key("routing_stack") || t.contains_key("bpf"));
    if agent { Program::Agent } else { Program::Batond }
}

/// What a file says, and what is wrong with its host.
type Found = (String, Vec<String>);

fn batond(what: What<'_>, json: bool) -> Result<Found, Failure> {
    let config = Config::load(what.file).map_err(|e| match e {
        ConfigError::Mistakes(mistakes) if json => {
            let row = |m: &control::config::Mistake| MistakeRow {
                line: m.line,
                column: m.column,
                what: m.what.clone(),
                fix: m.fix.clone(),
            };
            let error = format!("{} has mistakes", what.file.display());
            Failure::Refused(Problem { error, mistakes: mistakes.iter().map(row).collect() })
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
    Ok((summary, if what.file_only { Vec::new() } else { host::host(&config) }))
}

fn agent(what: What<'_>) -> Result<Found, Failure> {
    let config = agent::config::Config::load(what.file).map_err(|e| Failure::Text(format!("error: {e}")))?;
    let summary = format!("agent, node {}: {} routing stacks", config.node.name, config.routing_stacks.len());
    if what.file_only {
        return Ok((summary, Vec::new()));
    }
    let agent::config::Cluster { ca, certificate, key, .. } = config.cluster;
    let mut problems = host::identity(&IdentityFiles { ca, certificate, key }, &config.node.name);
    problems.extend(config.node.interfaces.iter().filter_map(|name| host::interface(name)));
    Ok((summary, problems))
}
