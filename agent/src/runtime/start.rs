//! How an agent starts.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use model::checksums::WrongChecksums;
use model::codec::Address;
use model::message::Hello;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use transport::{
    BindError, Endpoint, Identity, IdentityError, IdentityFiles, Listen, Renewal, Settings as SessionSettings,
};

use super::turns::Turns;
use super::witness::Witness;
use super::{Agent, QUESTIONS};
use crate::checks::Checks;
use crate::config::Config;
use crate::control_socket::{self, Applications};
use crate::counters::EVENTS_LOST;
use crate::environment::Environment;
use crate::machine::{Machine, Own};
use crate::ports::Ports;
use crate::rights::Refused;
use crate::system::changes::Changes;
use crate::system::ends::Ends;
use crate::system::events::Events as SocketEvents;
use crate::system::interfaces::{self, Interface, InterfaceError};
use crate::system::load::{Meter, Use};
use crate::system::programs::{ProgramError, Programs, Settings};
use crate::system::translated::Translated;
use crate::system::{netns_cookie, prepare_interfaces};
use crate::tokens::Tokens;
use crate::transfers::Transfers;
use crate::transfers::dumps::Dumps;
use crate::transfers::notes::Notes;

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate, key or CA, or the certificate is not this stack's.
    #[error("this stack's identity can't be used")]
    Identity(#[from] IdentityError),
    /// The socket of the sessions.
    #[error("sessions are not possible")]
    Sessions(#[from] BindError),
    /// An interface.
    #[error("forwarded packets could not arrive")]
    Interface(#[from] InterfaceError),
    /// A setting of the kernel.
    #[error("the kernel could not be prepared")]
    Setting(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The BPF programs.
    #[error("the BPF programs could not be put in force")]
    Programs(#[from] ProgramError),
    /// The control socket of applications.
    #[error("applications can't be let in at {path}: {cause}", path = path.display())]
    Applications {
        /// Its path.
        path: std::path::PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// What a restarted agent has to remember.
    #[error("transfers can't be noted in {path}: {cause}", path = path.display())]
    Notes {
        /// The directory.
        path: std::path::PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// What a running agent needs is not removed.
    #[error("nothing was removed: the agent is running (it answers on {}); stop it first", .0.display())]
    Running(std::path::PathBuf),
    /// Netlink, or the programs' events.
    #[error("the kernel does not tell of {what}: {cause}")]
    Kernel {
        /// Of what.
        what: &'static str,
        /// What it says.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub(super) fn kernel<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl FnOnce(E) -> StartError {
    move |cause| StartError::Kernel { what, cause: cause.into() }
}

impl Agent {
    /// Puts the programs in force and begins to dial the routing stacks. What a former run left in force stays so
    /// meanwhile. Must be called inside a current-thread tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; what was put in force until then stays.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let renewal = renewal(&config);
        let identity = identity(&config)?;
        let (netlink, changes) = Changes::subscribe().map_err(kernel("its addresses"))?;
        let interfaces = find_interfaces(&netlink, &config).await?;
        let raised =
            prepare_interfaces(&config.node.interfaces).map_err(|e| StartError::Setting(e.into()))?;
        raised.iter().for_each(|what| tracing::info!("{what}: set"));
        let netns_cookie = netns_cookie().map_err(kernel("its network namespace's number"))?;

        // The ends come first: what ends from now on is told, what ended before is in no picture.
        let ends = Ends::subscribe().map_err(kernel("the ends of sockets"))?;
        let translated = Translated::subscribe();
        let programs = Programs::start(&settings(&config, &interfaces, netns_cookie))?;
        programs.lacks().iter().for_each(|what| tracing::warn!("{what}"));
        let sockets = SocketEvents::open(&programs.maps).map_err(kernel("events of sockets"))?;
        // What was told before is in the first look.
        drop(sockets.take(usize::MAX));
        let in_force = |cause| ProgramError::Bpf { what: "read what is in force".to_owned(), cause };
        let inherited = programs.maps.inherited().map_err(in_force)?;
        let events_lost = programs.maps.counters().map_err(in_force)?.get(EVENTS_LOST).copied().unwrap_or(0);
        let dvipas: HashSet<_> = inherited.dvipas.keys().map(|d| d.address()).collect();
        if !dvipas.is_empty() {
            tracing::info!(dvipas = dvipas.len(), "took over what a former run left in force");
        }
        let own = Own {
            name: config.node.name.clone(),
            cluster_address: config.node.cluster_address,
            interfaces: interfaces.iter().map(|i| i.ifindex).collect(),
            routing_stacks: config.routing_stacks.iter().map(|s| s.name.clone()).collect(),
            repair: config.repair,
            unanswered: config.unanswered,
        };
        let at = config.notes();
        let notes = Notes::open(&at).map_err(|cause| StartError::Notes { path: at, cause })?;
        let at = config.dumps();
        let dumps =
            Dumps::open(&at, notes.0.ledger()).map_err(|cause| StartError::Notes { path: at, cause })?;
        let at = config.applications.socket.clone();
        let applications = Applications::open(control_socket::Settings::of(&config))
            .map_err(|cause| StartError::Applications { path: at, cause })?;
        let rules = config.applications.rules.clone();
        let kernel = super::transfers::kernel(&programs, &dvipas);
        let name = config.node.name.clone();
        let transfers = Transfers::start(
            name,
            incarnation(),
            notes,
            dumps,
            (applications, rules),
            &programs.abilities(),
            kernel,
        );
        let (endpoint, sessions) =
            Endpoint::bind(Listen::DialOnly, &identity, session_settings(&config, &interfaces))?;
        for stack in &config.routing_stacks {
            endpoint.dial(stack.name.clone(), stack.control);
        }
        let (asker, questions) = mpsc::channel(QUESTIONS);
        let (reloader, configs) = mpsc::channel(1);
        let now = Instant::now();
        Ok(Self {
            machine: Machine::new(own, inherited, now),
            netns_cookie,
            interfaces,
            to_containers: Vec::new(),
            ruled: BTreeSet::new(),
            programs,
            netlink,
            changes,
            environment: Environment::default(),
            wrong_checksums: WrongChecksums::default(),
            renewal,
            expires: identity.expires(),
            endpoint,
            sessions,
            sockets,
            ends,
            translated,
            tasks: JoinSet::new(),
            meter: Meter::new(now),
            used: Use::default(),
            events_lost,
            turns: Turns::default(),
            dvipas,
            transfers,
            witness: Witness::open(config.witness_file(), now),
            ports: Ports::default(),
            checks: Checks::new(config.checks.clone()),
            probes: JoinSet::new(),
            tokens: Tokens::default(),
            sweep: None,
            sweep_began: now,
            next_sweep: now,
            refused: Refused::default(),
            standings_changed: true,
            held: BTreeSet::new(),
            asked: Vec::new(),
            questions,
            asker,
            configs,
            reloader,
            config,
        })
    }
}

pub(super) fn identity(config: &Config) -> Result<Identity, StartError> {
    Ok(Identity::load(&identity_files(config), &config.node.name)?)
}

/// Of the files that are read next.
pub(super) fn renewal(config: &Config) -> Renewal {
    Renewal::new(identity_files(config), config.node.name.clone())
}

fn identity_files(config: &Config) -> IdentityFiles {
    IdentityFiles {
        ca: config.cluster.ca.clone(),
        certificate: config.cluster.certificate.clone(),
        key: config.cluster.key.clone(),
    }
}

fn session_settings(config: &Config, interfaces: &[Interface]) -> SessionSettings {
    let hello = Hello {
        stack: config.node.name.to_string(),
        cluster_addresses: config.node.cluster_address.iter().map(Address).collect(),
        incarnation: incarnation(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        heartbeat_ms: None,
        fabric_mtu: Some(fabric_mtu(config, interfaces)),
    };
    let (heartbeat, lost_after) = (config.cluster.heartbeat, config.cluster.lost_after);
    SessionSettings { hello, heartbeat, quiet_after: None, lost_after, beside: true }
}

/// A number that differs each time an agent starts.
fn incarnation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn netlink() -> Result<rtnetlink::Handle, StartError> {
    let open = || -> io::Result<_> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(handle)
    };
    open().map_err(kernel("its addresses"))
}

pub(super) async fn find_interfaces(
    netlink: &rtnetlink::Handle,
    config: &Config,
) -> Result<Vec<Interface>, InterfaceError> {
    let mut found = Vec::new();
    for name in &config.node.interfaces {
        found.push(interfaces::find(netlink, name).await?);
    }
    Ok(found)
}

pub(super) fn pin(config: &Config) -> std::path::PathBuf {
    config.bpf.pin.join(config.node.name.as_str())
}

/// The largest IP packet between the hosts, bytes.
pub(super) fn fabric_mtu(config: &Config, interfaces: &[Interface]) -> u16 {
    let smallest = interfaces.iter().map(|i| i.mtu).min().unwrap_or(1500);
    config.node.fabric_mtu.unwrap_or(u16::try_from(smallest).unwrap_or(u16::MAX))
}

pub(super) fn settings(config: &Config, interfaces: &[Interface], netns_cookie: u64) -> Settings {
    Settings {
        pin: pin(config),
        cgroup: config.bpf.cgroup.clone(),
        cluster_address: config.node.cluster_address,
        interfaces: interfaces.to_vec(),
        fabric_mtu: fabric_mtu(config, interfaces),
        own_v4: config.node.cluster_address.v4.or_else(|| interfaces.first()?.v4),
        own_v6: config.node.cluster_address.v6.or_else(|| interfaces.first()?.v6),
        container_mark: config.bpf.container_mark,
        netns_cookie,
        has_containers: !config.containers.is_empty(),
    }
}
