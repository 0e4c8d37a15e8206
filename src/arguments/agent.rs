//! What can be typed for `baton-agent`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Watches the listens and connections of this host, decapsulates what forwarders send, and tells the routing stacks.
///
/// On SIGTERM or SIGINT the routing stacks are told that nothing is served here any longer; addresses and BPF programs
/// stay, so that connections live on. `--cleanup` removes those too. On SIGHUP the configuration and the certificates are
/// read again.
#[derive(Parser)]
#[command(name = "baton-agent", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// What to do instead.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The configuration (docs/configuration.md, section agent.toml).
    #[arg(long, value_name = "FILE", default_value = "/etc/baton/agent.toml")]
    pub(crate) config: PathBuf,
    /// Only check the configuration.
    #[arg(long, conflicts_with = "cleanup")]
    pub(crate) check: bool,
    /// Remove the DVIPAs, BPF programs and pins that an agent with this configuration left on this host.
    #[arg(long)]
    pub(crate) cleanup: bool,
}

/// What is done before there is an agent.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Get this host's certificate by a token, from `baton pki serve` where the cluster's authority is.
    #[command(after_help = "\
The private key is made here and stays here. Before anything is sent the server has to show the authority that has ordered the token. \
The files go where the configuration says; if there is none, into pki/ beside it, and a configuration to begin with is written, with the \
address by which this host reaches the authority. A configuration that is there is not changed.

The same, with a new token, renews a certificate: the key is a new one each time, and an agent that runs takes both up by itself.

Exit code 0: this host has its certificate; 1: it has not, with the reason. Its former files are as they were then.

Examples:
  baton-agent join 192.0.2.10 t7.AXlD4cK…
  baton-agent join rt1.example:7440 - <token")]
    Join(Join),
}

/// Where a token is used, and which.
#[derive(Args)]
pub(crate) struct Join {
    /// Where `baton pki serve` runs: an address or a name, with :PORT if that is not 7440.
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// What `baton pki token create` has printed; `-`: read it from standard input, so that other users of this host do not see it in the list
    /// of processes.
    #[arg(value_name = "TOKEN")]
    pub(crate) token: String,
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/baton/agent.toml")]
    pub(crate) config: PathBuf,
}
