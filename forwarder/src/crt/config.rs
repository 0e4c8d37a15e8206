//! Sizes and lifetimes.

/// Sizes and lifetimes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Confirmed IPv4 TCP connections that must fit. What is more makes those end that were idle for longest.
    pub connections_v4: usize,
    /// Confirmed IPv6 TCP connections that must fit.
    pub connections_v6: usize,
    /// UDP flows that must fit, for each address family. What is more replaces the oldest ones.
    pub flows: usize,
    /// Bound of half-open TCP entries, for each address family.
    pub half_open: usize,
    /// Bound of datagrams whose fragments are followed, for each address family.
    pub fragments: usize,
    /// How long a TCP connection must have been idle to end where the table is full, in seconds. No time ends it elsewhere.
    pub idle_tcp_s: u32,
    /// Life of an idle UDP flow, in seconds.
    pub idle_udp_s: u32,
    /// Life of an unconfirmed entry, in seconds.
    pub half_open_s: u32,
    /// Life of an entry after its connection's end, in seconds.
    pub closing_s: u32,
    /// Life of a datagram's fragments, in seconds.
    pub fragment_s: u32,
}

impl Config {
    /// Bytes that a table of these sizes takes in a process's own memory; `None` if that is more than can be addressed.
    pub fn bytes(&self) -> Option<usize> {
        super::layout::bytes(self)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connections_v4: 1_000_000,
            connections_v6: 250_000,
            flows: 262_144,
            half_open: 262_144,
            fragments: 16_384,
            idle_tcp_s: 3600,
            idle_udp_s: 120,
            half_open_s: 10,
            closing_s: 4,
            fragment_s: 10,
        }
    }
}
