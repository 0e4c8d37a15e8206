//! Under which conditions clients talk.

use lab::spec::CLIENT;
use lab::{Impairment, Lab};

/// TCP options of which a client's kernel may go without.
const OPTIONS: [&str; 3] = ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"];
/// What a link that carries IPv6 must be able to, bytes (RFC 8200 5).
const IPV6_MTU: u16 = 1280;

/// What is not as it should be.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) name: &'static str,
    impairment: Impairment,
    /// Whose links are impaired.
    hosts: &'static [&'static str],
    without: &'static [&'static str],
    client_mtu: Option<u16>,
    /// Of all hosts but the routing node.
    link_mtu: Option<u16>,
}

impl Condition {
    pub(crate) fn named(name: &'static str) -> Self {
        let impairment = Impairment::default();
        Self { name, impairment, hosts: &["client"], without: &[], client_mtu: None, link_mtu: None }
    }

    pub(crate) fn impaired(self, impairment: Impairment) -> Self {
        Self { impairment, ..self }
    }

    pub(crate) fn on(self, hosts: &'static [&'static str]) -> Self {
        Self { hosts, ..self }
    }

    pub(crate) fn without(self, options: &'static [&'static str]) -> Self {
        Self { without: options, ..self }
    }

    pub(crate) fn client_mtu(self, mtu: u16) -> Self {
        Self { client_mtu: Some(mtu), ..self }
    }

    pub(crate) fn link_mtu(self, mtu: u16) -> Self {
        Self { link_mtu: Some(mtu), ..self }
    }

    /// Whether the client's link carries IPv6.
    pub(crate) fn carries_v6(&self) -> bool {
        self.client_mtu.is_none_or(|mtu| mtu >= IPV6_MTU)
    }

    /// Makes it so.
    pub(crate) fn set(&self, lab: &Lab, seed: u64) {
        for host in self.hosts {
            lab.impair(host, self.impairment, seed).expect("the link is cut and joined");
        }
        let mtu = self.link_mtu.unwrap_or(lab.spec().fabric_mtu);
        for host in ["client", "t1", "t2", "t3"] {
            lab.set_link_mtu(host, mtu).unwrap_or_else(|e| panic!("{e}"));
        }
        let set = |option: &&str| {
            let on = u8::from(!self.without.contains(option));
            format!("echo {on} >/proc/sys/net/ipv4/{option}\n")
        };
        // A link that is too small for it has lost its IPv6 address.
        let link = format!(
            "ip link set eth0 mtu {mtu}\nip addr replace {v6}/32 dev eth0 nodad 2>/dev/null || true\n",
            mtu = self.client_mtu.unwrap_or(mtu),
            v6 = CLIENT.1,
        );
        let script = link + &OPTIONS.iter().map(set).collect::<String>();
        lab.client().sh(&script).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Makes everything as it should be again.
    pub(crate) fn unset(&self, lab: &Lab, seed: u64) {
        Self { impairment: Impairment::default(), hosts: self.hosts, ..Self::named("") }.set(lab, seed);
    }
}
