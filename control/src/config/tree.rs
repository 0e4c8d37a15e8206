//! What `batond.toml` says, after every check: plain values without places in a file.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use model::dpt::Encapsulation;
use model::{ClusterAddress, StackName};
use serde::{Deserialize, Serialize};
use tracing::Level;

use super::VipaDynamic;

/// A whole, valid configuration of a routing node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// How it speaks with the other stacks.
    pub cluster: Cluster,
    /// Where operators reach it.
    pub admin: Admin,
    /// The poll-mode forwarder.
    pub forwarder: Forwarder,
    /// Routes to the DVIPAs, for the node's routing daemon.
    pub announce: Option<Announce>,
    /// The other routing stacks of the cluster.
    pub routing_stacks: Vec<RoutingStack>,
    /// What differs for single stacks.
    pub stacks: Vec<StackOverride>,
    /// The DVIPAs: all `[[vipadynamic]]` blocks of the file, one after the other.
    pub vipadynamic: VipaDynamic,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The stack's name, as in its certificate.
    pub name: StackName,
    /// Outer source addresses of forwarded packets, and where targets send encapsulated first SYNs.
    pub cluster_address: ClusterAddress,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// UDP address on which sessions are accepted (QUIC).
    pub listen: SocketAddr,
    /// The cluster's certificate authority, PEM.
    pub ca: PathBuf,
    /// This stack's certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// A session that is silent for this long sends a heartbeat.
    pub heartbeat: Duration,
    /// A peer that was not heard for this long gets new connections only if no other can.
    pub quiet_after: Duration,
    /// A peer that was not heard for this long is lost.
    pub lost_after: Duration,
    /// The host of a peer that was lost for this long is taken for dead, whatever its neighbour entry says.
    pub dead_after: Option<Duration>,
    /// The stacks whose agents lease DVIPAs to routing stacks; none: etcd decides, or each routing stack alone.
    pub witnesses: BTreeSet<StackName>,
    /// The etcd that leases DVIPAs to routing stacks.
    pub etcd: Option<Etcd>,
    /// How long is leased after each ask.
    pub lease: Duration,
    /// Where the highest epoch is kept, if neither witnesses nor etcd decide.
    pub directory: PathBuf,
    /// UDP address on which the sessions of other routing stacks are accepted.
    pub peers_listen: SocketAddr,
    /// Another routing stack that was not heard for this long is dead: its DVIPAs are taken over.
    pub takeover_after: Duration,
}

/// `[cluster.etcd]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Where its members answer clients, as URLs; all with `http`, or all with `https`.
    pub endpoints: Vec<String>,
    /// What the keys of this cluster begin with.
    pub prefix: String,
    /// The authority of its members' certificates, PEM.
    pub ca: Option<PathBuf>,
    /// This node's certificate as its client and the private key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Who decides whether a routing stack may own a DVIPA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecidedBy {
    /// Each routing stack by itself.
    #[default]
    Itself,
    /// A majority of the witnesses.
    Witnesses,
    /// An etcd.
    Etcd,
}

impl DecidedBy {
    /// Whether leases say who owns a DVIPA, so that no two do.
    pub fn is_leased(self) -> bool {
        self != Self::Itself
    }
}

impl Cluster {
    /// Who decides whether this routing stack may own a DVIPA.
    pub fn decided_by(&self) -> DecidedBy {
        match &self.etcd {
            Some(_) => DecidedBy::Etcd,
            None if self.witnesses.is_empty() => DecidedBy::Itself,
            None => DecidedBy::Witnesses,
        }
    }
}

/// `[[routing_stack]]`: another `batond` of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingStack {
    /// Its stack's name, as in its certificate.
    pub name: StackName,
    /// Its `cluster.peers_listen`.
    pub address: SocketAddr,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The Unix socket of the admin API.
    pub socket: PathBuf,
    /// The TCP address of the Prometheus listener, if there is one.
    pub metrics: Option<SocketAddr>,
    /// The Unix socket of the Prometheus listener, if there is one.
    pub metrics_socket: Option<MetricsSocket>,
    /// The web page, if there is one.
    pub web: Option<Web>,
    /// Whether the file says what is in force, or the API.
    pub truth: Truth,
    /// What is worth a line in the log.
    pub log_level: Level,
}

