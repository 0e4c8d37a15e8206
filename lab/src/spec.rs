//! What a lab consists of.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::dpt::Encapsulation;

/// The client's addresses.
pub const CLIENT: (Ipv4Addr, Ipv6Addr) = host(2);
/// The routing node's addresses (its kernel's: the DVIPAs are the forwarder's).
pub const RT1: (Ipv4Addr, Ipv6Addr) = host(10);
/// As [`RT1`], of the second routing node.
pub const RT2: (Ipv4Addr, Ipv6Addr) = host(11);
/// As [`RT1`], of the third routing node.
pub const RT3: (Ipv4Addr, Ipv6Addr) = host(13);
/// A router between the client and the segment, whose BIRD learns from the routing nodes' where the DVIPAs are.
pub const EDGE: &str = "edge";
/// The router's addresses on the segment.
pub const EDGE_ADDRESS: (Ipv4Addr, Ipv6Addr) = host(1);
/// The router's addresses at the client's side.
pub const EDGE_FAR: (Ipv4Addr, Ipv6Addr) = far(1);
/// The client's addresses behind the router.
pub const CLIENT_FAR: (Ipv4Addr, Ipv6Addr) = far(2);
/// A host like the routing node whose own kernel has its interface: for a proxy that is to be compared with it.
pub const PROXY: &str = "px";
/// The host that floods come from, at the client's side of the segment.
pub const FLOODER: &str = "flooder";
/// The proxy host's addresses.
pub const PROXY_ADDRESS: (Ipv4Addr, Ipv6Addr) = host(PROXY_NUMBER);
/// The proxy host's number.
pub const PROXY_NUMBER: u8 = 12;
/// The DVIPAs that the default specification distributes.
pub const DVIPA: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 18, 9, 1), Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1));

/// The addresses of the host with this number: 198.18.0.n (RFC 2544) and 2001:db8::n with the same decimal digits
/// (RFC 3849).
pub const fn host(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    let digits = (number / 100) as u16 * 256 + (number / 10 % 10) as u16 * 16 + (number % 10) as u16;
    (Ipv4Addr::new(198, 18, 0, number), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, digits))
}

/// The addresses with this number, below 10, of the link between the client and the router.
const fn far(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(198, 18, 1, number), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number as u16))
}

/// The hosts of the members of etcd, and their numbers.
pub const ETCD: [(&str, u8); 3] = [("e1", 31), ("e2", 32), ("e3", 33)];

/// The number of target `t<index>`, counted from 1.
pub const fn target(index: u8) -> u8 {
    20 + index
}

/// The number of a routing node or a target; 0 if it is neither.
pub fn number(host: &str) -> u8 {
    let node = RoutingNode::ALL.into_iter().find(|node| node.name() == host);
    let index = || host.strip_prefix('t')?.parse().ok();
    node.map(RoutingNode::number).or_else(|| index().map(target)).unwrap_or_default()
}

/// An nginx on a target.
#[derive(Clone, Debug)]
pub struct Web {
    /// On which target, for example `t1`.
    pub stack: String,
    /// What it listens on, as nginx's `listen` wants it.
    pub listen: Vec<String>,
}

impl Web {
    /// An nginx that listens on port 80 of all addresses.
    pub fn wildcard(stack: &str) -> Self {
        Self { stack: stack.to_owned(), listen: vec!["80".into(), "[::]:80 ipv6only=on".into()] }
    }

    /// The same server listens on port 443 too, with the stack's certificate.
    #[must_use]
    pub fn and_tls(mut self) -> Self {
        self.listen.extend(["443 ssl".into(), "[::]:443 ssl ipv6only=on".into()]);
        self
    }
}

/// How the routing node's DPDK is attached to its end of the veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nic {
    /// A packet socket. tcpdump on the same interface sees all packets. DPDK 22.11 has the kernel put IPv4 fragments
    /// together on the way (`PACKET_FANOUT_FLAG_DEFRAG`), so that the forwarder never sees any.
    AfPacket,
    /// An XDP socket: the forwarder gets every packet as it is, and tcpdump on the same interface gets none.
    AfXdp,
    /// libpcap on two interfaces, a receive queue each: `eth1` has the later fragments of IPv4, which the segment sends there, and
    /// `eth0` everything else.
    Pcap,
    /// A PCI device of a virtual machine that `rt1` is.
    Pci(Machine),
}

