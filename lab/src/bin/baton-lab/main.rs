//! Builds labs from the command line.

use std::process::ExitCode;

use baton_lab::registry;
use clap::{Parser, Subcommand};

mod demo;
mod verdict;

/// A whole cluster on this machine, in network namespaces.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the cluster, use it, and say what held.
    Demo {
        /// Leave the lab up and say how to look around.
        #[arg(long)]
        keep: bool,
    },
    /// Build the cluster and leave it up.
    Up,
    /// Remove the labs that were kept, or one of them, and what a killed one left.
    Down {
        /// The lab's id, as in its namespaces' names.
        id: Option<String>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().action {
        Action::Demo { keep } => demo::run(keep),
        Action::Up => demo::up(),
        Action::Down { id } => {
            let removed = [registry::remove_kept(id.as_deref()), registry::sweep()].concat();
            println!("removed: {}", if removed.is_empty() { "nothing".into() } else { removed.join(" ") });
            ExitCode::SUCCESS
        }
    }
}
