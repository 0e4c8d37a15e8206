//! DVIPAs as addresses of this host, on `lo`: there the host takes packets for them, and tells nobody.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use model::Dvipa;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, CacheInfo};

/// `lo` has this number in every network namespace.
const LOOPBACK: u32 = 1;

/// Makes the DVIPA an address of this host; no error if it is one already.
///
/// An IPv6 address is deprecated from the start (RFC 4862 5.5.4): applications may bind to it, but the kernel never picks
/// it as a source by itself. Beside the local route it gets none in the table `main`, where the ways of containers' packets are
/// looked up ([`super::rules`]).
///
/// # Errors
/// What the kernel says.
pub async fn add(netlink: &rtnetlink::Handle, dvipa: Dvipa) -> Result<(), rtnetlink::Error> {
    let address = dvipa.address();
    let mut request = netlink.address().add(LOOPBACK, address, host_prefix(address)).replace();
    if address.is_ipv6() {
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_preferred = 0;
        lifetime.ifa_valid = u32::MAX;
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::CacheInfo(lifetime));
        attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
    }
    request.execute().await
}

/// Takes the DVIPA away from `lo`; no error if it is not there.
///
/// # Errors
/// What the kernel says.
pub async fn remove(netlink: &rtnetlink::Handle, dvipa: Dvipa) -> Result<(), rtnetlink::Error> {
    let filter = netlink.address().get().set_link_index_filter(LOOPBACK);
    let filter = filter.set_prefix_length_filter(host_prefix(dvipa.address()));
    let mut found = filter.set_address_filter(dvipa.address()).execute();
    while let Some(message) = found.try_next().await? {
        netlink.address().del(message).execute().await?;
    }
    Ok(())
}

fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
