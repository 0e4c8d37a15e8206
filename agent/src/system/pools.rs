//! Ports of DVIPAs that applications are given when they do not name one: the programs and maps of bpf/ports.bpf.c, loaded by
//! themselves, because an agent can do all the rest without them.
//!
//! The pools are the only copy of which blocks this host has; they outlive the agent.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, OpenObject};
use model::Dvipa;
use model::ports::{BLOCKS, PORTS_A_BLOCK, PortBlocks, block_of};

use super::abilities::Inability;
use super::diag;
use super::kernel;
use super::maps::{from_bytes, to_bytes};
use super::programs::{ProgramError, Settings, link, pin_map};
use super::skeletons::PortsSkelBuilder;
use crate::ports::Pool;

/// `struct pool` of bpf/ports.h: granted, elsewhere, free, left, low.
const WORDS: usize = BLOCKS as usize / 64;
const FREE: usize = 2 * WORDS;
const LEFT: usize = FREE + BLOCKS as usize;
const POOL_WORDS: usize = LEFT + 2;
/// `struct order` of bpf/ports.h: address, deed, block, ports.
const ORDER_BYTES: usize = 32;

/// `enum deed` of bpf/ports.h; a test compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Grant = 1,
    Withdraw,
    Revoke,
    Free,
    Take,
    Elsewhere,
    Low,
}

/// The ports of a DVIPA, a word for each block.
type Ports = Vec<u64>;

/// The pools of this host.
#[derive(Debug)]
pub struct Pools {
    pools: MapHandle,
    bound: MapHandle,
    order: OwnedFd,
}

