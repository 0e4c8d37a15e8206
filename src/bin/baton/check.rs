//! `baton check`: a configuration file, before it is put in force.

use std::io::IsTerminal;
use std::path::Path;

use control::config::{Config, ConfigError};

use crate::arguments::Program;
use crate::failure::Failure;

/// Checks the file; returns one line that says that it is good.
pub(crate) fn check(file: &Path, program: Option<Program>) -> Result<String, Failure> {
    match program.unwrap_or_else(|| guess(file)) {
        Program::Batond => batond(file),
        Program::Agent => agent(file),
    }
}

/// Only an agent's file says whom to dial.
fn guess(file: &Path) -> Program {
    let table = std::fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let agent = table.is_some_and(|t| t.contains_key("routing_stack") || t.contains_key("bpf"));
    if agent { Program::Agent } else { Program::Batond }
}

fn batond(file: &Path) -> Result<String, Failure> {
    let config = Config::load(file).map_err(|e| match e {
        ConfigError::Mistakes(mistakes) => Failure::Text(mistakes.report(std::io::stderr().is_terminal())),
        ConfigError::Unreadable { path, cause } => {
            Failure::Text(format!("error: cannot read the configuration {}: {cause}", path.display()))
        }
    })?;
    let v = &config.vipadynamic;
    Ok(format!(
        "{}: good (batond, node {}: {} DVIPAs, {} as backup, {} distributions)\n",
        file.display(),
        config.node.name,
        v.defines.len(),
        v.backups.len(),
        v.distributes.len()
    ))
}

fn agent(file: &Path) -> Result<String, Failure> {
    let config = agent::config::Config::load(file).map_err(|e| Failure::Text(format!("error: {e}")))?;
    let stacks = config.routing_stacks.len();
    Ok(format!("{}: good (agent, node {}: {stacks} routing stacks)\n", file.display(), config.node.name))
}
