//! The general way of reading: any frame, any header the path knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::{DvipaIndex, Protocol};

use super::encapsulate::Inner;
use super::ends::{AnyKey, Ends};
use crate::crt::KeyParts;
use crate::packet::{Ethernet, Fragment, Ipv4, Ipv6, Ports, Tcp, Udp, chunk_at, ipv4, ipv6, protocol};
use crate::tables::Family;
use crate::{Reason, Tables};

/// An IP packet to a DVIPA, checked up to its transport header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram {
    pub(crate) ethernet: Ethernet,
    pub(crate) family: Family,
    pub(crate) source: IpAddr,
    pub(crate) dvipa: DvipaIndex,
    pub(crate) address: IpAddr,
    /// Bytes of the IP header with options or extension headers.
    pub(crate) header_bytes: usize,
    /// Bytes from the IP header on, padding left out.
    pub(crate) len: u16,
    pub(crate) protocol: u8,
    pub(crate) traffic_class: u8,
    pub(crate) hops: u8,
    /// Routers may fragment it.
    pub(crate) may_split: bool,
    pub(crate) fragment: Option<Fragment>,
}

impl Datagram {
    /// Reads the IP header of a frame. `Ok(None)`: not to a DVIPA.
    ///
    /// # Errors
    /// Why a packet to a DVIPA is dropped. What is wrong with other packets is their receiver's business.
    pub(crate) fn parse(frame: &[u8], ethernet: Ethernet, tables: &Tables) -> Result<Option<Self>, Reason> {
        let bytes = frame.get(ethernet.header_bytes..).unwrap_or_default();
        match ethernet.ethertype {
            crate::packet::ethernet::IPV4 => Self::parse_v4(bytes, ethernet, tables),
            crate::packet::ethernet::IPV6 => Self::parse_v6(bytes, ethernet, tables),
            _ => Ok(None),
        }
    }

    /// [`Datagram::parse`] of a frame that is [plain](super::parse), with its key: what is known of it is not looked at again.
    pub(crate) fn plain(frame: &[u8], key: AnyKey) -> Option<Self> {
        let ethernet = Ethernet::parse(frame).ok()?;
        let ip = ethernet.header_bytes;
        match key {
            AnyKey::V4(key) => {
                let head = chunk_at::<{ ipv4::HEADER_BYTES }>(frame, ip)?;
                let [_, class, l0, l1, _, _, flags, _, hops, protocol, _, _, ends @ ..] = *head;
                let [s0, s1, s2, s3, d0, d1, d2, d3] = ends;
                Some(Self {
                    ethernet,
                    family: Family::V4,
                    source: Ipv4Addr::from([s0, s1, s2, s3]).into(),
                    dvipa: KeyParts::from(key).dvipa,
                    address: Ipv4Addr::from([d0, d1, d2, d3]).into(),
                    header_bytes: ipv4::HEADER_BYTES,
                    len: u16::from_be_bytes([l0, l1]),
                    protocol,
                    traffic_class: class,
                    hops,
                    may_split: flags & 0x40 == 0,
                    fragment: None,
                })
            }
            AnyKey::V6(key) => {
                let [v, c, _, _, l0, l1, protocol, hops] = *chunk_at::<8>(frame, ip)?;
                let source = chunk_at::<16>(frame, ip.saturating_add(8))?;
                let address = chunk_at::<16>(frame, ip.saturating_add(24))?;
                Some(Self {
                    ethernet,
                    family: Family::V6,
                    source: Ipv6Addr::from(*source).into(),
                    dvipa: KeyParts::from(key).dvipa,
                    address: Ipv6Addr::from(*address).into(),
                    header_bytes: ipv6::HEADER_BYTES,
                    len: u16::from_be_bytes([l0, l1]).saturating_add(ipv6::HEADER_BYTES as u16),
                    protocol,
                    traffic_class: v << 4 | c >> 4,
                    hops,
                    may_split: false,
                    fragment: None,
                })
            }
        }
    }

