//! The maps that the agent shares with its programs: what they are told, and what they count.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use model::Dvipa;

use super::admissions::Admissions;
use super::conversations::Conversations;
use super::datagrams::Datagrams;
use super::freezes::Freezes;
use super::listeners::Listeners;
use super::tokens::Tokens;
use crate::counters::COUNTERS;
use crate::machine::{Forwarders, Inherited, Origin, Takes};

/// The maps of a loaded set of programs.
#[derive(Debug)]
pub struct Maps {
    pub(super) forwarders: MapHandle,
    pub(super) dvipas: MapHandle,
    pub(super) counters: MapHandle,
    pub(super) events: MapHandle,
    /// Which DVIPAs clients' UDP datagrams came to.
    pub datagrams: Datagrams,
    /// Connections whose packets are kept away.
    pub freezes: Arc<Freezes>,
    /// Connections that may be put into listeners.
    pub admissions: Arc<Admissions>,
    /// Tokens that were given out ahead.
    pub tokens: Tokens,
    /// What is said on connections.
    pub conversations: Conversations,
    /// Which sockets take new connections.
    pub listeners: Listeners,
}

/// `struct address` of bpf/address.h.
pub(super) type AddressBytes = [u8; 16];
/// `struct origin` of bpf/dvipas.h: two addresses.
const ORIGIN_BYTES: usize = 32;

/// `struct forwarder` of bpf/decapsulate.bpf.c: two addresses.
const FORWARDER_BYTES: usize = 32;
type ForwarderBytes = [u8; FORWARDER_BYTES];

/// `struct service` of bpf/connection.h: an address, a port in network byte order, padding.
pub(super) type ServiceBytes = [u8; 20];

pub(super) fn service_bytes(service: SocketAddr) -> ServiceBytes {
    let mut bytes = [0; 20];
    let (address, port) = bytes.split_at_mut(size_of::<AddressBytes>());
    address.copy_from_slice(&to_bytes(service.ip()));
    let [high, low] = service.port().to_be_bytes();
    port.copy_from_slice(&[high, low, 0, 0]);
    bytes
}

pub(super) fn service_from_bytes(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_at_checked(size_of::<AddressBytes>())?;
    let port = u16::from_be_bytes(*port.first_chunk()?);
    Some(SocketAddr::new(from_bytes(address)?, port))
}

pub(super) fn to_bytes(address: IpAddr) -> AddressBytes {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

pub(super) fn from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    let bytes: AddressBytes = bytes.try_into().ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
}

fn forwarder_bytes(source: IpAddr, dvipa: Option<Dvipa>) -> ForwarderBytes {
    let mut bytes = [0; FORWARDER_BYTES];
    let (first, second) = bytes.split_at_mut(size_of::<AddressBytes>());
    first.copy_from_slice(&to_bytes(source));
    second.copy_from_slice(&dvipa.map_or([0; 16], |dvipa| to_bytes(dvipa.address())));
    bytes
}

/// `enum takes` of bpf/decapsulate.bpf.c.
fn takes_byte(takes: Takes) -> u8 {
    match takes {
        Takes::All => 1,
        Takes::WhatIsHere => 2,
    }
}

fn forwarder_from_bytes(key: &[u8], takes: &[u8]) -> Option<((IpAddr, Dvipa), Takes)> {
    let (source, dvipa) = key.split_at_checked(size_of::<AddressBytes>())?;
    let (source, dvipa) = (from_bytes(source)?, from_bytes(dvipa)?);
    let takes = [Takes::All, Takes::WhatIsHere].into_iter().find(|known| [takes_byte(*known)] == *takes)?;
    (!dvipa.is_unspecified()).then_some(((source, Dvipa::new(dvipa)), takes))
}

fn origin_from_bytes(bytes: &[u8]) -> Option<Origin> {
    let (to, from) = bytes.split_at_checked(size_of::<AddressBytes>())?;
    let (to, from) = (from_bytes(to)?, from_bytes(from)?);
    (!to.is_unspecified()).then_some(Origin { to, from })
}

impl Maps {
    /// Accepts encapsulated packets from these sources and no others. New ones are added before old ones go.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_forwarders(&self, forwarders: &Forwarders) -> libbpf_rs::Result<()> {
        let mut wanted = BTreeMap::new();
        for ((source, dvipa), takes) in forwarders {
            wanted.insert(forwarder_bytes(*source, Some(*dvipa)), takes_byte(*takes));
            wanted.insert(forwarder_bytes(*source, None), takes_byte(Takes::All));
        }
        for (key, takes) in &wanted {
            self.forwarders.update(key, &[*takes], MapFlags::ANY)?;
        }
        for key in self.forwarders.keys().collect::<Vec<_>>() {
            if !ForwarderBytes::try_from(key.as_slice()).is_ok_and(|key| wanted.contains_key(&key)) {
                self.forwarders.delete(&key)?;
            }
        }
        Ok(())
    }

    /// The programs treat this as a DVIPA of this host.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_dvipa(&self, dvipa: Dvipa, origin: Option<Origin>) -> libbpf_rs::Result<()> {
        let mut value = [0; ORIGIN_BYTES];
        if let Some(Origin { to, from }) = origin {
            let (first, second) = value.split_at_mut(size_of::<AddressBytes>());
            first.copy_from_slice(&to_bytes(to));
            second.copy_from_slice(&to_bytes(from));
        }
        self.dvipas.update(&to_bytes(dvipa.address()), &value, MapFlags::ANY)
    }

    /// The programs no longer treat this as a DVIPA.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_dvipa(&self, dvipa: Dvipa) -> libbpf_rs::Result<()> {
        match self.dvipas.delete(&to_bytes(dvipa.address())) {
            Err(e) if e.kind() == libbpf_rs::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// What is in force, left by a former run of the agent.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn inherited(&self) -> libbpf_rs::Result<Inherited> {
        let mut inherited = Inherited::default();
        for key in self.forwarders.keys() {
            let takes = self.forwarders.lookup(&key, MapFlags::ANY)?;
            inherited.forwarders.extend(takes.and_then(|takes| forwarder_from_bytes(&key, &takes)));
        }
        for key in self.dvipas.keys() {
            let origin = self.dvipas.lookup(&key, MapFlags::ANY)?.and_then(|value| origin_from_bytes(&value));
            inherited.dvipas.extend(from_bytes(&key).map(|address| (Dvipa::new(address), origin)));
        }
        Ok(inherited)
    }

    /// The counters, in the order of [`COUNTERS`], summed over the processors.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn counters(&self) -> libbpf_rs::Result<Vec<u64>> {
        let read = |index: usize| {
            let key = u32::try_from(index).unwrap_or(u32::MAX).to_ne_bytes();
            let per_cpu = self.counters.lookup_percpu(&key, MapFlags::ANY)?.unwrap_or_default();
            let number = |bytes: &Vec<u8>| bytes.as_slice().try_into().map_or(0, u64::from_ne_bytes);
            Ok(per_cpu.iter().map(number).fold(0, u64::wrapping_add))
        };
        (0..COUNTERS.len()).map(read).collect()
    }
}
