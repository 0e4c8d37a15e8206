//! What this host's kernel can do: with live connections, by which the routing stack chooses the way of each transfer, and for
//! UDP servers.

use std::fs;
use std::io;

/// Why this host can't do something.
#[derive(Debug, thiserror::Error)]
pub enum Inability {
    /// No socket can be put into repair mode.
    #[error(
        "TCP_REPAIR is refused ({0}): it takes CAP_NET_ADMIN and a kernel with CONFIG_CHECKPOINT_RESTORE"
    )]
    Repair(io::Error),
    /// The program does not load.
    #[error(
        "no connection can be put into a listener: {0}; it takes Linux 6.9 with CONFIG_SYN_COOKIES and BTF"
    )]
    Injection(#[from] libbpf_rs::Error),
    /// The programs do not load.
    #[error(
        "UDP servers bound to the wildcard address do not answer from the DVIPA: {0}; it takes Linux 5.7"
    )]
    Answers(libbpf_rs::Error),
    /// The program does not load.
    #[error(
        "connections of containers behind this host's DNAT can't be found again: {0}; it takes nf_conntrack and Linux 5.18 with BTF"
    )]
    Conntrack(libbpf_rs::Error),
    /// The programs do not load.
    #[error(
        "ports of DVIPAs that applications do not name are the kernel's choice, and other hosts may use the same: {0}; it takes Linux 5.18"
    )]
    Ports(libbpf_rs::Error),
    /// A setting of the network namespace.
    #[error("no connection can be put into a listener while net.ipv4.tcp_syncookies is 0: set it to 1")]
    Syncookies,
}

/// Which ways of moving a connection there are on this host; a reason where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Sockets can be dumped, pulled and restored (TCP_REPAIR).
    pub repair: Result<(), String>,
    /// Connections can be put into unmodified listeners (handoff option).
    pub injection: Result<(), String>,
}

impl Abilities {
    pub(super) fn new(injection: Result<(), String>) -> Self {
        let repair = crate::repair::probe().map_err(|cause| Inability::Repair(cause).to_string());
        Self { repair, injection }
    }
}

/// Whether the kernel takes connections that it did not see begin.
pub(super) fn has_syncookies() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies").is_ok_and(|text| text.trim() != "0")
}
