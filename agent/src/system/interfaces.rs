//! The network interfaces that forwarded packets arrive at.

use std::net::{IpAddr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkLayerType};

use crate::machine::Ifindex;

/// An interface as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number; another one when it was deleted and made again.
    pub ifindex: Ifindex,
    /// The largest IP packet that it carries, in bytes.
    pub mtu: u32,
    /// Its first global IPv6 address that may be a source.
    pub v6: Option<Ipv6Addr>,
}

/// Why an interface can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// There is none of this name, or the kernel does not say.
    #[error(
        "interface {name} is not there: {cause}; correct `interface` in agent.toml, `ip link` lists them"
    )]
    Missing {
        /// Its name.
        name: String,
        /// What the kernel says.
        cause: rtnetlink::Error,
    },
    /// The programs expect Ethernet headers.
    #[error("interface {0} is not an Ethernet interface; forwarded packets must arrive at one")]
    NotEthernet(String),
}

/// Looks an interface up.
///
/// # Errors
/// [`InterfaceError`] if it is missing or not Ethernet.
pub async fn find(netlink: &rtnetlink::Handle, name: &str) -> Result<Interface, InterfaceError> {
    let missing = |cause| InterfaceError::Missing { name: name.to_owned(), cause };
    let mut links = netlink.link().get().match_name(name.to_owned()).execute();
    let link =
        links.try_next().await.map_err(missing)?.ok_or_else(|| missing(rtnetlink::Error::RequestFailed))?;
    if link.header.link_layer_type != LinkLayerType::Ether {
        return Err(InterfaceError::NotEthernet(name.to_owned()));
    }
    let mtu =
        link.attributes.iter().find_map(|a| if let LinkAttribute::Mtu(mtu) = a { Some(*mtu) } else { None });
    let v6 = source_v6(netlink, link.header.index).await.map_err(missing)?;
    let ifindex = Ifindex(link.header.index);
    Ok(Interface { name: name.to_owned(), ifindex, mtu: mtu.unwrap_or(1500), v6 })
}

async fn source_v6(netlink: &rtnetlink::Handle, index: u32) -> Result<Option<Ipv6Addr>, rtnetlink::Error> {
    let unfit = AddressHeaderFlags::Deprecated | AddressHeaderFlags::Tentative;
    let mut addresses = netlink.address().get().set_link_index_filter(index).execute();
    let mut first = None;
    while let Some(message) = addresses.try_next().await? {
        let fits = message.header.scope == AddressScope::Universe && !message.header.flags.intersects(unfit);
        first = first.or_else(|| {
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V6(address)) if fits => Some(*address),
                _ => None,
            })
        });
    }
    Ok(first)
}
