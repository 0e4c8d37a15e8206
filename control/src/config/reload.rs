//! What may change while the node runs: the definitions, the other routing stacks, and how stacks are reached. The rest is refused by name, so that
//! a reload never applies half of a file.

use std::fmt;

use super::Config;

/// A change that needs a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The key, or the keys.
    pub key: &'static str,
    /// Why it can't change now.
    pub why: &'static str,
}

impl Frozen {
    /// Whether a key of the file is what can't change: itself, a key of its table, or one of those that are taken together.
    pub fn is_of(&self, key: &str) -> bool {
        let stem = match self.key {
            "admin.metrics_socket" => "admin.metrics_",
            "admin.web" => return key == self.key || key.starts_with("admin.web_"),
            "forwarder.port (nic)" => "forwarder.port[role=nic]",
            "forwarder.port (local)" => "forwarder.port[role=local]",
            other => {
                return key
                    .strip_prefix(other)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
            }
        };
        key.starts_with(stem)
    }
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` can't change while batond runs ({}); restart it, or put the old value back",
            self.key, self.why
        )
    }
}

impl Config {
    /// May `new` take the place of this configuration in a running node?
    ///
    /// # Errors
    /// Every change that needs a restart. Nothing of `new` is to be applied then.
    pub fn check_reload(&self, new: &Config) -> Result<(), Vec<Frozen>> {
        // Without `..`: a new key has to find its place here.
        let Config {
            node,
            cluster,
            admin,
            forwarder,
            announce,
            routing_stacks: _,
            stacks: _,
            vipadynamic: _,
        } = self;
        let mut frozen = Vec::new();
        let mut keep = |same: bool, key, why| {
            if !same {
                frozen.push(Frozen { key, why });
            }
        };
        keep(node.name == new.node.name, "node.name", "peers know this stack by its certificate's name");
        keep(
            node.cluster_address == new.node.cluster_address,
            "node.cluster_address",
            "targets accept packets from the addresses that this stack named when it greeted",
        );
        let sessions = "sessions and the listening socket are open with it";
        keep(cluster.listen == new.cluster.listen, "cluster.listen", sessions);
        keep(cluster.peers_listen == new.cluster.peers_listen, "cluster.peers_listen", sessions);
        let is_same = cluster.takeover_after == new.cluster.takeover_after;
        keep(is_same, "cluster.takeover_after_ms", sessions);
        let asked = "what witnesses have granted is counted with it";
        keep(cluster.witnesses == new.cluster.witnesses, "cluster.witnesses", asked);
        keep(cluster.etcd == new.cluster.etcd, "cluster.etcd", "leases were granted there");
        keep(cluster.lease == new.cluster.lease, "cluster.lease_ms", asked);
        let is_same = cluster.directory == new.cluster.directory;
        keep(is_same, "cluster.directory", "the highest epoch is kept there");
        keep(cluster.ca == new.cluster.ca, "cluster.ca", sessions);
        keep(cluster.certificate == new.cluster.certificate, "cluster.certificate", sessions);
        keep(cluster.key == new.cluster.key, "cluster.key", sessions);
        keep(cluster.heartbeat == new.cluster.heartbeat, "cluster.heartbeat_ms", sessions);
        keep(cluster.quiet_after == new.cluster.quiet_after, "cluster.quiet_after_ms", sessions);
        keep(cluster.lost_after == new.cluster.lost_after, "cluster.lost_after_ms", sessions);
        keep(admin.socket == new.admin.socket, "admin.socket", "the admin API is open there");
        keep(admin.log_level == new.admin.log_level, "admin.log_level", "the log is written with it");
        keep(admin.metrics == new.admin.metrics, "admin.metrics", "the listener is open there");
        let is_same = admin.metrics_socket == new.admin.metrics_socket;
        keep(is_same, "admin.metrics_socket", "the listener is open there");
        keep(admin.web == new.admin.web, "admin.web", "the page is served as it says");

        keep(
            *announce == new.announce,
            "announce",
            "the routing daemon reads the table that was named at the start",
        );

        let next = &new.forwarder;
        let start = "DPDK takes it at its start";
        keep(forwarder.workers == next.workers, "forwarder.workers", start);
        keep(forwarder.eal == next.eal, "forwarder.eal", start);
        keep(forwarder.idle == next.idle, "forwarder.idle", "the workers take it at their start");
        keep(forwarder.nic == next.nic, "forwarder.port (nic)", start);
        keep(forwarder.local == next.local, "forwarder.port (local)", start);
        keep(forwarder.crt_file == next.crt_file, "forwarder.crt_file", "the CRT is there");
        let size = "the CRT is made in this size at the start";
        keep(forwarder.connections_v4 == next.connections_v4, "forwarder.connections_v4", size);
        keep(forwarder.connections_v6 == next.connections_v6, "forwarder.connections_v6", size);
        keep(forwarder.flows_udp == next.flows_udp, "forwarder.flows_udp", size);
        keep(forwarder.half_open == next.half_open, "forwarder.half_open", size);
        let taken = "the workers and the CRT take it at their start";
        keep(forwarder.fabric_mtu == next.fabric_mtu, "forwarder.fabric_mtu", taken);
        keep(forwarder.rx_descriptors == next.rx_descriptors, "forwarder.rx_descriptors", start);
        keep(forwarder.tx_descriptors == next.tx_descriptors, "forwarder.tx_descriptors", start);
        keep(forwarder.idle_tcp == next.idle_tcp, "forwarder.idle_tcp_s", taken);
        keep(forwarder.idle_udp == next.idle_udp, "forwarder.idle_udp_s", taken);
        keep(forwarder.half_open_life == next.half_open_life, "forwarder.half_open_s", taken);
        keep(forwarder.closing == next.closing, "forwarder.closing_s", taken);
        if frozen.is_empty() { Ok(()) } else { Err(frozen) }
    }
}
