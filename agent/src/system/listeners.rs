//! Which sockets take new connections, as the program of bpf/listeners.bpf.c asks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, OpenObject};
use model::Dvipa;

use super::maps::{ServiceBytes, service_bytes, service_from_bytes};
use super::programs::{ProgramError, bpf, link_by, pin_map};
use super::skeletons::ListenersSkelBuilder;
use crate::machine::{Cookie, MAX_TAKERS, Takers};

/// The namespace that the program is attached to: the agent's own.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// `struct takers` of bpf/listeners.bpf.c: whose turn it is, how many there are, their cookies.
const TAKERS_BYTES: usize = 8 + 8 * MAX_TAKERS;
type TakersBytes = [u8; TAKERS_BYTES];

/// The sockets that applications have named, and who of them takes the clients of which service. Both outlive the agent.
#[derive(Debug)]
pub struct Listeners {
    takers: MapHandle,
    named: MapHandle,
}

impl Listeners {
    /// Loads the program and attaches it to the agent's network namespace, in place of that of a former run.
    pub(super) fn start(pin: &Path) -> Result<Self, ProgramError> {
        let mut storage = MaybeUninit::<OpenObject>::uninit();
        let mut open = ListenersSkelBuilder::default().open(&mut storage).map_err(bpf("open listeners"))?;
        pin_map(&mut open.maps.admitted, &pin.join("admitted"))?;
        pin_map(&mut open.maps.takers, &pin.join("takers"))?;
        pin_map(&mut open.maps.named, &pin.join("named"))?;
        let skeleton = open.load().map_err(bpf("load listeners"))?;
        let at = |cause| ProgramError::Path {
            what: "the network namespace",
            path: PathBuf::from(NAMESPACE),
            cause,
        };
        let namespace = File::open(NAMESPACE).map_err(at)?;
        let program = &skeleton.progs.baton_listeners;
        link_by(program, pin, |program| program.attach_netns(namespace.as_raw_fd()))?;
        let handle = |map: &libbpf_rs::MapMut<'_>| MapHandle::try_from(map).map_err(bpf("keep a map"));
        Ok(Self { takers: handle(&skeleton.maps.takers)?, named: handle(&skeleton.maps.named)? })
    }

    /// An application has named this listening socket: [`Listeners::set`] may give it clients. It ends with the socket.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn name(&self, cookie: Cookie, socket: BorrowedFd<'_>) -> libbpf_rs::Result<()> {
        let descriptor = u64::from(socket.as_raw_fd().cast_unsigned());
        self.named.update(&cookie.0.to_ne_bytes(), &descriptor.to_ne_bytes(), MapFlags::ANY)
    }

    /// These services have these takers, and all other services' listeners take clients as the kernel likes. What is as it was is
    /// not touched, so that turns go on. What is to go does so first, so that there is room, and one service that the kernel does not
    /// take keeps no other from being set.
    ///
    /// # Errors
    /// What the kernel has said last.
    pub fn set(&self, takers: &BTreeMap<(Dvipa, u16), Takers>) -> libbpf_rs::Result<()> {
        let each = takers.iter().map(|((dvipa, port), of)| {
            (service_bytes(SocketAddr::new(dvipa.address(), *port)), bytes(&of.open))
        });
        let wanted: BTreeMap<ServiceBytes, TakersBytes> = each.collect();
        let mut done = Ok(());
        for key in self.takers.keys().collect::<Vec<_>>() {
            if !ServiceBytes::try_from(key.as_slice()).is_ok_and(|key| wanted.contains_key(&key)) {
                done = self.takers.delete(&key).and(done);
            }
        }
        for (key, value) in &wanted {
            done = self.set_one(key, value).and(done);
        }
        done
    }

    fn set_one(&self, key: &ServiceBytes, value: &TakersBytes) -> libbpf_rs::Result<()> {
        let before = self.takers.lookup(key, MapFlags::ANY)?;
        if before.is_none_or(|before| before.get(4..) != value.get(4..)) {
            self.takers.update(key, value, MapFlags::ANY)?;
        }
        Ok(())
    }

    /// The takers that a former run has left in force.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn left(&self) -> libbpf_rs::Result<BTreeMap<(Dvipa, u16), BTreeSet<Cookie>>> {
        let mut left = BTreeMap::new();
        for key in self.takers.keys() {
            let value = self.takers.lookup(&key, MapFlags::ANY)?;
            let of = service_from_bytes(&key).zip(value.as_deref().and_then(cookies));
            left.extend(of.map(|(service, open)| ((Dvipa::new(service.ip()), service.port()), open)));
        }
        Ok(left)
    }
}

fn bytes(open: &BTreeSet<Cookie>) -> TakersBytes {
    let mut bytes = [0; TAKERS_BYTES];
    let (head, places) = bytes.split_at_mut(8);
    let mut count = 0u32;
    for (place, cookie) in places.chunks_exact_mut(8).zip(open) {
        place.copy_from_slice(&cookie.0.to_ne_bytes());
        count += 1;
    }
    if let Some(counted) = head.get_mut(4..) {
        counted.copy_from_slice(&count.to_ne_bytes());
    }
    bytes
}

fn cookies(bytes: &[u8]) -> Option<BTreeSet<Cookie>> {
    let count = u32::from_ne_bytes(bytes.get(4..8)?.try_into().ok()?);
    let (cookies, _) = bytes.get(8..)?.as_chunks::<8>();
    Some(cookies.iter().take(count as usize).map(|cookie| Cookie(u64::from_ne_bytes(*cookie))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takers_are_read_as_they_are_written() {
        let some: BTreeSet<_> = (1..=3).map(Cookie).collect();
        let many: BTreeSet<_> = (1..=100).map(Cookie).collect();
        assert_eq!(cookies(&bytes(&some)), Some(some));
        assert_eq!(cookies(&bytes(&many)), Some((1..=64).map(Cookie).collect()));
        assert_eq!(cookies(&bytes(&BTreeSet::new())), Some(BTreeSet::new()));
        assert_eq!(cookies(&[0; 7]), None);
    }
}
