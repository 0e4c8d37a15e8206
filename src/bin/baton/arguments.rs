//! What can be typed.

mod config;
mod looking;
mod pki;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use control::machine::MAX_AT_ONCE;
use control::runtime::api::ClientFilter;
use model::control_socket::name::BadTarget;
use model::control_socket::{JobName, Target};
use model::{CrtState, Protocol, StackName};

use crate::convert::ConvertCommand;
use crate::top::View;
pub(crate) use config::ConfigCommand;
pub(crate) use looking::{CaptureArguments, TraceArguments, WhyArguments};
pub(crate) use pki::{Pki, Serve, TokenCommand};

/// Shows and steers a routing node of a baton cluster.
///
/// Most commands ask the batond of this host through its admin socket; `check`, `convert`, `doctor`, `nic`, `schema`, `setup`,
/// `pki`, `completions` and `man` need none.
#[derive(Debug, Parser)]
#[command(name = "baton", version, after_help = AFTER_HELP, max_term_width = 110)]
pub(crate) struct Arguments {
    /// The admin socket of batond, or of a baton-agent (for `status`).
    #[arg(
        long,
        global = true,
        env = "BATON_SOCKET",
        default_value = "/run/baton/batond.sock",
        value_name = "FILE"
    )]
    pub(crate) socket: PathBuf,
    /// Print the admin API's answer instead of a table, refusals too.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 refused or not done wholly, or the file has mistakes; 2 wrong usage; 3 no answer from the admin socket.

Examples:
  baton status
  baton crt --stack t1 --state established --limit 20
  baton drain t1 && baton crt --stack t1
  baton weights 198.18.9.1 80 t1=10 t2=0 --for 60
  baton check /etc/baton/batond.toml && baton reload
  baton route explain 'GET https://shop.example/pay'
  baton why 198.18.0.2:40000 198.18.9.1:80";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Ask(Ask),
    #[command(flatten)]
    Follow(Follow),
    /// Check a configuration file: every mistake with its line and what to write instead; and what it names and this host
    /// lacks (certificates, cores, interfaces).
    #[command(after_help = "Example:\n  baton check /etc/baton/batond.toml")]
    Check {
        /// batond.toml or agent.toml.
        file: PathBuf,
        /// The program that reads the file; without this option, it is found out from the file's tables.
        #[arg(long, value_name = "PROGRAM")]
        program: Option<Program>,
        /// Do not check this host: the file is for another one.
        #[arg(long)]
        file_only: bool,
    },
    /// The configuration of the running batond: show it, set one key, compare it with the file, go back to a former one.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the JSON schema of a configuration file, for editors: they complete keys, explain them and mark mistakes.
    #[command(after_help = config::SCHEMA_HELP)]
    Schema {
        /// Whose file.
        program: Program,
    },
    /// Look at this host before and after it is set up: what is in the way of batond and baton-agent, why it matters, and the command
    /// that mends it.
    #[command(after_help = "\
Looks at what the configuration files ask for, and at what the programs say that run. Without a configuration file it looks at what both \
programs need.

Exit code 0: no error; 1: errors, or something that --fix could not mend.

Examples:
  baton doctor
  baton doctor --agent agent.toml --fix")]
    Doctor(DoctorArguments),
    /// The PCI NICs of this host, and their kernel drivers.
    #[command(subcommand)]
    Nic(NicCommand),
    /// Prepare this host.
    #[command(subcommand)]
    Setup(SetupCommand),
    /// What happened lately: targets that came and went and why, DVIPAs, drains, transfers that failed, reloads.
    #[command(after_help = "\
Times are UTC. The log has the same words in its field `event`. With --json: one object a line.

Examples:
  baton events
  baton events --follow")]
    Events {
        /// Go on with what happens, also over a restart of batond.
        #[arg(long, short)]
        follow: bool,
    },
    /// Why a packet of a client would go where it goes, or be refused or dropped; and what became of its connection.
    #[command(after_help = "\
No packet is sent and nothing changes: batond lets a packet pass its path over copies of its tables. What only a running worker knows is left \
out: whether its limits are reached, which requests it follows.

Exit code 0: it would be forwarded, answered, or the stacks would be asked for its connection; 1: it would be refused or dropped, wait, or is none \
of this node's.

