//! What the look-ups of tables are made of: addresses, services and senders, with the numbers that they lead to.

use std::net::IpAddr;
use std::sync::Arc;

use model::dpt::{Distribution, Dpt, Duty, DvipaEntry, Reach, Shared};
use model::{DvipaIndex, Protocol, StackIndex};

use super::open_map::OpenMap;

pub(super) fn service_key(dvipa: DvipaIndex, port: u16, protocol: Protocol) -> u32 {
    u32::from(dvipa.0) << 17 | u32::from(port) << 1 | u32::from(protocol == Protocol::Udp)
}

pub(super) fn key_of(row: &Distribution) -> u32 {
    service_key(row.dvipa, row.port, row.protocol)
}

pub(super) fn sender_key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().to_bits(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

pub(super) fn dvipas_v4(dpt: &Dpt) -> OpenMap<u32, DvipaIndex> {
    OpenMap::new(dvipas(dpt, |a| match a {
        IpAddr::V4(a) => Some(a.to_bits()),
        IpAddr::V6(_) => None,
    }))
}

pub(super) fn dvipas_v6(dpt: &Dpt) -> OpenMap<u128, DvipaIndex> {
    OpenMap::new(dvipas(dpt, |a| match a {
        IpAddr::V4(_) => None,
        IpAddr::V6(a) => Some(a.to_bits()),
    }))
}

fn dvipas<K>(dpt: &Dpt, key: impl Fn(IpAddr) -> Option<K>) -> std::vec::IntoIter<(K, DvipaIndex)> {
    let ours = dpt.dvipas.iter().filter(|d| forwards(d));
    let pairs = ours.filter_map(|d| key(d.dvipa.address()).map(|k| (k, d.index)));
    pairs.collect::<Vec<_>>().into_iter()
}

pub(super) fn forwards(entry: &DvipaEntry) -> bool {
    match entry.duty {
        Duty::Owner | Duty::Former | Duty::Partner => true,
        Duty::Backup => false,
    }
}

pub(super) fn entries(dpt: &Dpt) -> Arc<[Option<Shared<DvipaEntry>>]> {
    let len = dpt.dvipas.iter().map(|d| usize::from(d.index.0).saturating_add(1)).max().unwrap_or(0);
    let mut entries = vec![None; len];
    for d in &dpt.dvipas {
        if let Some(entry) = entries.get_mut(usize::from(d.index.0)) {
            *entry = Some(d.clone());
        }
    }
    entries.into()
}

pub(super) fn senders(dpt: &Dpt) -> std::vec::IntoIter<(u128, StackIndex)> {
    let remote = dpt.stacks.iter().filter_map(|s| match s.reach {
        Reach::Local => None,
        Reach::Remote { cluster_address, .. } => Some((s.index, cluster_address)),
    });
    let pairs =
        remote.flat_map(|(index, c)| c.iter().map(move |a| (sender_key(a), index)).collect::<Vec<_>>());
    pairs.collect::<Vec<_>>().into_iter()
}
