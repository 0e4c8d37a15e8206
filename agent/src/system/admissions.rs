//! Connections that a packet with the right token may put into a listener of this host, each once, and which of them one has:
//! the part of the ledger that the kernel writes.

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use model::Connection;
use model::handoff::Token;

use super::freezes::key;

/// `struct admission`: the token as in the option, the state, four bytes of nothing.
const VALUE_BYTES: usize = 16;
/// Where the state is.
const STATE: usize = 8;
/// As in bpf/admissions.h.
const MADE: u32 = 1;

/// The map of bpf/admissions.h. It outlives the agent.
#[derive(Debug)]
pub struct Admissions(MapHandle);

impl Admissions {
    pub(super) fn new(map: MapHandle) -> Self {
        Self(map)
    }

    /// From now on one packet that has this token may put the connection into a listener, and it is noted if it begins here. A
    /// former admission is void.
    ///
    /// # Errors
    /// What the kernel says; a full map is one.
    pub fn admit(&self, connection: &Connection, token: Token) -> libbpf_rs::Result<()> {
        let mut value = [0; VALUE_BYTES];
        let (first, _) = value.split_at_mut(STATE);
        first.copy_from_slice(&token.bytes());
        self.0.update(&key(connection), &value, MapFlags::ANY)
    }

    /// Whether it has begun here since it was admitted, even if it has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_made(&self, connection: &Connection) -> libbpf_rs::Result<bool> {
        let value = self.0.lookup(&key(connection), MapFlags::ANY)?;
        let state = value.as_deref().and_then(|value| value.get(STATE..)?.first_chunk());
        Ok(state.is_some_and(|state| u32::from_ne_bytes(*state) == MADE))
    }

    /// How many are admitted, or have begun and somebody has still to know.
    pub fn count(&self) -> usize {
        self.0.keys().count()
    }

    /// Nobody has to know any more; no error if it was not admitted.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forget(&self, connection: &Connection) -> libbpf_rs::Result<()> {
        match self.0.delete(&key(connection)) {
            Err(e) if e.kind() == libbpf_rs::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}