Examples:
  baton why 198.18.0.2:40000 198.18.9.1:80
  baton why '[2001:db8::2]:40000' '[2001:db8:9::1]:53' --udp --length 1500
  baton why 198.18.0.2:40000 198.18.9.1:80 --request 'GET http://shop.example/pay'")]
    Why(WhyArguments),
    /// What packets meet while they pass: what they are counted as, why, and where they go.
    #[command(after_help = "\
Without a filter: every packet. It costs workers something while it runs and nothing otherwise; one runs at a time. Packets beyond --rate, or that come \
faster than they are read, pass all the same; how many is said at the end. A packet that waits has a second line when it goes on. The last line of a \
packet says what the CRT knows of its connection then: `established at t1` means that t1 has said that it has it.

Examples:
  baton trace --client 198.18.0.2 --count 20
  baton trace --service 198.18.9.1:80 --for 10")]
    Trace(TraceArguments),
    /// Write packets that pass into a pcapng file: as they come and as they go, each with the reason as a comment.
    #[command(after_help = "\
Of a frame the first 1600 bytes are written. Times are those at which workers took the packets, in milliseconds.

Examples:
  baton capture lost.pcapng --client 198.18.0.2 --for 10
  baton capture - --service 198.18.9.1:80 | tshark -r - -V")]
    Capture(CaptureArguments),
    /// Services, stacks, drops, transfers and events, live, in the terminal.
    #[command(after_help = "\
Keys: 1 to 5 and Tab choose what is shown, arrows and Page keys scroll, / filters (Enter keeps the filter, Esc removes it), p pauses, q ends.

Examples:
  baton top
  baton top --once --view drops")]
    Top(TopArguments),
    /// Routes: which requests of clients go where.
    #[command(subcommand)]
    Route(RouteCommand),
    /// Convert the configuration of another load balancer.
    #[command(subcommand)]
    Convert(ConvertCommand),
    /// Make the cluster's certificates.
    #[command(subcommand)]
    Pki(Pki),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  baton completions bash > /etc/bash_completion.d/baton")]
    Completions {
        /// Which shell.
        shell: Shell,
        /// For which program.
        #[arg(default_value = "baton", value_parser = ["baton", "batond", "baton-agent"])]
        program: String,
    },
    /// Write the manual pages of baton, its commands, batond and baton-agent.
    Man {
        /// The directory to write them to; made if it does not exist.
        dir: PathBuf,
    },
}

/// Whose host is looked at, and what is done about it.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// A routing node's file [/etc/baton/batond.toml, if it is there].
    #[arg(long, value_name = "FILE")]
    pub(crate) batond: Option<PathBuf>,
    /// An agent's file [/etc/baton/agent.toml, if it is there].
    #[arg(long, value_name = "FILE")]
    pub(crate) agent: Option<PathBuf>,
    /// Mend what takes nothing away from anybody (settings, mounts), and say what was done. It holds until the host is started again.
    #[arg(long)]
    pub(crate) fix: bool,
}

/// What is watched.
#[derive(Debug, Args)]
pub(crate) struct TopArguments {
    /// What is shown first.
    #[arg(long, default_value = "services")]
    pub(crate) view: View,
    /// Print it once and end, with the rates of one second; needs no terminal.
    #[arg(long)]
    pub(crate) once: bool,
    /// With --once: the width of a line [120].
    #[arg(long, requires = "once", value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(40..=1000))]
    pub(crate) width: Option<u16>,
}

/// PCI NICs.
#[derive(Debug, Subcommand)]
pub(crate) enum NicCommand {
    /// Show them: address, driver, NUMA node, interfaces, and whether DPDK can have them.
    List,
    /// Leave a NIC to DPDK: the kernel's driver gives it to one that hands it to programs. Until the host is started again.
    #[command(after_help = "Example:\n  modprobe vfio-pci && baton nic bind 0000:01:00.0")]
    Bind {
        /// Its PCI address.
        address: String,
        /// vfio-pci, uio_pci_generic or igb_uio; the kernel must have loaded it.
        #[arg(long, default_value = "vfio-pci")]
        driver: String,
        /// Also if this host has routes over the NIC's interface, and loses them.
        #[arg(long)]
        force: bool,
    },
    /// Give a NIC back to the kernel's own driver.
    Unbind {
        /// Its PCI address.
        address: String,
    },
}