/// A routing node in a virtual machine: its NIC, and its local port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// What QEMU emulates.
    pub model: Model,
    /// The NIC is bound to vfio-pci, behind an emulated IOMMU; otherwise to uio_pci_generic.
    pub vfio: bool,
    /// How `batond` reaches the guest's kernel.
    pub local: Local,
    /// The NIC stays with its kernel driver, and `batond` has a TAP before it ([`Self::TAP`]): of the drivers here, net_tap alone
    /// steers packets (rte_flow). There is one worker, because it steers to single queues.
    pub tap: bool,
}

impl Machine {
    /// The TAP before the NIC.
    pub const TAP: &str = "tap1";

    /// A machine with this NIC, bound to uio_pci_generic, and a veth pair.
    pub fn new(model: Model) -> Self {
        Self { model, vfio: false, local: Local::Veth, tap: false }
    }

    /// The kernel's driver that leaves the NIC to DPDK; none for its own choice.
    pub fn kernel_driver(self) -> &'static str {
        match (self.tap, self.vfio) {
            (true, _) => "",
            (false, true) => "vfio-pci",
            (false, false) => "uio_pci_generic",
        }
    }

    /// The cores of the workers.
    pub fn workers(self) -> &'static [usize] {
        if self.tap { &[1] } else { &[1, 2] }
    }

    /// Queue pairs that the wire has: only virtio-net's are the host's too.
    pub fn tap_queues(self) -> u8 {
        if self.model == Model::VirtioNet && !self.tap { 2 } else { 1 }
    }
}

/// A NIC that QEMU emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Intel 82540EM.
    E1000,
    /// Intel 82574L.
    E1000e,
    /// Intel 82576, with 16 queues and RSS; QEMU 8 and newer.
    Igb,
    /// Virtio, with two queue pairs.
    VirtioNet,
    /// VMware's.
    Vmxnet3,
}

impl Model {
    /// What QEMU calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::E1000 => "e1000",
            Self::E1000e => "e1000e",
            Self::Igb => "igb",
            Self::VirtioNet => "virtio-net-pci",
            Self::Vmxnet3 => "vmxnet3",
        }
    }
}

/// What a guest's local port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// One end of a veth pair, as the kernel makes it: with its own addresses and all offloads.
    Veth,
    /// A TAP interface, which the driver net_tap opens.
    Tap,
    /// A TAP interface behind the kernel's vhost-net, which the driver net_virtio_user opens.
    VirtioUser,
}

/// A host with a `batond`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingNode {
    /// `rt1`, which every lab has.
    First,
    /// `rt2`.
    Second,
    /// `rt3`.
    Third,
}

impl RoutingNode {
    /// All that a lab can have, in their order.
    pub const ALL: [Self; 3] = [Self::First, Self::Second, Self::Third];

    /// Its stack's and its host's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "rt1",
            Self::Second => "rt2",
            Self::Third => "rt3",
        }
    }

    /// The number in its Ethernet and IP addresses.
    pub fn number(self) -> u8 {
        match self {
            Self::First => 10,
            Self::Second => 11,
            Self::Third => 13,
        }
    }

    /// Which of the further routing nodes it is, if it is one.
    fn further(self) -> Option<usize> {
        match self {
            Self::First => None,
            Self::Second => Some(0),
            Self::Third => Some(1),
        }
    }

    /// Its kernel's addresses.
    pub fn addresses(self) -> (Ipv4Addr, Ipv6Addr) {
        host(self.number())
    }

    /// What the lab calls its `batond`; its configuration is in the file of that name with `.toml`.
    pub fn batond(self) -> &'static str {
        match self {
            Self::First => "batond",
            Self::Second => "batond-rt2",
            Self::Third => "batond-rt3",
        }
    }
}