    fn parse_v4(bytes: &[u8], ethernet: Ethernet, tables: &Tables) -> Result<Option<Self>, Reason> {
        let destination = chunk_at::<4>(bytes, 16).map(|a| Ipv4Addr::from(*a));
        let Some((address, dvipa)) = destination.and_then(|a| tables.dvipa_v4(a).map(|d| (a, d))) else {
            return Ok(None);
        };
        let ip = Ipv4::parse(bytes)?;
        if !ipv4::is_host(ip.source()) || ip.source() == address {
            return Err(Reason::BadSource);
        }
        Ok(Some(Self {
            ethernet,
            family: Family::V4,
            source: ip.source().into(),
            dvipa,
            address: address.into(),
            header_bytes: ip.header_bytes(),
            len: u16::try_from(ip.total_bytes()).map_err(|_| Reason::BadLength)?,
            protocol: ip.protocol(),
            traffic_class: ip.traffic_class(),
            hops: ip.ttl(),
            may_split: !ip.dont_fragment(),
            fragment: ip.fragment(),
        }))
    }

    fn parse_v6(bytes: &[u8], ethernet: Ethernet, tables: &Tables) -> Result<Option<Self>, Reason> {
        let destination = chunk_at::<16>(bytes, 24).map(|a| Ipv6Addr::from(*a));
        let Some((address, dvipa)) = destination.and_then(|a| tables.dvipa_v6(a).map(|d| (a, d))) else {
            return Ok(None);
        };
        let ip = Ipv6::parse(bytes)?;
        // Neighbour discovery's own checks tell when the unspecified address may be a source.
        let source_is_sane = ipv6::is_host(ip.source()) || ip.protocol() == protocol::ICMPV6;
        if !source_is_sane || ip.source() == address {
            return Err(Reason::BadSource);
        }
        // An atomic fragment (RFC 6946) is whole.
        let fragment = ip.fragment().filter(|f| f.more || !f.is_first());
        Ok(Some(Self {
            ethernet,
            family: Family::V6,
            source: ip.source().into(),
            dvipa,
            address: address.into(),
            header_bytes: ip.header_bytes(),
            len: u16::try_from(ip.total_bytes()).map_err(|_| Reason::BadLength)?,
            protocol: ip.protocol(),
            traffic_class: ip.traffic_class(),
            hops: ip.hop_limit(),
            may_split: false,
            fragment,
        }))
    }

    /// Its bytes from the IP header on, padding left out.
    pub(crate) fn packet<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        let bytes = frame.get(self.ethernet.header_bytes..).unwrap_or_default();
        bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Its bytes behind the IP header.
    pub(crate) fn payload<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        self.packet(frame).get(self.header_bytes..).unwrap_or_default()
    }

    /// Its connection's ends, and whether it may open one.
    ///
    /// # Errors
    /// What is wrong with the transport header.
    pub(crate) fn ends(&self, frame: &[u8]) -> Result<(Ends, bool), Reason> {
        let payload = self.payload(frame);
        let (ports, protocol, opens): (Ports, _, _) = match self.protocol {
            protocol::TCP => Tcp::parse(payload).map(|t| (t.ports, Protocol::Tcp, t.opens()))?,
            protocol::UDP if self.fragment.is_some() => {
                Udp::parse_first_fragment(payload).map(|u| (u.ports, Protocol::Udp, true))?
            }
            protocol::UDP => Udp::parse(payload).map(|u| (u.ports, Protocol::Udp, true))?,
            _ => return Err(Reason::ProtocolUnsupported),
        };
        let client = SocketAddr::new(self.source, ports.source);
        Ok((Ends { client, dvipa: self.dvipa, port: ports.destination, protocol }, opens))
    }

    /// What the encapsulation wants to know of it.
    pub(crate) fn inner(&self, hash: u16) -> Inner {
        Inner {
            family: self.family,
            l2_bytes: self.ethernet.header_bytes,
            len: self.len,
            traffic_class: self.traffic_class,
            hash,
        }
    }
}