/// What a host is prepared with.
#[derive(Debug, Subcommand)]
pub(crate) enum SetupCommand {
    /// Have the kernel set hugepages of 2 MiB aside.
    #[command(after_help = "Example:\n  baton setup hugepages 512 --keep")]
    Hugepages {
        /// How many on each NUMA node.
        count: u64,
        /// On this NUMA node alone.
        #[arg(long)]
        node: Option<u32>,
        /// Also at each start of the host (/etc/tmpfiles.d).
        #[arg(long)]
        keep: bool,
    },
}

/// What is asked about routes.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// Which route takes a request, why that one, and where the request goes; or why it is refused.
    #[command(after_help = "\
REQUEST is what a client asks for, in the words of the port's `client_protocol`:
  http         [METHOD] URL             'GET https://shop.example/pay?x=1'; without a METHOD: GET
  tls          tls://SERVER-NAME        with --alpn for each application protocol that the client offers
  postgresql   postgresql://USER@HOST/DATABASE
  mqtt         mqtt://USER@HOST/CLIENT-IDENTIFIER
  redis        the command              'GET user:1'
  raw          the text itself
--bytes FILE reads the client's first bytes from a file instead, for every protocol.

Without --file the running batond is asked, which answers from the configuration in force.

Exit code 0: a route takes the request; 1: it is refused, or not whole.

Examples:
  baton route explain 'GET https://shop.example/pay' -H 'x-version: 2'
  baton route explain --file /etc/baton/batond.toml --port 5432 postgresql://app@db/reports")]
    Explain(ExplainArguments),
}

/// A request, and whose routes are asked.
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// What a client asks for.
    #[arg(required_unless_present = "bytes", value_name = "REQUEST")]
    pub(crate) request: Option<String>,
    /// A header of an HTTP request; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// An application protocol that a TLS client offers; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) alpn: Vec<String>,
    /// A file with the client's first bytes.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["request", "headers", "alpn"])]
    pub(crate) bytes: Option<PathBuf>,
    /// The DVIPA whose routes are asked; needed if several have routes.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dvipa: Option<IpAddr>,
    /// Its port.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Ask the routes of this batond.toml, not those of the running batond.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// What is asked of a running batond.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// This node, its sessions and the stacks that it knows.
    #[command(after_help = "Examples:\n  baton status\n  baton --socket /run/baton/agent.sock status")]
    Status,
    /// The DVIPAs, who owns them and what is distributed; or move one to another routing node, or an address of a range to a host.
    #[command(after_help = "\
Without a subcommand: shows them.

Examples:
  baton vipa
  baton vipa move 198.18.9.1 rt2
  baton vipa activate 198.18.10.5 t2")]
    Vipa {
        #[command(subcommand)]
        order: Option<VipaOrder>,
    },
    /// The destination port table: per service the candidate targets, and why one is not selected.
    Dpt,
    /// The connection routing table, filtered by batond, a bounded number of rows.
    #[command(after_help = "\
Examples:
  baton crt --client 198.18.0.2
  baton crt --client '[2001:db8::2]:40000'
  baton crt --dvipa 198.18.9.1 --port 80 --state half-open --limit 1000")]
    Crt(CrtArguments),
    /// Counters: what became of packets, sessions and messages, each with its meaning.
    Stats {
        /// Also show counters that are 0.
        #[arg(long)]
        all: bool,
    },
    /// End a drain. Without --dvipa: all drains of the stack.
    Resume(ScopeArguments),
    /// Set weights of a service that take precedence over configured ones and load, and that expire.
    #[command(after_help = "\
Examples:
  baton weights 198.18.9.1 80 t1=10 t2=5 --for 60
  baton weights 198.18.9.1 80 --clear")]
    Weights(WeightArguments),
    /// Read the configuration file again: applied as a whole, or refused as a whole.
    Reload,
}

/// An order about a DVIPA.
#[derive(Debug, Subcommand)]
pub(crate) enum VipaOrder {
    /// Have another routing node own a DVIPA of this one. It takes over when it knows all connections, and keeps the DVIPA until it
    /// is moved again, fails or leaves.
    Move {
        /// The DVIPA.
        dvipa: IpAddr,
        /// The routing node; this one: it keeps what a former order has given away and has not been taken yet.
        node: StackName,
    },
    /// Make an address of a range (viparange) active at a host, whether or not an application there is bound to it: new connections go
    /// there, also to listeners of the wildcard address. A later bind elsewhere, or a later order, moves it on.
    Activate {
        /// The address.
        address: IpAddr,
        /// The host's stack.
        stack: StackName,
    },
    /// End an order to activate: the address is where an application has bound to it last, or nowhere.
    Deactivate {
        /// The address.
        address: IpAddr,
    },
}