/// What says which configuration is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truth {
    /// The file.
    #[default]
    File,
    /// What the admin API was told; it writes the file, and what others write there is not put in force.
    Api,
}

/// A Unix socket on which metrics are served: who may write to its file may read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsSocket {
    /// Where.
    pub path: PathBuf,
    /// The mode of its file.
    pub mode: u32,
    /// The group of its file, by number; as it comes if not given.
    pub group: Option<u32>,
}

/// The web page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Where it is served.
    pub address: SocketAddr,
    /// The file with the token that orders need; without one the page only shows.
    pub token: Option<PathBuf>,
    /// Names of this host that browsers may ask for, beside its addresses and `localhost`.
    pub hosts: Vec<String>,
}

/// `[forwarder]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarder {
    /// Cores, one poll-mode worker each; never empty, no core twice.
    pub workers: Vec<u16>,
    /// What a worker does when no packet comes.
    pub idle: Idle,
    /// Arguments of DPDK's environment abstraction layer, as they are.
    pub eal: Vec<String>,
    /// How packets are carried to stacks that `[[stack]]` says nothing of.
    pub encapsulation: Encapsulation,
    /// The largest IP packet, outer header included, that the cluster's fabric carries, in bytes.
    pub fabric_mtu: u16,
    /// Packets that wait in a receive queue at most.
    pub rx_descriptors: u16,
    /// Packets that wait in a send queue at most.
    pub tx_descriptors: u16,
    /// Where the CRT is, so that it outlives this process; none: in memory of its own.
    pub crt_file: Option<PathBuf>,
    /// Room for connections of IPv4 clients in the CRT.
    pub connections_v4: u32,
    /// Room for connections of IPv6 clients in the CRT.
    pub connections_v6: u32,
    /// Room for UDP flows, for each address family.
    pub flows_udp: u32,
    /// Room for half-open connections.
    pub half_open: u32,
    /// An established TCP connection without a packet for this long may be forgotten where the CRT is full.
    pub idle_tcp: Duration,
    /// A UDP flow without a packet for this long is forgotten.
    pub idle_udp: Duration,
    /// How long a half-open connection may stay so.
    pub half_open_life: Duration,
    /// How long the packets of an ended connection still reach its target.
    pub closing: Duration,
    /// The port on the network: `role = "nic"`.
    pub nic: NicPort,
    /// The port to this node's own kernel: `role = "local"`.
    pub local: LocalPort,
}

/// `[announce]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The kernel's routing table that has a route for each DVIPA that this stack owns, and no other.
    pub route_table: u32,
    /// The metric of these routes.
    pub metric: u32,
    /// For how long packets are still forwarded after the routes were withdrawn at the end of `batond`.
    pub withdrawn: Duration,
}

/// What a worker does when no packet comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// It polls on: for a core of its own.
    #[default]
    Pure,
    /// It gives the core away for ever longer moments.
    Backoff,
}

/// `[[forwarder.port]]` with `role = "nic"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicPort {
    /// A PCI address or a DPDK vdev with its arguments.
    pub device: String,
    /// The VLAN that packets are tagged with, 1 to 4094; untagged if none.
    pub vlan: Option<u16>,
}

/// `[[forwarder.port]]` with `role = "local"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPort {
    /// A DPDK vdev with its arguments.
    pub device: String,
    /// The name of the kernel's end.
    pub interface: String,
}

/// The interface of this kernel that a DPDK device stands on, if it does: the argument `iface` of its drivers for
/// AF_PACKET, AF_XDP and packet capture. Other drivers (net_tap, net_virtio_user) call the kernel's end so.
pub fn shared_interface(device: &str) -> Option<&str> {
    let stands_on_one =
        ["net_af_packet", "net_af_xdp", "net_pcap"].iter().any(|name| device.starts_with(name));
    device.split(',').filter(|_| stands_on_one).find_map(|argument| argument.strip_prefix("iface="))
}

/// `[[stack]]`: what differs for one stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackOverride {
    /// Which stack.
    pub name: StackName,
    /// How its packets are carried.
    pub encapsulation: Encapsulation,
}

impl Config {
    /// How packets are carried to `stack`.
    pub fn encapsulation_of(&self, stack: &StackName) -> Encapsulation {
        let own = self.stacks.iter().find(|s| s.name == *stack);
        own.map_or(self.forwarder.encapsulation, |s| s.encapsulation)
    }
}
