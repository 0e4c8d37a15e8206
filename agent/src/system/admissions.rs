//! Connections that a packet with the right token may put into a listener of this host, each once, and which of them one has:
//! the part of the ledger that the kernel writes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, OpenObject, ProgramMut};
use model::Connection;
use model::handoff::Token;
use transfer::host::Voided;

use super::freezes::key;
use super::kernel;
use super::programs::{ProgramError, bpf, pin_map};
use super::skeletons::AdmissionsSkelBuilder;

/// `struct admission` of bpf/admissions.h: the token as in the option, the state, four bytes of nothing.
const VALUE_BYTES: usize = 16;
/// Where the state is.
const STATE: usize = 8;
/// The states but 0, as in bpf/admissions.h; a test compares them.
const CLAIMED: u32 = 1;
const CLOSING: u32 = 2;
const MADE: u32 = 3;
const VOID: u32 = 4;

/// The map of bpf/admissions.h, and what voids an entry of it. The map outlives the agent.
#[derive(Debug)]
pub struct Admissions {
    map: MapHandle,
    void: OwnedFd,
    reopen: OwnedFd,
}

/// Waits until every packet that is on its way through this host's kernel has been taken in or dropped.
pub fn wait_for_claims() {
    kernel::wait_for_packets();
}

impl Admissions {
    pub(super) fn start(pin: &Path) -> Result<Self, ProgramError> {
        let mut storage = MaybeUninit::<OpenObject>::uninit();
        let mut open = AdmissionsSkelBuilder::default().open(&mut storage).map_err(bpf("open admissions"))?;
        pin_map(&mut open.maps.admitted, &pin.join("admitted"))?;
        let skeleton = open.load().map_err(bpf("load admissions"))?;
        let owned = |program: &ProgramMut<'_>| program.as_fd().try_clone_to_owned();
        let at_pin = |cause| ProgramError::Path { what: "the programs of", path: pin.to_path_buf(), cause };
        let void = owned(&skeleton.progs.baton_void).map_err(at_pin)?;
        let reopen = owned(&skeleton.progs.baton_reopen).map_err(at_pin)?;
        let map = MapHandle::try_from(&skeleton.maps.admitted).map_err(bpf("keep a map"))?;
        Ok(Self { map, void, reopen })
    }

    /// From now on one packet that has this token may put the connection into a listener, and it is noted if it begins here. A
    /// former admission is void.
    ///
    /// # Errors
    /// What the kernel says; a full map is one.
    pub fn admit(&self, connection: &Connection, token: Token) -> libbpf_rs::Result<()> {
        // A new one is open: its state is 0.
        let mut value = [0; VALUE_BYTES];
        let (first, _) = value.split_at_mut(STATE);
        first.copy_from_slice(&token.bytes());
        self.map.update(&key(connection), &value, MapFlags::ANY)
    }

    /// No packet that comes from now on makes the connection. In one step with the packets' own claims.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn void(&self, connection: &Connection) -> io::Result<Voided> {
        match kernel::run(self.void.as_fd(), &mut key(connection))? {
            VOID => Ok(Voided::Void),
            CLOSING => Ok(Voided::Claimed),
            MADE => Ok(Voided::Made),
            other => Err(io::Error::other(format!("an admission is in state {other}"))),
        }
    }

    /// Another packet may make the connection: the one that had claimed it was dropped, for [`wait_for_claims`] is over, and
    /// [`Admissions::is_claimed`] was so before.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reopen(&self, connection: &Connection) -> io::Result<()> {
        kernel::run(self.reopen.as_fd(), &mut key(connection)).map(drop)
    }

    /// Whether it has begun here since it was admitted, even if it has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_made(&self, connection: &Connection) -> libbpf_rs::Result<bool> {
        Ok(self.state(connection)? == Some(MADE))
    }

    /// Whether a packet has claimed it, and the connection has not begun.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_claimed(&self, connection: &Connection) -> libbpf_rs::Result<bool> {
        Ok(self.state(connection)? == Some(CLAIMED))
    }

    fn state(&self, connection: &Connection) -> libbpf_rs::Result<Option<u32>> {
        let value = self.map.lookup(&key(connection), MapFlags::ANY)?;
        let state = value.as_deref().and_then(|value| value.get(STATE..)?.first_chunk());
        Ok(state.copied().map(u32::from_ne_bytes))
    }

    /// How many are admitted, or have begun and have still to be reported.
    pub fn count(&self) -> usize {
        self.map.keys().count()
    }

    /// Nobody has to know any more; no error if it was not admitted.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forget(&self, connection: &Connection) -> libbpf_rs::Result<()> {
        match self.map.delete(&key(connection)) {
            Err(e) if e.kind() == libbpf_rs::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_count_the_states_as_this_module_does() {
        let header = include_str!("../../bpf/admissions.h");
        let states =
            [("OPEN", 0), ("CLAIMED", CLAIMED), ("CLOSING", CLOSING), ("MADE", MADE), ("VOID", VOID)];
        for (name, value) in states {
            let line = format!("#define ADMISSION_{name} {value}");
            let found = header.lines().any(|l| l.split(" /*").next() == Some(&line));
            assert!(found, "make agent/bpf/admissions.h and agent/src/system/admissions.rs agree: {line}");
        }
    }
}