/// What a node does as a whole.
#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Have other routing nodes own what this one owns, and wait until they do: before an upgrade, for example.
    #[command(after_help = "\
Exit code 0: this node owns nothing any more; 1: it still does after --wait, because no other node can take it.

Example:
  baton node leave && systemctl restart batond")]
    Leave {
        /// How many seconds to wait.
        #[arg(long, default_value_t = 30, value_name = "SECONDS")]
        wait: u64,
    },
    /// Take a `baton node leave` back. A restart of batond does too.
    Stay,
}

/// What a running batond does, and takes a while.
#[derive(Debug, Subcommand)]
pub(crate) enum Follow {
    /// Before and after a stop of this node.
    #[command(subcommand)]
    Node(Node),
    /// Give a stack no new connections; the ones it has stay, or are moved to the others (--move).
    #[command(after_help = "\
With --move, connections move as they become idle. batond moves them, whether this command runs or not, until the stack has \
none, or the time of --for is over, or this command is ended with Ctrl-C. Ctrl-C and --stop-moving end only the moving; \
`baton resume` ends the drain.

A connection is idle when neither side has sent anything on it yet, or when its server has sent the whole answer to the last HTTP/1.x \
request and waits for the next one. Downloads, uploads and answers with pauses stay until they are complete. Encrypted connections \
stay: no other server has their keys. Connections of servers that do not speak HTTP/1.x stay too, because it can't be seen whether \
the server owes an answer. With --quiet they move after so many milliseconds of silence. Do not use --quiet for servers that make \
longer pauses in the middle of an answer, or that keep state for a connection, as databases do for sessions.

UDP flows stay with a drained stack until they end.

Exit code 0: the stack is empty; 1: connections remain, with the reasons.

Examples:
  baton drain t1
  baton drain t1 --dvipa 198.18.9.1 --port 80
  baton drain t1 --move --for 60
  baton drain t1 --stop-moving")]
    Drain(DrainArguments),
    /// Transfer a live TCP connection to another stack, and print the outcome.
    #[command(after_help = "\
It moves if it is idle, as `baton drain --help` explains.

Exit code 0: it has moved; 1: it stays where it is, with the reason.

Examples:
  baton move 198.18.0.2:40000 198.18.9.1:80 t2
  baton move '[2001:db8::2]:40000' '[2001:db8:9::1]:80' images@t2")]
    Move(MoveArguments),
}

/// Of what a stack drains, and what becomes of its connections.
#[derive(Debug, Args)]
pub(crate) struct DrainArguments {
    #[command(flatten)]
    pub(crate) scope: ScopeArguments,
    #[command(flatten)]
    pub(crate) moving: MovingArguments,
}

/// What becomes of a drained stack's connections.
#[derive(Debug, Args)]
pub(crate) struct MovingArguments {
    /// Move its connections to the others as they become idle.
    #[arg(long = "move")]
    pub(crate) moves: bool,
    /// With --move: for so many seconds at most.
    #[arg(long = "for", requires = "moves", value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,
    /// With --move: connections of servers that do not speak HTTP/1.x move too, when both sides have been silent for so long.
    #[arg(long, requires = "moves", value_name = "MILLISECONDS")]
    pub(crate) quiet: Option<u32>,
    /// With --move: how many connections move to each target at once, 1 to 256 [32].
    #[arg(long, requires = "moves", value_name = "NUMBER", value_parser = at_once)]
    pub(crate) at_once: Option<usize>,
    /// End the moving; the stack stays drained.
    #[arg(long, conflicts_with = "moves")]
    pub(crate) stop_moving: bool,
}

fn at_once(word: &str) -> Result<usize, String> {
    let number = word.parse().ok().filter(|number| (1..=MAX_AT_ONCE).contains(number));
    number.ok_or_else(|| format!("1 to {MAX_AT_ONCE}"))
}

