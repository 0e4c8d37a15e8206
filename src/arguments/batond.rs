//! What can be typed for `batond`.

use std::path::PathBuf;

use clap::Parser;

/// The routing node's daemon of baton: owns DVIPAs and distributes their connections.
///
/// On SIGTERM or SIGINT it says goodbye to the agents and hands its DVIPAs over to other routing nodes; with `forwarder.crt_file` its
/// next process goes on with every connection. On SIGHUP the configuration and the certificates are read again.
#[derive(Parser)]
#[command(name = "batond", version, about)]
pub(crate) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/baton/batond.toml")]
    pub(crate) config: PathBuf,
    /// Only check: explain every mistake of the configuration file, and what it names and this host lacks.
    #[arg(long, conflicts_with = "cleanup")]
    pub(crate) check: bool,
    /// Remove the connection table that a batond with this configuration keeps for the next one (`forwarder.crt_file`).
    #[arg(long)]
    pub(crate) cleanup: bool,
}
