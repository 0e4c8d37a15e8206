//! What may be written in `agent.toml`, key by key.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) node: Node,
    pub(super) cluster: Cluster,
    pub(super) routing_stack: Spanned<Vec<RoutingStack>>,
    pub(super) admin: Option<Admin>,
    pub(super) applications: Option<Applications>,
    pub(super) application: Option<Vec<Application>>,
    pub(super) bpf: Option<Bpf>,
    pub(super) container: Option<Vec<Container>>,
    pub(super) check: Option<Vec<Check>>,
    pub(super) watch: Option<Watch>,
    pub(super) log: Option<Log>,
    pub(super) witness: Option<Witness>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) name: Spanned<String>,
    pub(super) cluster_address: Spanned<Vec<IpAddr>>,
    pub(super) interface: Spanned<OneOrMore>,
    pub(super) fabric_mtu: Option<Spanned<u16>>,
}

/// `"eth0"` or `["eth0", "eth1"]`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an interface's name in quotes, or a list of names")]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMore::One(name) => vec![name],
            OneOrMore::More(names) => names,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) heartbeat_ms: Option<Spanned<u32>>,
    pub(super) lost_after_ms: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoutingStack {
    pub(super) name: Spanned<String>,
    pub(super) control: SocketAddr,
    pub(super) dvipas: Option<Vec<IpNet>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) socket: Option<PathBuf>,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) metrics_socket: Option<PathBuf>,
    pub(super) metrics_mode: Option<Spanned<u32>>,
    pub(super) metrics_group: Option<Spanned<Who>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Applications {
    pub(super) socket: Option<PathBuf>,
    pub(super) mode: Option<Spanned<u32>>,
    pub(super) group: Option<Spanned<Who>>,
    pub(super) users: Option<Vec<Spanned<Who>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Application {
    pub(super) user: Option<Spanned<Who>>,
    pub(super) group: Option<Spanned<Who>>,
    pub(super) role: Spanned<Role>,
    pub(super) dvipa: Option<Vec<Spanned<String>>>,
    pub(super) ports: Option<Vec<Spanned<u16>>>,
    pub(super) job: Option<Vec<Spanned<String>>>,
    pub(super) hold_accepts: Option<Spanned<bool>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Routing,
    Target,
}

impl From<Role> for model::control_socket::request::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Routing => Self::Routing,
            Role::Target => Self::Target,
        }
    }
}

/// A user or a group.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a name in quotes, or a number")]
pub(super) enum Who {
    Number(u32),
    Name(String),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bpf {
    pub(super) pin: Option<PathBuf>,
    pub(super) cgroup: Option<PathBuf>,
    pub(super) container_mark: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Container {
    pub(super) protocol: Option<Protocol>,
    pub(super) port: Spanned<u16>,
    pub(super) dvipa: Option<IpAddr>,
    pub(super) address: SocketAddr,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl From<Protocol> for model::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub(super) kind: Spanned<Kind>,
    pub(super) protocol: Option<Protocol>,
    pub(super) ports: Spanned<Vec<Spanned<u16>>>,
    pub(super) dvipa: Option<Vec<Spanned<String>>>,
    pub(super) interval_s: Option<Spanned<u32>>,
    pub(super) timeout_ms: Option<Spanned<u32>>,
    pub(super) rise: Option<Spanned<u32>>,
    pub(super) fall: Option<Spanned<u32>>,
    pub(super) path: Option<Spanned<String>>,
    pub(super) host: Option<Spanned<String>>,
    pub(super) status: Option<Spanned<Vec<u16>>>,
    pub(super) service: Option<Spanned<String>>,
    pub(super) command: Option<Spanned<Vec<String>>>,
}

/// What a check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Tcp,
    Http,
    Grpc,
    Script,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Watch {
    pub(super) repair_s: Option<Spanned<u32>>,
    pub(super) unanswered_s: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Witness {
    pub(super) directory: Option<PathBuf>,
}
