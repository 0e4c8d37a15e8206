//! Completion scripts and manual pages, made from what can be typed: [`Arguments`], and those of the two daemons.

#[path = "../../arguments/mod.rs"]
mod daemons;

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments::Arguments;
use crate::failure::Failure;

/// The completion script of a program for a shell.
pub(crate) fn completions(shell: Shell, program: &str) -> String {
    let mut command = match program {
        "batond" => daemons::batond::Arguments::command(),
        "baton-agent" => daemons::agent::Arguments::command(),
        _ => Arguments::command(),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, program, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes `baton.1` and a page a command, and pages of the daemons in section 8; returns where.
pub(crate) fn manual(dir: &Path) -> Result<String, Failure> {
    let failed = |e: std::io::Error| {
        Failure::Text(format!("error: cannot write manual pages to {}: {e}", dir.display()))
    };
    fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), dir).map_err(failed)?;
    for daemon in [daemons::batond::Arguments::command(), daemons::agent::Arguments::command()] {
        write_daemon(dir, daemon).map_err(failed)?;
    }
    Ok(format!("manual pages are in {}\n", dir.display()))
}

/// A page of the daemon, and one of each of its commands.
fn write_daemon(dir: &Path, daemon: Command) -> std::io::Result<()> {
    let mut daemon = daemon.disable_help_subcommand(true);
    daemon.build();
    for page in std::iter::once(&daemon).chain(daemon.get_subcommands()) {
        Man::new(page.clone()).section("8").generate_to(dir)?;
    }
    Ok(())
}
