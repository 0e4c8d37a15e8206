//! The routing node's daemon: reads its configuration, starts the forwarder, and runs the control thread.

#[path = "../../arguments/batond.rs"]
mod arguments;
#[path = "../../service.rs"]
mod service;

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use arguments::Arguments;
use clap::Parser;
use control::config::{Config, ConfigError, Source};
use control::runtime::Runtime;
use plane::forwarding::Plane;
use plane::next_hop::NextHops;
use plane::node::Node;
use plane::routes::Routes;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let colours = std::io::stderr().is_terminal();
    let load =
        if arguments.check || arguments.cleanup { Config::load_source } else { control::runtime::load };
    let (config, source) = match load(&arguments.config) {
        Ok(loaded) => loaded,
        Err(ConfigError::Mistakes(mistakes)) => {
            eprint!("{}", mistakes.report(colours));
            return ExitCode::FAILURE;
        }
        Err(error) => return failed(&error),
    };
    if arguments.check {
        let problems = control::runtime::check::host(&config);
        problems.iter().for_each(|problem| eprintln!("error: {problem}"));
        if problems.is_empty() {
            println!("{}: good", arguments.config.display());
        }
        return if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if arguments.cleanup {
        return clean_up(&config);
    }
    let level = || EnvFilter::new(config.admin.log_level.to_string());
    let filter = EnvFilter::try_from_env("BATON_LOG").unwrap_or_else(|_| level());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    match run(source, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref()),
    }
}

/// Removes the connection table that the next process would go on with.
fn clean_up(config: &Config) -> ExitCode {
    let Some(file) = &config.forwarder.crt_file else {
        println!("nothing to remove: the connection table is in no file");
        return ExitCode::SUCCESS;
    };
    match plane::table::remove(file) {
        Ok(true) => println!("removed: the connection table {}", file.display()),
        Ok(false) => println!("nothing to remove was found"),
        Err(error) => return failed(&error),
    }
    ExitCode::SUCCESS
}

/// Prints an error with its causes.
fn failed(error: &dyn Error) -> ExitCode {
    eprintln!("batond: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}

/// This thread becomes DPDK's main lcore and the control thread. The forwarder starts first, because the cluster's
/// sessions pass it on their way to this node's kernel.
fn run(source: Source, config: Config) -> Result<(), Box<dyn Error>> {
    let node = Node::start(&config)?;
    let shared = Arc::clone(&node.shared);
    let next_hops = NextHops::follow(node.interface.index, move |connection| shared.owner(connection))?;
    let routes = config.announce.map(Routes::open).transpose()?;
    let plane = Plane::new(node, next_hops, routes)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (mut terminated, mut interrupted) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let runtime = Runtime::bind(source, config, plane, env!("CARGO_PKG_VERSION")).await?;
        service::tell(NotifyState::Ready);
        service::keep_alive();
        let stop = async {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
            tracing::info!("stopping");
            service::tell(NotifyState::Stopping);
        };
        runtime.run(stop).await;
        Ok(())
    })
}