/// Which connections.
#[derive(Debug, Args)]
pub(crate) struct CrtArguments {
    /// The client: ADDRESS, ADDRESS:PORT or [IPV6]:PORT.
    #[arg(long, value_name = "CLIENT")]
    pub(crate) client: Option<ClientFilter>,
    /// The DVIPA.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dvipa: Option<IpAddr>,
    /// The DVIPA's port.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// The stack that has the connection.
    #[arg(long)]
    pub(crate) stack: Option<StackName>,
    /// The entry's state.
    #[arg(long, value_parser = state)]
    pub(crate) state: Option<CrtState>,
    /// Rows at most, up to 10000.
    #[arg(long, default_value_t = control::runtime::api::CRT_LIMIT)]
    pub(crate) limit: usize,
}

/// A state by its word.
fn state(word: &str) -> Result<CrtState, String> {
    CrtState::named(word).ok_or_else(|| format!("one of {}", CrtState::ALL.map(CrtState::name).join(", ")))
}

/// Of what a stack drains.
#[derive(Debug, Args)]
pub(crate) struct ScopeArguments {
    /// The stack.
    pub(crate) stack: StackName,
    /// Only for this DVIPA.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dvipa: Option<IpAddr>,
    /// Only for this port of it.
    #[arg(long, requires = "dvipa")]
    pub(crate) port: Option<u16>,
    /// The port's protocol: tcp (the default) or udp.
    #[arg(long, requires = "port", value_parser = protocol)]
    pub(crate) protocol: Option<Protocol>,
}

/// Which connection, and where to.
#[derive(Debug, Args)]
pub(crate) struct MoveArguments {
    /// The client's end of the connection, as `baton crt` shows it: ADDRESS:PORT or [IPV6]:PORT.
    pub(crate) client: SocketAddr,
    /// The other end: the DVIPA and its port.
    pub(crate) dvipa: SocketAddr,
    /// The stack, or the application on it: STACK or JOB@STACK.
    #[arg(value_parser = target, value_name = "TARGET")]
    pub(crate) target: MoveTarget,
    /// The connection is idle when both sides have been silent for so long, even if its server does not speak HTTP/1.x.
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) quiet: Option<u32>,
    /// How many seconds to wait for the outcome.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub(crate) wait: u64,
}

/// A stack, or an application on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MoveTarget {
    pub(crate) stack: StackName,
    pub(crate) job: Option<JobName>,
}

fn target(word: &str) -> Result<MoveTarget, String> {
    if word.contains('@') {
        let Target { stack, job } = word.parse().map_err(|e: BadTarget| e.to_string())?;
        return Ok(MoveTarget { stack, job: Some(job) });
    }
    let stack = StackName::new(word).map_err(|e| e.to_string())?;
    Ok(MoveTarget { stack, job: None })
}

/// Weights of a service.
#[derive(Debug, Args)]
pub(crate) struct WeightArguments {
    /// The service's DVIPA.
    pub(crate) dvipa: IpAddr,
    /// Its port.
    pub(crate) port: u16,
    /// STACK=WEIGHT, 0 to 65535; stacks that are not named keep theirs.
    #[arg(value_parser = weight, required_unless_present = "clear", value_name = "STACK=WEIGHT")]
    pub(crate) weights: Vec<(StackName, u16)>,
    /// Remove the weights that were set.
    #[arg(long, conflicts_with_all = ["weights", "seconds"])]
    pub(crate) clear: bool,
    /// How many seconds the weights hold.
    #[arg(long = "for", default_value_t = 60, value_name = "SECONDS")]
    pub(crate) seconds: u64,
    /// The service's protocol: tcp or udp.
    #[arg(long, default_value = "tcp", value_parser = protocol)]
    pub(crate) protocol: Protocol,
}

fn protocol(word: &str) -> Result<Protocol, String> {
    match word {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err("tcp or udp".to_owned()),
    }
}

fn weight(word: &str) -> Result<(StackName, u16), String> {
    let (stack, weight) = word.split_once('=').ok_or("write STACK=WEIGHT, for example t1=10")?;
    let stack = StackName::new(stack).map_err(|e| e.to_string())?;
    let weight = weight.parse().map_err(|_| format!("`{weight}` is no weight: 0 to 65535"))?;
    Ok((stack, weight))
}

/// Whose configuration file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// batond.toml
    Batond,
    /// agent.toml
    Agent,
}
