//! `baton-agent`: the program that runs on every host with applications.

#[path = "../../arguments/agent.rs"]
mod arguments;
#[path = "../../service.rs"]
mod service;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::runtime::{Agent, Removed, clean_up};
use agent::{Config, admin};
use arguments::{Arguments, Command, Join};
use clap::Parser;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;
use transport::join::token::Token;

type Failure = Box<dyn std::error::Error>;

/// More than a token has.
const TOKEN_BYTES: u64 = 1024;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Join(words)) = arguments.command {
        return match join(&words) {
            Ok(said) => {
                print!("{said}");
                ExitCode::SUCCESS
            }
            Err(failure) => {
                eprintln!("baton-agent: {failure}");
                ExitCode::FAILURE
            }
        };
    }
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{:?}", miette::Report::new(mistakes));
            return ExitCode::FAILURE;
        }
    };
    if arguments.check {
        println!("{}: good", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    let level = log_to_stderr(&config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Failure::from).and_then(|runtime| {
        runtime.block_on(async {
            if arguments.cleanup {
                tell(clean_up(&config).await?);
                Ok(())
            } else {
                run(config, &arguments.config, level).await
            }
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

/// Has this host join the cluster; returns what was done.
fn join(words: &Join) -> Result<String, Failure> {
    let token = match words.token.as_str() {
        "-" => std::io::read_to_string(std::io::stdin().take(TOKEN_BYTES))?,
        token => token.to_owned(),
    };
    let token = token.parse::<Token>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(agent::join::join(&words.address, &token, &words.config)) {
        Err(agent::join::Failure::Config(mistakes)) => {
            let said = "the configuration has to be good first. Nothing was sent, the token is still good";
            Err(format!("{said}\n{:?}", miette::Report::new(mistakes)).into())
        }
        done => Ok(done?),
    }
}

/// Sets another level.
type SetLevel = Box<dyn Fn(&Config) + Send>;

/// Logs to standard error from now on, in colour on a terminal only, at the level of the environment or else of the
/// configuration.
fn log_to_stderr(config: &Config) -> SetLevel {
    let filter = |config: &Config| {
        EnvFilter::try_from_env("BATON_LOG").unwrap_or_else(|_| EnvFilter::new(config.log_level.to_string()))
    };
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter(config))
        .with_filter_reloading();
    let handle = builder.reload_handle();
    builder.init();
    Box::new(move |config| {
        if let Err(cause) = handle.reload(filter(config)) {
            tracing::warn!(%cause, "the log level stays");
        }
    })
}

fn tell(Removed { removed, out_of_reach }: Removed) {
    for what in &removed {
        println!("removed: {what}");
    }
    if removed.is_empty() {
        println!("nothing to remove was found");
    }
    for what in &out_of_reach {
        println!("out of reach: {what}");
    }
}

/// Reads the configuration again at each SIGHUP; the agent takes over what it can.
async fn reload(path: PathBuf, agent: mpsc::Sender<Config>, mut hangup: Signal, set_level: SetLevel) {
    while hangup.recv().await.is_some() {
        match Config::load(&path) {
            Ok(config) => {
                set_level(&config);
                if agent.send(config).await.is_err() {
                    return;
                }
            }
            Err(mistakes) => {
                tracing::error!("the configuration is not taken over: {:?}", miette::Report::new(mistakes));
            }
        }
    }
}

async fn run(config: Config, path: &Path, set_level: SetLevel) -> Result<(), Failure> {
    let hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let socket = admin::open(&config.admin_socket).await?;
    let metrics = match &config.metrics_socket {
        Some((path, access)) => Some(admin::open_to(path, *access)?),
        None => None,
    };
    let metrics_tcp = match config.metrics {
        Some(address) => Some(admin::open_tcp(address).await?),
        None => None,
    };
    let admin_socket = config.admin_socket.clone();
    let agent = Agent::start(config).await?;
    let reloads = tokio::spawn(reload(path.to_owned(), agent.reloader(), hangup, set_level));
    let answers = tokio::spawn(admin::serve(socket, agent.questions()));
    if let Some(metrics) = metrics {
        tokio::spawn(admin::serve_metrics(metrics, agent.questions()));
    }
    if let Some(metrics) = metrics_tcp {
        tokio::spawn(admin::serve_metrics(metrics, agent.questions()));
    }
    service::tell(NotifyState::Ready);
    service::keep_alive();

    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending; addresses and programs stay in force");
        service::tell(NotifyState::Stopping);
    };
    // A task like those that it works with: before it goes on with what `block_on` waits for, tokio looks for events (epoll(7)).
    tokio::spawn(agent.run(stop)).await?;
    answers.abort();
    reloads.abort();
    // The next process replaces it anyway.
    let _ = std::fs::remove_file(admin_socket);
    Ok(())
}

/// What failed and why, down to the first cause.
fn chain(failure: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(failure), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
