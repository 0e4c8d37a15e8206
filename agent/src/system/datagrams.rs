//! The map of bpf/datagrams.h: which DVIPA a client's UDP datagrams came to, and when the last one came.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use model::{Connection, Protocol};

use super::maps::{AddressBytes, from_bytes};

/// `struct flow`: address, client's port, port.
const CLIENT_PORT: usize = size_of::<AddressBytes>();
const PORT: usize = CLIENT_PORT + 2;
/// `struct datagrams`: address, then the time.
const LAST_NS: usize = size_of::<AddressBytes>();
/// Entries that the kernel is asked for at once.
const BATCH: u32 = 4096;

/// UDP flows that reached this host. Entries make room for newer ones by themselves.
#[derive(Clone, Debug)]
pub struct Datagrams {
    map: Arc<MapHandle>,
}

impl Datagrams {
    pub(super) fn new(map: MapHandle) -> Self {
        Self { map: Arc::new(map) }
    }

    /// The flows of which a datagram came within the last `within`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn recent(&self, within: Duration) -> libbpf_rs::Result<Vec<Connection>> {
        let now = uptime().unwrap_or_default();
        let entries = self.map.lookup_batch(BATCH, MapFlags::ANY, MapFlags::ANY)?;
        Ok(entries.filter_map(|(key, value)| flow(&key, &value, now, within)).collect())
    }
}

/// The time since the host has started, as the programs count it: proc(5).
fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    Duration::try_from_secs_f64(text.split(' ').next()?.parse().ok()?).ok()
}

fn flow(key: &[u8], value: &[u8], now: Duration, within: Duration) -> Option<Connection> {
    let port = |at: usize| key.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    let client = SocketAddr::new(from_bytes(key.get(..CLIENT_PORT)?)?, port(CLIENT_PORT)?);
    let dvipa = SocketAddr::new(from_bytes(value.get(..LAST_NS)?)?, port(PORT)?);
    let last = Duration::from_nanos(u64::from_ne_bytes(*value.get(LAST_NS..)?.first_chunk()?));
    let is_recent = now.saturating_sub(last) <= within;
    Connection::new(Protocol::Udp, client, dvipa).filter(|_| is_recent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_map_is_a_flow_until_it_is_too_old() {
        let address = |a: [u8; 4]| std::net::Ipv4Addr::from(a).to_ipv6_mapped().octets();
        let key = [&address([198, 18, 0, 2])[..], &4000_u16.to_be_bytes(), &53_u16.to_be_bytes()].concat();
        let value = [&address([198, 18, 9, 1])[..], &7_000_000_000_u64.to_ne_bytes()].concat();
        let at = |s| flow(&key, &value, Duration::from_secs(s), Duration::from_secs(120));
        let client = ([198, 18, 0, 2], 4000).into();
        let expected = Connection::new(Protocol::Udp, client, ([198, 18, 9, 1], 53).into());
        assert_eq!((at(100), at(127), at(128)), (expected, expected, None));
    }
}
