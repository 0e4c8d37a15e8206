//! What can be typed for `baton-agent`.

use std::path::PathBuf;

use clap::Parser;

/// Watches the listens and connections of this host, decapsulates what forwarders send, and tells the routing stacks.
///
/// On SIGTERM or SIGINT the routing stacks are told that nothing is served here any longer; addresses and BPF programs
/// stay, so that connections live on. `--cleanup` removes those too. On SIGHUP the configuration and the certificates are
/// read again.
#[derive(Parser)]
#[command(name = "baton-agent", version)]
pub(crate) struct Arguments {
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
