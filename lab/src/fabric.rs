//! The lab's hosts and the segment that joins them.
//!
//! A bridge in a namespace of its own is the segment; every host has one end of a veth pair in it. A routing node
//! has two interfaces: `eth0` on the segment, which belongs to the forwarder, and `loc0`, where its kernel sits, whose
//! veth peer `loc1` is the forwarder's local port.

use crate::error::Result;
use crate::flood;
use crate::guest;
use crate::impair::{Impairment, Link};
use crate::namespace::{Namespace, output_of};
use crate::registry::Record;
use crate::spec::{self, CLIENT, CLIENT_FAR, EDGE, EDGE_ADDRESS, EDGE_FAR, Nic, RoutingNode, Spec};

/// The number of a router between a host and the segment.
const ROUTER: u8 = 254;

/// The namespaces of a lab.
#[derive(Debug)]
pub struct Fabric {
    id: String,
    switch: Namespace,
    hosts: Vec<(String, Namespace)>,
    /// Lengths of the segment's prefixes.
    prefixes: (u8, u8),
    edge: bool,
}

impl Fabric {
    /// Makes namespaces, bridge, links, addresses.
    ///
    /// # Errors
    /// What the first failing command says.
    pub fn build(spec: &Spec, record: &Record) -> Result<Self> {
        let switch = make_namespace(record, "fabric")?;
        switch.sh("ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
             ip link set br0 up
             for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done")?;
        let (id, prefixes, edge) = (record.id().to_owned(), spec.segment_prefixes(), spec.edge);
        let mut fabric = Self { id, switch, hosts: Vec::new(), prefixes, edge };
        fabric.add_host(record, "client", 2, (spec.fabric_mtu, 1))?;
        if spec.edge {
            fabric.put_edge_before_client(record, spec.fabric_mtu)?;
        } else {
            fabric.set_addresses("client", "eth0", CLIENT)?;
        }
        for node in spec.routing_nodes() {
            fabric.add_host(record, node.name(), node.number(), (spec.fabric_mtu, spec.workers()))?;
            match spec.machine() {
                Some(machine) => {
                    let host = fabric.host(node.name());
                    guest::wire(host, node.number(), machine.tap_queues(), spec.fabric_mtu)?;
                }
                None => fabric.set_up_routing_node(*node, spec.fabric_mtu)?,
            }
            if spec.nic == Nic::Pcap {
                fabric.give_fragments_a_link(node.name())?;
            }
        }
        if spec.proxy {
            fabric.add_host(record, spec::PROXY, spec::PROXY_NUMBER, (spec.fabric_mtu, 1))?;
            fabric.set_addresses(spec::PROXY, "eth0", spec::PROXY_ADDRESS)?;
        }
        for (name, number) in spec::ETCD.into_iter().filter(|_| spec.etcd) {
            fabric.add_host(record, name, number, (spec.fabric_mtu, 1))?;
            fabric.set_addresses(name, "eth0", spec::host(number))?;
        }
        for index in 1..=spec.targets {
            let (name, number) = (format!("t{index}"), spec::target(index));
            if spec.is_guest(&name) {
                fabric.add_host(record, &name, number, (spec.fabric_mtu, 1))?;
                guest::wire(fabric.host(&name), number, 1, spec.fabric_mtu)?;
            } else {
                fabric.add_target(record, index, spec.fabric_mtu)?;
            }
        }
        if spec.flooder {
            let (v4, v6) = flood::SOURCES;
            for (_, host) in &fabric.hosts {
                host.sh(&format!("ip route add blackhole {v4}; ip -6 route add blackhole {v6}"))?;
            }
            fabric.add_host(record, spec::FLOODER, 3, (spec.fabric_mtu, 1))?;
            fabric.set_addresses(spec::FLOODER, "eth0", spec::host(3))?;
        }
        Ok(fabric)
    }

    /// Adds the host of target `t<index>`.
    ///
    /// # Errors
    /// What the first failing command says.
    pub fn add_target(&mut self, record: &Record, index: u8, mtu: u16) -> Result<()> {
        let (name, number) = (format!("t{index}"), spec::target(index));
        self.add_host(record, &name, number, (mtu, 1))?;
        self.set_addresses(&name, "eth0", spec::host(number))
    }

    /// Cuts a host's link and joins it again with a thread that carries the frames, and may lose some.
    ///
    /// # Errors
    /// What the first failing command says, or [`LabError::File`](crate::LabError::File) without packet sockets.
    pub fn cut(&self, name: &str, mtu: u16, impairment: Impairment, seed: u64) -> Result<Link> {
        let (near, far) = (format!("{name}-in"), format!("{name}-out"));
        self.switch.sh(&format!(
            "ip link set {name} nomaster
             ip link add {near} mtu {mtu} type veth peer name {far} mtu {mtu}
             for l in {name} {near} {far}; do
                 ethtool -K $l tx off gso off tso off gro off >/dev/null
                 echo 1 >/proc/sys/net/ipv6/conf/$l/disable_ipv6
                 ip link set $l arp off
             done
             ip link set {far} master br0 up
             ip link set {near} up"
        ))?;
        Link::join(&self.switch, (name, &near), impairment, seed)
    }

    /// Puts a router between a host and the segment, whose link to the host has this MTU. It answers ARP for either side; rt1
    /// has a route over it.
    ///
    /// # Errors
    /// What the first failing command says.
    pub fn put_behind_router(&mut self, record: &Record, name: &str, address: &str, mtu: u16) -> Result<()> {
        let router = make_namespace(record, "router")?;
        self.switch.sh(&format!(
            "ip link set {name} nomaster
             ip link set {name} netns {ns}
             ip link add router type veth peer name eth0 netns {ns}
             ethtool -K router tx off gso off tso off gro off >/dev/null
             ip link set router master br0 up",
            ns = router.name(),
        ))?;
        let (gateway, _) = spec::host(ROUTER);
        router.sh(&format!(
            "ethtool -K eth0 tx off gso off tso off gro off >/dev/null
             echo 1 >/proc/sys/net/ipv4/ip_forward
             for k in all default eth0 {name}; do
                 echo 0 >/proc/sys/net/ipv4/conf/$k/rp_filter
                 echo 0 >/proc/sys/net/ipv4/conf/$k/send_redirects
                 echo 1 >/proc/sys/net/ipv4/conf/$k/proxy_arp
             done
             for k in eth0 {name}; do echo 0 >/proc/sys/net/ipv4/neigh/$k/proxy_delay; done
             ip link set lo up
             ip link set eth0 address {mac} up
             ip link set {name} mtu {mtu} up
             ip addr add {gateway}/15 dev eth0
             ip route add {address}/32 dev {name}",
            mac = mac(ROUTER),
        ))?;
        self.host(RoutingNode::First.name())
            .sh(&format!("ip route add {address}/32 via {gateway} dev loc0"))?;
        // It has learnt where the others are on the segment.
        self.host(name).sh("ip neigh flush dev eth0")?;
        self.hosts.push(("router".to_owned(), router));
        Ok(())
    }

    /// Puts the router between the client and the segment: it has the client's link on `far`. Equal routes share the clients by
    /// addresses and ports.
    fn put_edge_before_client(&mut self, record: &Record, mtu: u16) -> Result<()> {
        self.add_host(record, EDGE, 1, (mtu, 1))?;
        self.host(EDGE).sh("echo 1 >/proc/sys/net/ipv4/ip_forward
             echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
             echo 1 >/proc/sys/net/ipv4/fib_multipath_hash_policy
             echo 1 >/proc/sys/net/ipv6/fib_multipath_hash_policy")?;
        self.set_addresses(EDGE, "eth0", EDGE_ADDRESS)?;
        self.switch.sh(&format!(
            "ip link set client nomaster
             ip link set client netns {} name far",
            self.host(EDGE).name()
        ))?;
        let (v4, v6) = EDGE_FAR;
        self.host(EDGE).sh(&format!(
            "ethtool -K far tx off gso off tso off gro off >/dev/null
             echo 0 >/proc/sys/net/ipv4/conf/far/rp_filter
             echo 0 >/proc/sys/net/ipv6/conf/far/accept_dad
             ip link set far up
             ip addr add {v4}/24 dev far
             ip addr add {v6}/64 dev far nodad"
        ))?;
        let (own4, own6) = CLIENT_FAR;
        self.host("client")
            .sh(&format!(
                "ip link set eth0 up
                 ip addr add {own4}/24 dev eth0
                 ip addr add {own6}/64 dev eth0 nodad
                 ip route add default via {v4}
                 ip -6 route add default via {v6}"
            ))
            .map(drop)
    }

    /// From now on the segment loses all frames from any of these hosts to any of those. Frames that are under way for other hosts, and
    /// those of the other direction, are carried as before.
    ///
    /// # Errors
    /// What the command says.
    pub fn lose(&self, from: &[&str], to: &[&str]) -> Result<()> {
        // A host whose link misbehaves has its port behind the cut.
        let ports = |hosts: &[&str]| {
            let each = hosts.iter().flat_map(|host| [format!("\"{host}\""), format!("\"{host}-out\"")]);
            each.collect::<Vec<_>>().join(", ")
        };
        self.switch.sh(&format!(
            "nft 'add table bridge cuts
                  add chain bridge cuts forward {{ type filter hook forward priority 0; }}
                  add rule bridge cuts forward iifname {{ {} }} oifname {{ {} }} drop'",
            ports(from),
            ports(to)
        ))?;
        Ok(())
    }

    /// The segment carries all frames again.
    ///
    /// # Errors
    /// What the command says.
    pub fn mend(&self) -> Result<()> {
        self.switch.sh("nft 'add table bridge cuts; delete table bridge cuts'").map(drop)
    }

    /// Gives a host's link another MTU.
    ///
    /// # Errors
    /// What the first failing command says.
    pub fn set_link_mtu(&self, name: &str, mtu: u16) -> Result<()> {
        self.switch.sh(&format!(
            "for l in {name} {name}-in {name}-out; do
                 ! ip link show $l >/dev/null 2>&1 || ip link set $l mtu {mtu}
             done"
        ))?;
        self.host(name).sh(&format!("ip link set eth0 mtu {mtu}")).map(drop)
    }

    /// Where the segment is: a bridge, with a port for each host that has the host's name.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// A host's namespace.
    ///
    /// # Panics
    /// If the lab has no such host.
    pub fn host(&self, name: &str) -> &Namespace {
        let found = self.hosts.iter().find(|(n, _)| n == name);
        found.map(|(_, ns)| ns).unwrap_or_else(|| panic!("lab {} has no host `{name}`", self.id))
    }

    /// Names and namespaces of all hosts.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &Namespace)> {
        self.hosts.iter().map(|(name, ns)| (name.as_str(), ns))
    }

    fn add_host(
        &mut self,
        record: &Record,
        name: &str,
        number: u8,
        (mtu, queues): (u16, usize),
    ) -> Result<()> {
        let ns = make_namespace(record, name)?;
        let script = format!(
            "ip link add {name} {queues} type veth peer name eth0 netns {ns} {queues}
             ip link set {name} mtu {mtu} master br0 up
             ethtool -K {name} tx off gso off tso off gro off >/dev/null",
            ns = ns.name(),
            queues = format!("numtxqueues {queues} numrxqueues {queues}"),
        );
        self.switch.sh(&script)?;
        ns.sh(&format!(
            "ip link set lo up
             for k in all default lo eth0; do
                 echo 0 >/proc/sys/net/ipv4/conf/$k/rp_filter
                 echo 0 >/proc/sys/net/ipv6/conf/$k/accept_dad
                 echo 0 >/proc/sys/net/ipv6/conf/$k/accept_ra
                 echo 0 >/proc/sys/net/ipv4/conf/$k/send_redirects
             done
             ip link set eth0 address {mac} mtu {mtu}
             ethtool -K eth0 tx off gso off tso off gro off >/dev/null",
            mac = mac(number),
        ))?;
        self.hosts.push((name.to_owned(), ns));
        Ok(())
    }

    /// Without a router the whole of both test networks is on the segment, the DVIPAs included.
    fn set_addresses(
        &self,
        name: &str,
        interface: &str,
        addresses: (impl ToString, impl ToString),
    ) -> Result<()> {
        let (v4, v6) = (addresses.0.to_string(), addresses.1.to_string());
        let (len4, len6) = self.prefixes;
        let mut script = format!(
            "ip link set {interface} up
             ip addr add {v4}/{len4} dev {interface}
             ip addr add {v6}/{len6} dev {interface} nodad"
        );
        if self.edge && name != EDGE {
            let (via4, via6) = EDGE_ADDRESS;
            script += &format!("\nip route add default via {via4}\nip -6 route add default via {via6}");
        }
        self.host(name).sh(&script).map(drop)
    }

    /// A second interface, `eth1`: the segment sends the later fragments of IPv4 there, and everything else to `eth0`.
    fn give_fragments_a_link(&self, name: &str) -> Result<()> {
        let host = self.host(name);
        self.switch.sh(&format!(
            "ip link add {name}-1 type veth peer name eth1 netns {ns}
             echo 1 >/proc/sys/net/ipv6/conf/{name}-1/disable_ipv6
             ip link set {name}-1 arp off up
             nft 'add table netdev fragments
                  add chain netdev fragments out {{ type filter hook egress device {name} priority 0; }}
                  add rule netdev fragments out ip frag-off & 0x1fff != 0 fwd to {name}-1'",
            ns = host.name(),
        ))?;
        host.sh("echo 1 >/proc/sys/net/ipv6/conf/eth1/disable_ipv6
             ip link set eth1 arp off up
             nft 'add chain netdev lab eth1 { type filter hook ingress device eth1 priority 0; policy drop; }'")
            .map(drop)
    }

    /// The kernel must not hear what DPDK reads from `eth0` and `loc1`: a packet socket sees packets before the
    /// netdev hook that drops them here.
    fn set_up_routing_node(&self, node: RoutingNode, mtu: u16) -> Result<()> {
        self.host(node.name()).sh(&format!(
            "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6
             ip link set eth0 arp off up
             ip link add loc0 address {mac} mtu {mtu} type veth peer name loc1 mtu {mtu}
             ethtool -K loc0 tx off gso off tso off gro off >/dev/null
             ethtool -K loc1 tx off gso off tso off gro off >/dev/null
             echo 1 >/proc/sys/net/ipv6/conf/loc1/disable_ipv6
             ip link set loc1 arp off up
             nft 'add table netdev lab
                  add chain netdev lab eth0 {{ type filter hook ingress device eth0 priority 0; policy drop; }}
                  add chain netdev lab loc1 {{ type filter hook ingress device loc1 priority 0; policy drop; }}'",
            mac = mac(node.number()),
        ))?;
        self.set_addresses(node.name(), "loc0", node.addresses())
    }
}

/// The Ethernet address of the host with this number.
pub fn mac(number: u8) -> String {
    format!("02:00:00:00:00:{number:02x}")
}

fn make_namespace(record: &Record, host: &str) -> Result<Namespace> {
    let name = format!("bt-{}-{host}", record.id());
    record.note("netns", &name)?;
    output_of(
        std::process::Command::new("ip").args(["netns", "add", &name]),
        &format!("ip netns add {name}"),
    )?;
    Ok(Namespace::named(name))
}
