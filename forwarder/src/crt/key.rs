//! What a connection, or a datagram in fragments, is called in the table: exact, in as few words as it fits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::{DvipaIndex, Protocol};

use crate::traffic;

/// Bits of an entry's last word that belong to the key: DVIPA index (12) and protocol (1).
pub(super) const SERVICE_BITS: u32 = 13;
const DVIPA_BITS: u32 = 12;

/// A key of one of the tables. Two keys are equal exactly if their words and their services are.
pub trait Exact: Copy + Eq {
    /// Words of a key beside its service, in an entry.
    const WORDS: usize;
    /// `[u64; WORDS]`.
    type Words: Copy + Eq + Default + AsRef<[u64]> + AsMut<[u64]>;
    /// All of the key but the service; the first word is the one in which keys differ most.
    fn words(self) -> Self::Words;
    /// DVIPA index and protocol. More than `SERVICE_BITS` bits: no entry has this key.
    fn service(self) -> u64;
    /// The key again.
    fn from_parts(words: Self::Words, service: u64) -> Self;
}

/// An IPv4 connection: client address and port, DVIPA index and port, protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyV4 {
    /// Client address (32 bits), client port (16), DVIPA's port (16), most significant first.
    ends: u64,
    service: u64,
}

/// An IPv6 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyV6 {
    client: u128,
    /// Client port (16 bits), DVIPA's port (16).
    ports: u32,
    service: u32,
}

/// An IPv4 datagram in fragments (RFC 791 3.2): source, destination, protocol, identification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKeyV4 {
    ends: u64,
    dvipa: u32,
}

/// An IPv6 datagram in fragments (RFC 8200 4.5): source, destination, identification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKeyV6 {
    source: u128,
    identification: u32,
    dvipa: u32,
}

fn service(dvipa: DvipaIndex, protocol: Protocol) -> u32 {
    u32::from(dvipa.0)
        | (u32::from(protocol == Protocol::Udp) << DVIPA_BITS)
        | (u32::from(dvipa.0 > DvipaIndex::MAX) << 16)
}

fn dvipa_of(service: u32) -> DvipaIndex {
    DvipaIndex((service & u32::from(DvipaIndex::MAX)) as u16)
}

/// Whether a service's protocol is UDP.
#[inline(always)]
pub(super) const fn is_udp(service: u64) -> bool {
    service & UDP != 0
}

/// The bit of a service that says that its protocol is UDP.
pub(super) const UDP: u64 = 1 << DVIPA_BITS;

fn protocol_of(service: u64) -> Protocol {
    if is_udp(service) { Protocol::Udp } else { Protocol::Tcp }
}

impl KeyV4 {
    /// Ports in host order. A DVIPA index above [`DvipaIndex::MAX`] makes a key that is never found.
    #[inline(always)]
    pub fn new(
        client: Ipv4Addr,
        client_port: u16,
        dvipa: DvipaIndex,
        dvipa_port: u16,
        protocol: Protocol,
    ) -> Self {
        let ports = u64::from(client_port) << 16 | u64::from(dvipa_port);
        Self::of_ends(u64::from(client.to_bits()) << 32 | ports, dvipa, protocol)
    }

    /// [`Self::new`] from what [`Self::ends`] returns.
    #[inline(always)]
    pub(crate) fn of_ends(ends: u64, dvipa: DvipaIndex, protocol: Protocol) -> Self {
        Self { ends, service: service(dvipa, protocol).into() }
    }
}

impl KeyV6 {
    /// Ports in host order. A DVIPA index above [`DvipaIndex::MAX`] makes a key that is never found.
    #[inline(always)]
    pub fn new(
        client: Ipv6Addr,
        client_port: u16,
        dvipa: DvipaIndex,
        dvipa_port: u16,
        protocol: Protocol,
    ) -> Self {
        let ports = u32::from(client_port) << 16 | u32::from(dvipa_port);
        Self { client: client.to_bits(), ports, service: service(dvipa, protocol) }
    }
}

impl KeyV4 {
    /// Client address, client port and DVIPA's port, most significant first.
    #[inline(always)]
    pub(crate) fn ends(self) -> u64 {
        self.ends
    }

    /// DVIPA, protocol and port, as in a [`crate::traffic::Pair`].
    #[inline(always)]
    pub(crate) fn counted(self) -> u64 {
        traffic::of_service(self.service, self.ends & 0xffff)
    }
}

