//! `baton pki`, as it is typed.

use std::path::PathBuf;

use clap::Subcommand;
use model::StackName;

/// The cluster's certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum Pki {
    /// Make the cluster's CA: ca.pem, which every stack needs, and ca.key, which stays here.
    #[command(after_help = "Example:\n  baton pki init /etc/baton/pki")]
    Init {
        /// The directory to write them to.
        dir: PathBuf,
    },
    /// Make the certificate and key of one or more stacks, signed by the CA in the directory.
    #[command(after_help = "Example:\n  baton pki issue /etc/baton/pki rt1 t1 t2 t3")]
    Issue {
        /// Where the CA is, and the new files go.
        dir: PathBuf,
        /// The stacks' names, as in their configuration.
        #[arg(required = true)]
        names: Vec<StackName>,
        /// How many days the certificates are valid.
        #[arg(long, default_value_t = transport::pki::STACK_DAYS, value_parser = clap::value_parser!(u16).range(1..))]
        days: u16,
    },
}
