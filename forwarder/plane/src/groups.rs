//! Solicited-node groups of DVIPAs (RFC 4291 2.7.1), as memberships of the node's kernel.
//!
//! A switch that snoops passes a neighbour solicitation on only to ports where a host has reported its group (RFC 4541 3). The
//! kernel's reports (MLD, RFC 3810) and its answers to queries leave by the local interface and cross to the NIC.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv6Addr, UdpSocket};

/// Memberships of one socket: the kernel takes some 300 (`net.core.optmem_max`).
const A_SOCKET: usize = 64;

/// The memberships. They end with it.
#[derive(Debug)]
pub struct Groups {
    interface: u32,
    sockets: Vec<(UdpSocket, BTreeSet<Ipv6Addr>)>,
}

impl Groups {
    /// None yet, at the interface with this number.
    pub fn new(interface: u32) -> Self {
        Self { interface, sockets: Vec::new() }
    }

    /// The kernel is a member of the groups of these addresses from now on, and of no others.
    pub fn want(&mut self, addresses: impl Iterator<Item = Ipv6Addr>) {
        let wanted: BTreeSet<_> = addresses.map(solicited_node).collect();
        for (socket, joined) in &mut self.sockets {
            for group in joined.difference(&wanted).copied().collect::<Vec<_>>() {
                joined.remove(&group);
                // A failure means that the interface is gone, and the membership with it.
                let _ = socket.leave_multicast_v6(&group, self.interface);
            }
        }
        let joined: BTreeSet<_> = self.sockets.iter().flat_map(|(_, joined)| joined).copied().collect();
        for group in wanted.difference(&joined) {
            if let Err(cause) = self.join(*group) {
                tracing::warn!(%group, %cause, "no MLD report: a snooping switch may keep solicitations back");
            }
        }
    }

    fn join(&mut self, group: Ipv6Addr) -> io::Result<()> {
        if self.sockets.last().is_none_or(|(_, joined)| joined.len() >= A_SOCKET) {
            self.sockets.push((UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?, BTreeSet::new()));
        }
        let Some((socket, joined)) = self.sockets.last_mut() else { return Ok(()) };
        socket.join_multicast_v6(&group, self.interface)?;
        joined.insert(group);
        Ok(())
    }
}

/// ff02::1:ff00:0/104 and the address's last 24 bits.
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | address.to_bits() & 0x00ff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_last_24_bits_of_the_address() {
        let group = solicited_node("2001:db8:9::12ab:cdef".parse().unwrap());
        assert_eq!(group, "ff02::1:ffab:cdef".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn addresses_that_share_a_group_are_one_membership() {
        let mut groups = Groups::new(1);
        let address = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        groups.want([address("2001:db8::1:2"), address("2001:db8:1::1:2")].into_iter());
        assert_eq!(groups.sockets.iter().map(|(_, joined)| joined.len()).sum::<usize>(), 1);
        groups.want(std::iter::empty());
        assert!(groups.sockets.iter().all(|(_, joined)| joined.is_empty()));
    }
}