impl KeyV6 {
    /// Client address; client port and DVIPA's port, most significant first.
    #[inline(always)]
    pub(crate) fn ends(self) -> (u128, u32) {
        (self.client, self.ports)
    }

    /// DVIPA, protocol and port, as in a [`crate::traffic::Pair`].
    #[inline(always)]
    pub(crate) fn counted(self) -> u64 {
        traffic::of_service(self.service.into(), u64::from(self.ports) & 0xffff)
    }
}

impl FragmentKeyV4 {
    /// From the header of any fragment. A DVIPA index above [`DvipaIndex::MAX`] makes a key that is never found.
    #[inline(always)]
    pub fn new(source: Ipv4Addr, dvipa: DvipaIndex, protocol: u8, identification: u16) -> Self {
        let ends = u64::from(source.to_bits()) << 32 | u64::from(protocol) << 16 | u64::from(identification);
        Self { ends, dvipa: service(dvipa, Protocol::Tcp) }
    }
}

impl FragmentKeyV6 {
    /// From the header of any fragment. A DVIPA index above [`DvipaIndex::MAX`] makes a key that is never found.
    #[inline(always)]
    pub fn new(source: Ipv6Addr, dvipa: DvipaIndex, identification: u32) -> Self {
        Self { source: source.to_bits(), identification, dvipa: service(dvipa, Protocol::Tcp) }
    }
}

/// What the displays show of a connection's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyParts {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The DVIPA's index.
    pub dvipa: DvipaIndex,
    /// The DVIPA's port.
    pub dvipa_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl From<KeyV4> for KeyParts {
    #[inline]
    fn from(key: KeyV4) -> Self {
        let client = IpAddr::V4(Ipv4Addr::from_bits((key.ends >> 32) as u32));
        Self {
            client: SocketAddr::new(client, (key.ends >> 16) as u16),
            dvipa: dvipa_of(key.service as u32),
            dvipa_port: key.ends as u16,
            protocol: protocol_of(key.service),
        }
    }
}

impl From<KeyV6> for KeyParts {
    #[inline]
    fn from(key: KeyV6) -> Self {
        Self {
            client: SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(key.client)), (key.ports >> 16) as u16),
            dvipa: dvipa_of(key.service),
            dvipa_port: key.ports as u16,
            protocol: protocol_of(u64::from(key.service)),
        }
    }
}

impl Exact for KeyV4 {
    const WORDS: usize = 1;
    type Words = [u64; 1];
    #[inline(always)]
    fn words(self) -> [u64; 1] {
        [self.ends]
    }
    #[inline(always)]
    fn service(self) -> u64 {
        self.service
    }
    #[inline(always)]
    fn from_parts([ends]: [u64; 1], service: u64) -> Self {
        Self { ends, service }
    }
}

impl Exact for KeyV6 {
    const WORDS: usize = 3;
    type Words = [u64; 3];
    #[inline(always)]
    fn words(self) -> [u64; 3] {
        [self.client as u64, (self.client >> 64) as u64, u64::from(self.ports)]
    }
    #[inline(always)]
    fn service(self) -> u64 {
        u64::from(self.service)
    }
    #[inline(always)]
    fn from_parts([low, high, ports]: [u64; 3], service: u64) -> Self {
        Self {
            client: u128::from(high) << 64 | u128::from(low),
            ports: ports as u32,
            service: service as u32,
        }
    }
}

impl Exact for FragmentKeyV4 {
    const WORDS: usize = 1;
    type Words = [u64; 1];
    #[inline(always)]
    fn words(self) -> [u64; 1] {
        [self.ends]
    }
    #[inline(always)]
    fn service(self) -> u64 {
        u64::from(self.dvipa)
    }
    #[inline(always)]
    fn from_parts([ends]: [u64; 1], service: u64) -> Self {
        Self { ends, dvipa: service as u32 }
    }
}

impl Exact for FragmentKeyV6 {
    const WORDS: usize = 3;
    type Words = [u64; 3];
    #[inline(always)]
    fn words(self) -> [u64; 3] {
        [self.source as u64, (self.source >> 64) as u64, u64::from(self.identification)]
    }
    #[inline(always)]
    fn service(self) -> u64 {
        u64::from(self.dvipa)
    }
    #[inline(always)]
    fn from_parts([low, high, identification]: [u64; 3], service: u64) -> Self {
        let source = u128::from(high) << 64 | u128::from(low);
        Self { source, identification: identification as u32, dvipa: service as u32 }
    }
}
