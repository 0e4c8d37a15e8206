//! All that the checks look at.

use std::path::{Path, PathBuf};

use control::config::Config;
use hyper::Method;
use serde_json::Value;
use transport::{Expiry, Identity, IdentityFiles};

use super::host::Host;
use crate::arguments::DoctorArguments;
use crate::client;
use crate::failure::Failure;

const BATOND: &str = "/etc/baton/batond.toml";
const AGENT: &str = "/etc/baton/agent.toml";

/// A host, what is to run on it, and what runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    pub(super) host: Host,
    pub(super) batond: Option<Batond>,
    pub(super) agent: Option<Agent>,
    /// Files that can't be read or have mistakes.
    pub(super) unreadable: Vec<PathBuf>,
    /// Of the programs that have a configuration: its file and when the certificate ends, or why it can't be used.
    pub(super) certificates: Vec<(PathBuf, Result<Expiry, String>)>,
    /// What the programs answer that run.
    pub(super) answers: Vec<Value>,
}

/// What a routing node's file asks of its host.
#[derive(Clone, Debug, Default)]
pub(super) struct Batond {
    pub(super) workers: Vec<u16>,
    /// DPDK's name of the NIC.
    pub(super) nic: String,
    /// The kernel's end of the local port.
    pub(super) local: String,
    pub(super) fabric_mtu: u32,
    pub(super) wants_hugepages: bool,
    pub(super) crt_file: Option<PathBuf>,
}

/// What an agent's file asks of its host.
#[derive(Clone, Debug, Default)]
pub(super) struct Agent {
    pub(super) interfaces: Vec<String>,
    pub(super) fabric_mtu: Option<u32>,
}

impl Picture {
    /// Of this host. Without a file for either program, it is looked at for both.
    pub(super) fn take(arguments: &DoctorArguments) -> Result<Self, Failure> {
        let mut picture = Self { host: Host::read(), ..Self::default() };
        let mut sockets = Vec::new();
        if let Some(file) = wanted(arguments.batond.as_deref(), BATOND) {
            match Config::load(&file) {
                Ok(config) => {
                    sockets.push(config.admin.socket.clone());
                    picture.batond = Some(Batond::of(&config));
                    let control::config::Cluster { ca, certificate, key, .. } = config.cluster;
                    picture.certify(IdentityFiles { ca, certificate, key }, &config.node.name);
                }
                Err(_) => picture.unreadable.push(file),
            }
        }
        if let Some(file) = wanted(arguments.agent.as_deref(), AGENT) {
            match agent::config::Config::load(&file) {
                Ok(config) => {
                    sockets.push(config.admin_socket.clone());
                    let fabric_mtu = config.node.fabric_mtu.map(u32::from);
                    picture.agent = Some(Agent { interfaces: config.node.interfaces, fabric_mtu });
                    let agent::config::Cluster { ca, certificate, key, .. } = config.cluster;
                    picture.certify(IdentityFiles { ca, certificate, key }, &config.node.name);
                }
                Err(_) => picture.unreadable.push(file),
            }
        }
        if picture.batond.is_none() && picture.agent.is_none() && picture.unreadable.is_empty() {
            picture.batond = Some(Batond { wants_hugepages: true, ..Batond::default() });
            picture.agent = Some(Agent::default());
        }
        picture.answers = sockets.iter().filter_map(|socket| answer(socket)).collect();
        Ok(picture)
    }

    fn certify(&mut self, files: IdentityFiles, name: &model::StackName) {
        let found = Identity::load(&files, name).map(|identity| identity.expires());
        self.certificates.push((files.certificate, found.map_err(|e| e.to_string())));
    }

    /// `batond and baton-agent`
    pub(super) fn roles(&self) -> String {
        let roles = [self.batond.as_ref().map(|_| "batond"), self.agent.as_ref().map(|_| "baton-agent")];
        roles.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}

impl Batond {
    fn of(config: &Config) -> Self {
        let forwarder = &config.forwarder;
        Self {
            workers: forwarder.workers.clone(),
            nic: forwarder.nic.device.clone(),
            local: forwarder.local.interface.clone(),
            fabric_mtu: forwarder.fabric_mtu.into(),
            wants_hugepages: !forwarder.eal.iter().any(|argument| argument == "--no-huge"),
            crt_file: forwarder.crt_file.clone(),
        }
    }
}

/// The file that is named, or the usual one if it is there.
fn wanted(named: Option<&Path>, usual: &str) -> Option<PathBuf> {
    named.map(Path::to_path_buf).or_else(|| Path::new(usual).exists().then(|| PathBuf::from(usual)))
}

/// What a program says of itself; none: it does not run.
fn answer(socket: &Path) -> Option<Value> {
    let asks = client::ask(socket, Method::GET, "/v1/status", Vec::new());
    serde_json::from_slice(&client::run(socket, asks).ok()?).ok()
}
