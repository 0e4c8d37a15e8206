//! `baton-agent`: the program that runs on every host with applications.

use std::path::PathBuf;
use std::process::ExitCode;

use agent::runtime::{Agent, clean_up};
use agent::{Config, admin};
use clap::Parser;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Watches the listens and connections of this host, decapsulates what forwarders send, and tells the routing stacks.
///
/// On SIGTERM or SIGINT the routing stacks are told that nothing is served here any longer; addresses and BPF programs
/// stay, so that connections live on. `--cleanup` removes those too.
#[derive(Parser)]
#[command(name = "baton-agent", version)]
struct Arguments {
    /// The configuration (docs/configuration.md, section agent.toml).
    #[arg(long, value_name = "FILE", default_value = "/etc/baton/agent.toml")]
    config: PathBuf,
    /// Only check the configuration.
    #[arg(long, conflicts_with = "cleanup")]
    check: bool,
    /// Remove the DVIPAs, BPF programs and pins that an agent with this configuration left on this host.
    #[arg(long)]
    cleanup: bool,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("BATON_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{:?}", miette::Report::new(mistakes));
            return ExitCode::FAILURE;
        }
    };
    if arguments.check {
        println!("{} is right", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Failure::from).and_then(|runtime| {
        runtime.block_on(async {
            if arguments.cleanup { Ok(clean_up(&config).await?) } else { run(config).await }
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("baton-agent: {}", chain(&*failure));
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let socket = admin::open(&config.admin_socket).await?;
    let path = config.admin_socket.clone();
    let agent = Agent::start(config).await?;
    let answers = tokio::spawn(admin::serve(socket, agent.questions()));
    sd_notify::notify(&[NotifyState::Ready])?;

    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending; addresses and programs stay in force");
        if let Err(cause) = sd_notify::notify(&[NotifyState::Stopping]) {
            tracing::warn!(%cause, "the service manager can't be told");
        }
    };
    // A task like those that it works with: before it goes on with what `block_on` waits for, tokio looks for events (epoll(7)).
    tokio::spawn(agent.run(stop)).await?;
    answers.abort();
    // Whoever comes next replaces it anyway.
    let _ = std::fs::remove_file(path);
    Ok(())
}

/// What failed and why, down to the first cause.
fn chain(failure: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(failure), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
