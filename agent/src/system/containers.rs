//! What the containers of this host listen on. A container has a network namespace of its own, in which the host's DNAT has a
//! client's packets end: its listener is no socket that the host's own picture shows.
//!
//! So the namespaces of this host's processes are entered, one after the other, by a thread that ends with the look. One that
//! has an address that the configuration names is asked for its listeners.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::thread;

use model::Protocol;
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};

use super::diag;
use crate::config::Container;
use crate::machine::{Bound, Cookie, Listener};

/// Listeners of these containers, as the ports of the host that lead to them.
///
/// # Errors
/// What the system says of the processes, or of a namespace that it showed.
pub fn look(containers: &[Container]) -> io::Result<Vec<(Cookie, Listener)>> {
    if containers.is_empty() {
        return Ok(Vec::new());
    }
    let look = || {
        let mut found = Vec::new();
        for namespace in others()? {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            let own: Vec<IpAddr> = addresses()?;
            let here: Vec<_> =
                containers.iter().enumerate().filter(|(_, c)| own.contains(&c.address.ip())).collect();
            if here.is_empty() {
                continue;
            }
            let listeners = diag::listeners()?;
            for (number, container) in here {
                let serves = listeners.iter().find(|(_, l)| takes(l, container.protocol, container.address));
                found.extend(serves.map(|(cookie, _)| (published(*cookie, number), container.listener())));
            }
        }
        Ok(found)
    };
    thread::scope(|scope| scope.spawn(look).join())
        .unwrap_or_else(|_| Err(io::Error::other("the look ended")))
}

/// The network namespaces of this host's processes but the agent's own.
fn others() -> io::Result<Vec<File>> {
    let own = fs::metadata("/proc/self/ns/net")?.ino();
    let mut found = BTreeMap::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let at = process.path().join("ns/net");
        // No process, or one that has just ended.
        let Ok(metadata) = fs::metadata(&at) else { continue };
        if metadata.ino() != own
            && !found.contains_key(&metadata.ino())
            && let Ok(file) = File::open(&at)
        {
            found.insert(metadata.ino(), file);
        }
    }
    Ok(found.into_values().collect())
}

fn addresses() -> io::Result<Vec<IpAddr>> {
    let address = |a: nix::ifaddrs::InterfaceAddress| {
        let storage = a.address?;
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    Ok(getifaddrs()?.filter_map(address).collect())
}

fn takes(listener: &Listener, protocol: Protocol, at: SocketAddr) -> bool {
    let bound = match (listener.bound, at) {
        (Bound::Address(address), at) => address == at.ip(),
        (Bound::AnyV4, at) => at.is_ipv4(),
        (Bound::AnyV6, at) => at.is_ipv6(),
        (Bound::AnyDual, _) => true,
    };
    bound && listener.protocol == protocol && listener.port == at.port()
}

/// A socket of a container may stand for several ports of the host. No socket's own number reaches these bits.
fn published(cookie: Cookie, number: usize) -> Cookie {
    Cookie(cookie.0 | (number as u64 + 1) << Cookie::OF_CONTAINERS)
}

impl Container {
    /// Its listener, as clients of a DVIPA see it.
    fn listener(&self) -> Listener {
        let bound = match (self.dvipa, self.address) {
            (Some(dvipa), _) => Bound::Address(dvipa),
            (None, SocketAddr::V4(_)) => Bound::AnyV4,
            (None, SocketAddr::V6(_)) => Bound::AnyV6,
        };
        Listener { protocol: self.protocol, bound, port: self.port, interface: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_the_container_counts_if_it_takes_what_dnat_sends() {
        let listener = |bound, port| Listener { protocol: Protocol::Tcp, bound, port, interface: None };
        let at: SocketAddr = "172.17.0.2:80".parse().unwrap();
        let other = "172.17.0.3".parse().unwrap();
        for (bound, port, expected) in [
            (Bound::AnyV4, 80, true),
            (Bound::AnyDual, 80, true),
            (Bound::Address(at.ip()), 80, true),
            (Bound::Address(other), 80, false),
            (Bound::AnyV6, 80, false),
            (Bound::AnyV4, 81, false),
        ] {
            assert_eq!(takes(&listener(bound, port), Protocol::Tcp, at), expected, "{bound:?} {port}");
        }
        assert!(!takes(&listener(Bound::AnyV4, 80), Protocol::Udp, at));
    }

    #[test]
    fn a_number_of_a_containers_socket_is_no_sockets_of_the_host() {
        assert!(!Cookie(12_345_678).is_of_a_container());
        assert!(published(Cookie(12_345_678), 0).is_of_a_container());
        assert_ne!(published(Cookie(7), 0), published(Cookie(7), 1));
    }
}