/// A lab to build. [`Spec::default`] is the demo's: three targets, both DVIPAs, port 80, round robin, GUE.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Stacks with an agent: `t1` to this number, at most 9.
    pub targets: u8,
    /// How packets reach the targets.
    pub encapsulation: Encapsulation,
    /// Another encapsulation for single targets.
    pub encapsulation_of: BTreeMap<String, Encapsulation>,
    /// Targets have no IPv4 cluster address, so that outer headers are IPv6.
    pub outer_v6: bool,
    /// The `[[vipadynamic]]` tables of `batond.toml`.
    pub vipadynamic: String,
    /// The DPDK device on the segment.
    pub nic: Nic,
    /// The nginx servers.
    pub web: Vec<Web>,
    /// Each routing node has an agent beside `batond`, so that its own kernel is one more stack: `rt1`.
    pub routing_agent: bool,
    /// There are further routing nodes, `rt2` and `rt3` or `rt2` alone, with these `[[vipadynamic]]` tables.
    pub others: Vec<String>,
    /// The targets lease DVIPAs to the routing nodes: `cluster.witnesses`.
    pub witnessed: bool,
    /// There are three hosts, [`ETCD`], with a member of an etcd each, which leases DVIPAs to the routing nodes: `[cluster.etcd]`.
    pub etcd: bool,
    /// There is a router [`EDGE`] between the client and the segment. The segment has 198.18.0.0/24 and 2001:db8::/64 then.
    pub edge: bool,
    /// There is a host [`PROXY`].
    pub proxy: bool,
    /// There is a host [`FLOODER`], and every other host drops what it would send to a spoofed source.
    pub flooder: bool,
    /// The routing nodes have one worker that never sleeps, whose NIC has a long receive queue.
    pub tireless: bool,
    /// The routing node has one worker, which leaves the other core to all else.
    pub one_worker: bool,
    /// Targets that are virtual machines, and the kernel of each: one that `scripts/guest` has made by this name.
    pub kernels: BTreeMap<String, String>,
    /// Largest packet between the hosts, bytes.
    pub fabric_mtu: u16,
    /// IPv4 connections that the routing nodes' CRTs have room for.
    pub connections: u32,
    /// The table `[announce]` of `batond.toml`, or nothing.
    pub announce: String,
    /// Further lines of `[forwarder]` in `batond.toml`.
    pub forwarder: String,
}

impl Default for Spec {
    fn default() -> Self {
        let all = ["t1", "t2", "t3"];
        Self {
            targets: 3,
            encapsulation: Encapsulation::Gue,
            encapsulation_of: BTreeMap::new(),
            outer_v6: false,
            vipadynamic: both_families("ports = [80]\ndestip = \"all\"\nmethod = \"round-robin\""),
            nic: Nic::AfPacket,
            web: all.into_iter().map(Web::wildcard).collect(),
            routing_agent: false,
            others: Vec::new(),
            witnessed: false,
            etcd: false,
            edge: false,
            proxy: false,
            flooder: false,
            tireless: false,
            one_worker: false,
            kernels: BTreeMap::new(),
            fabric_mtu: 1500,
            connections: 200_000,
            announce: String::new(),
            forwarder: String::new(),
        }
    }
}

impl Spec {
    /// The same lab with another encapsulation.
    pub fn encapsulation(mut self, encapsulation: Encapsulation) -> Self {
        self.encapsulation = encapsulation;
        self
    }

    /// The same lab with other `[[vipadynamic]]` tables.
    pub fn vipadynamic(mut self, tables: impl Into<String>) -> Self {
        self.vipadynamic = tables.into();
        self
    }

    /// A lab whose port 80 is content-routed: a routing application of the routing node has each client first.
    pub fn content_routed() -> Self {
        let tables = both_families("ports = [80]\ndestip = \"all\"\ncontent_routed = true");
        Self { routing_agent: true, ..Self::default().vipadynamic(tables).web([]) }
    }

    /// How many workers a routing node has where there are as many cores: two, between whose queues the kernel spreads packets.
    /// Two that never sleep would leave the programs no core, and DPDK's XDP sockets have one queue on a veth, which names no
    /// channels (ethtool(8)).
    pub fn workers(&self) -> usize {
        if self.tireless || self.one_worker || self.nic == Nic::AfXdp { 1 } else { 2 }
    }

    /// The same lab with a second routing node, `rt2`, that has these `[[vipadynamic]]` tables.
    pub fn second(mut self, tables: impl Into<String>) -> Self {
        self.others.push(tables.into());
        self
    }

    /// The same lab, which has a second one, with a third routing node, `rt3`, that has these `[[vipadynamic]]` tables.
    pub fn third(self, tables: impl Into<String>) -> Self {
        self.second(tables)
    }

    /// The same lab, whose targets lease DVIPAs to the routing nodes.
    pub fn witnessed(mut self) -> Self {
        self.witnessed = true;
        self
    }

