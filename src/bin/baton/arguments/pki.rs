//! `baton pki`, as it is typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use model::StackName;
use transport::join::RoutingStack;

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
    /// Tokens by which hosts get their certificates (`baton-agent join`), so that no key is carried from host to host.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Let hosts join with tokens. Runs until no token is open any more.
    #[command(after_help = "\
It has the authority's key, listens where --listen says, and does nothing else: run it while hosts join. What it gives and refuses is in its \
log on standard error, with the host's address.

Exit code 0: no token is open any more; 1: it can't run, with the reason.

Example:
  baton pki token create /etc/baton/pki t7
  baton pki serve /etc/baton/pki --listen 192.0.2.10:7440 --routing-stack rt1=192.0.2.10:7440")]
    Serve(Serve),
}

/// Tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Order a token for one stack. Whoever has it can get one certificate of that stack.
    #[command(after_help = "\
The token stands alone on the first line. An earlier token of the same stack that nobody has used is revoked.

Example:
  baton pki token create /etc/baton/pki t7 --minutes 30")]
    Create {
        /// Where the CA is.
        dir: PathBuf,
        /// The stack's name, as in its configuration.
        name: StackName,
        /// How many minutes the token is valid, up to a week.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=7 * 24 * 60))]
        minutes: u32,
        /// Also if the stack has a certificate already.
        #[arg(long)]
        again: bool,
    },
    /// Show the tokens: which are open until when, and who has joined with one.
    List {
        /// Where the CA is.
        dir: PathBuf,
    },
    /// Make a token that nobody has used useless.
    Revoke {
        /// Where the CA is.
        dir: PathBuf,
        /// The stack's name.
        name: StackName,
    },
}

/// How hosts are let in.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where the CA is.
    pub(crate) dir: PathBuf,
    /// An address of the cluster's network and a TCP port; 7440 is what hosts dial if they are told none.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// A routing node for the configuration of hosts that have none, and where its batond accepts sessions (`cluster.listen`); may be repeated.
    #[arg(long = "routing-stack", value_name = "NAME=ADDRESS:PORT", value_parser = routing_stack)]
    pub(crate) routing_stacks: Vec<RoutingStack>,
    /// How many days the certificates are valid.
    #[arg(long, default_value_t = transport::pki::STACK_DAYS, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) days: u16,
}

fn routing_stack(word: &str) -> Result<RoutingStack, String> {
    let (name, control) =
        word.split_once('=').ok_or("write NAME=ADDRESS:PORT, for example rt1=192.0.2.10:7440")?;
    let name = StackName::new(name).map_err(|e| e.to_string())?;
    let control = control.parse().map_err(|_| format!("`{control}` is no ADDRESS:PORT"))?;
    Ok(RoutingStack { name, control })
}
