//! Completion scripts and manual pages, made from [`Arguments`].

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::Failure;

/// The completion script of a shell.
pub(crate) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "baton", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes `baton.1` and a page a command; returns where.
pub(crate) fn manual(dir: &Path) -> Result<String, Failure> {
    let failed = |e: std::io::Error| {
        Failure::Text(format!("error: cannot write manual pages to {}: {e}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), dir).map_err(failed)?;
    Ok(format!("manual pages are in {}\n", dir.display()))
}
