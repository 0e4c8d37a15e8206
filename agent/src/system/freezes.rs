//! Connections whose packets the programs keep away from this host's kernel, and the kernel's from the client.
//!
//! A connection is *frozen* while it moves, on the host that it leaves and on the one that it comes to, and *departed* on
//! the former for as long as packets of it may still arrive: without a socket, the kernel would answer them with RST.
//! Every entry has an end, after which packets flow as if it were not there. The programs may end one early and remove none: that
//! is the agent's, which also alone writes, so that what it removes is what it has seen.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use model::{Connection, Protocol};
use rustix::time::{ClockId, clock_gettime};
use transfer::host::Away;

use super::kernel;
use super::maps::{AddressBytes, from_bytes, to_bytes};

/// The map `freezes` of bpf/freezes.h. Shared with the programs, which take each entry as a whole.
#[derive(Debug)]
pub struct Freezes(MapHandle);

/// `struct connection`: two addresses, two ports in network order.
const KEY_BYTES: usize = 36;
/// `struct freeze`: the end in ns of `CLOCK_MONOTONIC`, and how.
const VALUE_BYTES: usize = 16;
/// Entries that are read at once.
const AT_ONCE: u32 = 4096;

impl Freezes {
    pub(super) fn new(map: MapHandle) -> Self {
        Self(map)
    }

    /// Keeps the packets of a connection away, for at most so long; replaces what was said of it before.
    ///
    /// # Errors
    /// What the kernel says; a full map is one.
    pub fn keep_away(
        &self,
        connection: &Connection,
        standing: Away,
        at_most: Duration,
    ) -> libbpf_rs::Result<()> {
        let until = now_ns().saturating_add(u64::try_from(at_most.as_nanos()).unwrap_or(u64::MAX));
        let away: u64 = match standing {
            Away::Frozen => 0,
            Away::Departed => 1,
            Away::Deaf => 2,
        };
        let mut value = [0; VALUE_BYTES];
        let (first, second) = value.split_at_mut(size_of::<u64>());
        first.copy_from_slice(&until.to_ne_bytes());
        second.copy_from_slice(&away.to_ne_bytes());
        self.0.update(&key(connection), &value, MapFlags::ANY)
    }

    /// Lets the packets of a connection flow; no error if they do.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn let_flow(&self, connection: &Connection) -> libbpf_rs::Result<()> {
        match self.0.delete(&key(connection)) {
            Err(e) if e.kind() == libbpf_rs::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// How a connection is kept away now, if it is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn away(&self, connection: &Connection) -> libbpf_rs::Result<Option<Away>> {
        let key = key(connection);
        let value = self.0.lookup(&key, MapFlags::ANY)?;
        let entry = value.and_then(|value| entry(&key, &value, now_ns()));
        Ok(entry.and_then(|(_, standing, ended)| (!ended).then_some(standing)))
    }

    /// What is kept away now, in no order. Reads the whole map: not for a thread that others wait for.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn all(&self) -> io::Result<Vec<(Connection, Away)>> {
        let mut all = Vec::new();
        self.read(|connection, away, ended| all.extend((!ended).then_some((connection, away))))?;
        Ok(all)
    }

    /// Whose entries have ended, for [`Freezes::remove_ended`]. Reads the whole map: not for a thread that others wait for.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn ended(&self) -> io::Result<Vec<Connection>> {
        let mut all = Vec::new();
        self.read(|connection, _, ended| all.extend(ended.then_some(connection)))?;
        Ok(all)
    }

    /// Removes the entry of a connection, if it has ended. Nobody else writes meanwhile.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_ended(&self, connection: &Connection) -> libbpf_rs::Result<()> {
        if self.away(connection)?.is_none() { self.let_flow(connection) } else { Ok(()) }
    }

    fn read(&self, mut each: impl FnMut(Connection, Away, bool)) -> io::Result<()> {
        let now = now_ns();
        let mut from = None;
        loop {
            let (entries, next) = kernel::entries::<KEY_BYTES, VALUE_BYTES>(self.0.as_fd(), from, AT_ONCE)?;
            let known = entries.iter().filter_map(|(key, value)| entry(key, value, now));
            known.for_each(|(connection, away, ended)| each(connection, away, ended));
            match next {
                Some(_) => from = next,
                None => return Ok(()),
            }
        }
    }
}

/// How a connection is named in maps.
pub(super) fn key(connection: &Connection) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let (client, rest) = key.split_at_mut(size_of::<AddressBytes>());
    let (dvipa, ports) = rest.split_at_mut(size_of::<AddressBytes>());
    client.copy_from_slice(&to_bytes(connection.client.ip()));
    dvipa.copy_from_slice(&to_bytes(connection.dvipa.ip()));
    let (client_port, dvipa_port) = ports.split_at_mut(size_of::<u16>());
    client_port.copy_from_slice(&connection.client.port().to_be_bytes());
    dvipa_port.copy_from_slice(&connection.dvipa.port().to_be_bytes());
    key
}

fn entry(key: &[u8], value: &[u8], now: u64) -> Option<(Connection, Away, bool)> {
    let (client, rest) = key.split_at_checked(size_of::<AddressBytes>())?;
    let (dvipa, ports) = rest.split_at_checked(size_of::<AddressBytes>())?;
    let (client_port, dvipa_port) = ports.split_at_checked(size_of::<u16>())?;
    let port = |bytes: &[u8]| bytes.try_into().ok().map(u16::from_be_bytes);
    let client = SocketAddr::new(from_bytes(client)?, port(client_port)?);
    let dvipa = SocketAddr::new(from_bytes(dvipa)?, port(dvipa_port)?);
    let connection = Connection::new(Protocol::Tcp, client, dvipa)?;
    let (until, away) = value.split_at_checked(size_of::<u64>())?;
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_ne_bytes);
    let standing = match number(away)? {
        0 => Away::Frozen,
        2 => Away::Deaf,
        _ => Away::Departed,
    };
    Some((connection, standing, now >= number(until)?))
}

/// What `bpf_ktime_get_ns` gives.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) =
        (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::{Away, entry, key};
    use model::{Connection, Protocol};

    #[test]
    fn an_entry_is_read_as_it_was_written_until_its_end() {
        for (client, dvipa) in
            [("198.18.0.2:40000", "198.18.9.1:80"), ("[2001:db8::2]:40000", "[2001:db8:9::1]:80")]
        {
            let connection =
                Connection::new(Protocol::Tcp, client.parse().unwrap(), dvipa.parse().unwrap()).unwrap();
            let value = [1000u64.to_ne_bytes(), 1u64.to_ne_bytes()].concat();
            assert_eq!(entry(&key(&connection), &value, 999), Some((connection, Away::Departed, false)));
            assert_eq!(entry(&key(&connection), &value, 1000), Some((connection, Away::Departed, true)));
        }
    }
}