impl Pools {
    /// Loads the programs and links them in place of those of a former run.
    pub(super) fn start(settings: &Settings, cgroup: &OwnedFd) -> Result<Self, Inability> {
        let mut storage = MaybeUninit::<OpenObject>::uninit();
        let mut open = PortsSkelBuilder::default().open(&mut storage).map_err(Inability::Ports)?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.netns_cookie = settings.netns_cookie;
        }
        let pin = |name: &str| settings.pin.join(name);
        for (map, name) in [
            (&mut open.maps.dvipas, "dvipas"),
            (&mut open.maps.counters, "counters"),
            (&mut open.maps.events, "events"),
            (&mut open.maps.pools, "pools"),
            (&mut open.maps.bound, "bound"),
            (&mut open.maps.had, "had"),
        ] {
            pin_map(map, &pin(name)).map_err(inability)?;
        }
        let skeleton = open.load().map_err(Inability::Ports)?;
        let programs = &skeleton.progs;
        for program in [&programs.baton_bind_v4, &programs.baton_bind_v6, &programs.baton_released] {
            link(program, cgroup, &settings.pin).map_err(inability)?;
        }
        let handle = |map| MapHandle::try_from(map).map_err(Inability::Ports);
        let order = programs.baton_order.as_fd().try_clone_to_owned();
        Ok(Self {
            pools: handle(&skeleton.maps.pools)?,
            bound: handle(&skeleton.maps.bound)?,
            order: order.map_err(|cause| Inability::Ports(cause.into()))?,
        })
    }

    /// The DVIPA is no address of this host any more.
    pub fn forget(&self, dvipa: Dvipa) {
        // There may be none.
        let _ = self.pools.delete(&to_bytes(dvipa.address()));
    }

    /// Gives back to the pools what no socket uses any more, and takes out of them what sockets use that did not get it there.
    ///
    /// # Errors
    /// What the system says.
    pub fn sweep(&self) -> io::Result<()> {
        let pools = self.all()?;
        if pools.is_empty() {
            return Ok(());
        }
        // After the pools were read: a port that was not free then, and that no socket has now, is nobody's.
        let used = self.used(pools.keys().copied().collect())?;
        let nothing = vec![0; usize::from(BLOCKS)];
        for (address, pool) in &pools {
            let used = used.get(address).unwrap_or(&nothing);
            for block in blocks(pool).iter() {
                let at = usize::from(block);
                let (free, used) = (word(pool, FREE + at), used.get(at).copied().unwrap_or(0));
                for (deed, ports) in [(Deed::Free, !free & !used), (Deed::Take, free & used)] {
                    if ports != 0 {
                        self.order(*address, deed, block, ports)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// All pools, as words.
    fn all(&self) -> io::Result<HashMap<IpAddr, Vec<u64>>> {
        let mut all = HashMap::new();
        for key in self.pools.keys() {
            let Some(address) = from_bytes(&key) else { continue };
            all.extend(self.words(address)?.map(|words| (address, words)));
        }
        Ok(all)
    }

    fn words(&self, address: IpAddr) -> io::Result<Option<Vec<u64>>> {
        let value = self.pools.lookup(&to_bytes(address), MapFlags::ANY).map_err(io::Error::other)?;
        Ok(value.map(|value| {
            let (words, _) = value.as_chunks::<8>();
            words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
        }))
    }

    /// The ports of these addresses that sockets of this host have, whatever their state, or may claim.
    fn used(&self, addresses: HashSet<IpAddr>) -> io::Result<HashMap<IpAddr, Ports>> {
        let mut used: HashMap<IpAddr, Ports> =
            addresses.into_iter().map(|address| (address, vec![0; usize::from(BLOCKS)])).collect();
        let mut note = |address: IpAddr, port: u16| {
            let of_it = used.iter_mut().filter(|(of, _)| address.is_unspecified() || **of == address);
            for (_, ports) in of_it {
                if let Some(word) = ports.get_mut(usize::from(block_of(port))) {
                    *word |= 1 << (port % PORTS_A_BLOCK);
                }
            }
        };
        diag::local_ports(&mut note)?;
        for key in self.bound.keys() {
            // `struct port` of bpf/ports.h.
            let Some((address, port)) = key.split_at_checked(16) else { continue };
            if let (Some(address), Some(port)) = (from_bytes(address), port.first_chunk()) {
                note(address, u16::from_ne_bytes(*port));
            }
        }
        Ok(used)
    }

    fn order(&self, address: IpAddr, deed: Deed, block: u16, ports: u64) -> io::Result<bool> {
        let mut order = [0; ORDER_BYTES];
        let parts = [
            (0, &to_bytes(address)[..]),
            (16, &(deed as u32).to_ne_bytes()),
            (20, &u32::from(block).to_ne_bytes()),
            (24, &ports.to_ne_bytes()),
        ];
        for (at, part) in parts {
            if let Some(to) = order.get_mut(at..at + part.len()) {
                to.copy_from_slice(part);
            }
        }
        let done = kernel::run(self.order.as_fd(), &mut order)?;
        Ok(done != 0)
    }

    /// As [`Self::order`]; what the kernel refuses is as if it had not been asked for, and asked for again with the next change.
    fn try_order(&self, dvipa: Dvipa, deed: Deed, block: u16, ports: u64) -> bool {
        self.order(dvipa.address(), deed, block, ports).unwrap_or_else(|cause| {
            tracing::error!(%dvipa, ?deed, block, %cause, "the programs can't be told which ports applications may be given");
            false
        })
    }
}

impl crate::ports::Pools for Pools {
    fn pool(&self, dvipa: Dvipa) -> Option<Pool> {
        let words = self.words(dvipa.address()).ok()??;
        let elsewhere = PortBlocks::from_words(std::array::from_fn(|at| word(&words, WORDS + at)));
        let left = u32::try_from(word(&words, LEFT).cast_signed()).unwrap_or(0);
        Some(Pool { granted: blocks(&words), elsewhere, left })
    }

    fn make(&self, dvipa: Dvipa) {
        let made = self.pools.update(&to_bytes(dvipa.address()), &[0; POOL_WORDS * 8], MapFlags::NO_EXIST);
        if let Err(cause) = made {
            tracing::error!(%dvipa, %cause, "the programs can't be told which ports applications may be given");
        }
    }

    fn grant(&self, dvipa: Dvipa, block: u16) {
        self.try_order(dvipa, Deed::Grant, block, 0);
    }

    fn withdraw(&self, dvipa: Dvipa, block: u16) -> bool {
        self.try_order(dvipa, Deed::Withdraw, block, 0)
    }

    fn revoke(&self, dvipa: Dvipa, block: u16) {
        self.try_order(dvipa, Deed::Revoke, block, 0);
    }

    fn set_elsewhere(&self, dvipa: Dvipa, elsewhere: &PortBlocks) {
        for (at, word) in (0..).zip(elsewhere.words()) {
            self.try_order(dvipa, Deed::Elsewhere, at, *word);
        }
    }

    fn set_low(&self, dvipa: Dvipa, low: u32) {
        self.try_order(dvipa, Deed::Low, 0, low.into());
    }
}

fn blocks(words: &[u64]) -> PortBlocks {
    PortBlocks::from_words(std::array::from_fn(|at| word(words, at)))
}

fn word(words: &[u64], at: usize) -> u64 {
    words.get(at).copied().unwrap_or(0)
}

fn inability(error: ProgramError) -> Inability {
    match error {
        ProgramError::Bpf { cause, .. } => Inability::Ports(cause),
        ProgramError::Path { cause, .. } => Inability::Ports(cause.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_number_the_deeds_as_this_module_does() {
        let header = include_str!("../../bpf/ports.h");
        let body = header.split("enum deed {").nth(1).and_then(|rest| rest.split('}').next()).unwrap();
        let names: Vec<&str> = body.lines().filter_map(|line| line.trim().split([',', ' ']).next()).collect();
        let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
        assert_eq!(names, ["GRANT", "WITHDRAW", "REVOKE", "FREE", "TAKE", "ELSEWHERE", "LOW"]);
        let numbers =
            [Deed::Grant, Deed::Withdraw, Deed::Revoke, Deed::Free, Deed::Take, Deed::Elsewhere, Deed::Low];
        assert_eq!(numbers.map(|deed| deed as u32), [1, 2, 3, 4, 5, 6, 7]);
    }
}