    /// The same lab, in which an etcd leases DVIPAs to the routing nodes.
    pub fn etcd(mut self) -> Self {
        self.etcd = true;
        self
    }

    /// The same lab with a router between the client and the segment.
    pub fn edge(mut self) -> Self {
        self.edge = true;
        self
    }

    /// The routing nodes.
    pub fn routing_nodes(&self) -> &'static [RoutingNode] {
        const ALL: &[RoutingNode] = &RoutingNode::ALL;
        ALL.get(..=self.others.len()).unwrap_or(ALL)
    }

    /// The `[[vipadynamic]]` tables of a routing node.
    pub fn tables_of(&self, node: RoutingNode) -> &str {
        let further = || self.others.get(node.further()?);
        further().unwrap_or(&self.vipadynamic)
    }

    /// Changes the `[[vipadynamic]]` tables of a routing node.
    pub(crate) fn set_tables_of(&mut self, node: RoutingNode, tables: String) {
        let further = node.further().and_then(|n| self.others.get_mut(n));
        *further.unwrap_or(&mut self.vipadynamic) = tables;
    }

    /// Length of the prefixes of the segment.
    pub(crate) fn segment_prefixes(&self) -> (u8, u8) {
        if self.edge { (24, 64) } else { (15, 32) }
    }

    /// The virtual machine that `rt1` is, if it is one.
    pub fn machine(&self) -> Option<Machine> {
        if let Nic::Pci(machine) = self.nic { Some(machine) } else { None }
    }

    /// Whether this host is a virtual machine.
    pub fn is_guest(&self, host: &str) -> bool {
        self.guests().any(|guest| guest == host)
    }

    /// The hosts that are virtual machines.
    pub fn guests(&self) -> impl Iterator<Item = &str> {
        let routing_node = self.machine().map(|_| RoutingNode::First.name());
        routing_node.into_iter().chain(self.kernels.keys().map(String::as_str))
    }

    /// The stacks that have an agent.
    pub fn agents(&self) -> Vec<String> {
        let routing = self.routing_nodes().iter().filter(|_| self.routing_agent);
        let routing = routing.map(|node| node.name().to_owned());
        routing.chain((1..=self.targets).map(|index| format!("t{index}"))).collect()
    }

    /// The same lab with these further lines of `[forwarder]`.
    #[must_use]
    pub fn forwarder(mut self, lines: &str) -> Self {
        self.forwarder = format!("{lines}\n");
        self
    }

    /// The same lab, whose routing nodes have routes to their DVIPAs, with these lines of `[announce]`.
    #[must_use]
    pub fn announce(mut self, lines: &str) -> Self {
        self.announce = format!("[announce]\n{lines}\n\n");
        self
    }

    /// The same lab with other nginx servers.
    pub fn web(mut self, web: impl IntoIterator<Item = Web>) -> Self {
        self.web = web.into_iter().collect();
        self
    }
}

/// `[[vipadynamic]]` with both default DVIPAs, each distributed by one VIPADISTRIBUTE with these keys.
pub fn both_families(distribute: &str) -> String {
    let (v4, v6) = (IpAddr::from(DVIPA.0), IpAddr::from(DVIPA.1));
    format!("[[vipadynamic]]\n{}{}", dvipa(v4, 24, &[distribute]), dvipa(v6, 64, &[distribute]))
}

/// `[[vipadynamic]]` with the default IPv4 DVIPA, distributed by VIPADISTRIBUTEs with these keys, one each.
pub fn ipv4_only(distributes: &[&str]) -> String {
    format!("[[vipadynamic]]\n{}", dvipa(DVIPA.0.into(), 24, distributes))
}

/// The definition of a DVIPA.
pub fn dvipa(address: IpAddr, mask: u8, distributes: &[&str]) -> String {
    let define = format!(
        "[[vipadynamic.vipadefine]]\naddress = \"{address}\"\nmask = {mask}\nmoveable = \"immediate\"\n"
    );
    let each = |keys: &&str| format!("[[vipadynamic.vipadistribute]]\naddress = \"{address}\"\n{keys}\n");
    define + &distributes.iter().map(each).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_the_same_digits_in_both_families() {
        let (v4, v6) = host(21);
        assert_eq!((v4.to_string().as_str(), v6.to_string().as_str()), ("198.18.0.21", "2001:db8::21"));
    }
}
