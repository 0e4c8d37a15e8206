//! Connections that a packet may put into a listener of this host, each once, and which of them one has: the part of the
//! ledger that the kernel writes.

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use model::Connection;

use super::freezes::key;

/// The map of bpf/admissions.h. It outlives the agent.
#[derive(Debug)]
pub struct Admissions(MapHandle);

impl Admissions {
    pub(super) fn new(map: MapHandle) -> Self {
        Self(map)
    }

    /// From now on one packet may put the connection into a listener, and it is noted if it begins here.
    ///
    /// # Errors
    /// What the kernel says; a full map is one.
    pub fn admit(&self, connection: &Connection) -> libbpf_rs::Result<()> {
        self.0.update(&key(connection), &0u32.to_ne_bytes(), MapFlags::ANY)
    }

    /// Whether it has begun here since it was admitted, even if it has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_made(&self, connection: &Connection) -> libbpf_rs::Result<bool> {
        let value = self.0.lookup(&key(connection), MapFlags::ANY)?;
        Ok(value.is_some_and(|value| value != 0u32.to_ne_bytes()))
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
