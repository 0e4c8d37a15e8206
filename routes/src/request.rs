//! What the readers find in a request, whatever the protocol: what matches are compared with.

/// A request, as far as it is read. What it does not have is `None`, and matches nothing that is asked of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Request<'a> {
    /// The host or server name, in lower case, without port and final dot.
    pub(crate) host: Option<&'a [u8]>,
    /// HTTP: the path. PostgreSQL: the database. MQTT: the client identifier. Redis: the key. Raw: the bytes.
    pub(crate) subject: Option<&'a [u8]>,
    pub(crate) method: &'a [u8],
    /// Header lines, each with its end: names, colons and values, well formed.
    pub(crate) lines: &'a [u8],
    /// What follows the `?` of the target.
    pub(crate) query: &'a [u8],
    /// A bit for each protocol of [`Alpn`] that the client offers.
    pub(crate) alpn: u64,
    pub(crate) user: Option<&'a [u8]>,
    pub(crate) slot: Option<u16>,
}

/// The application protocols that matches name; each is a bit.
#[derive(Debug, Default)]
pub(crate) struct Alpn(pub(crate) Box<[Box<[u8]>]>);

/// How many application protocols the matches of a port may name.
pub(crate) const MAX_ALPN: usize = 64;

impl Alpn {
    /// The bit of a protocol; none if no match names it.
    pub(crate) fn bit(&self, name: &[u8]) -> u64 {
        alpn_bit(&self.0, name)
    }
}

/// The bit of a protocol among those that are known.
pub(crate) fn alpn_bit(known: &[Box<[u8]>], name: &[u8]) -> u64 {
    let at = known.iter().take(MAX_ALPN).position(|known| **known == *name);
    at.map_or(0, |at| 1_u64.wrapping_shl(at as u32))
}
