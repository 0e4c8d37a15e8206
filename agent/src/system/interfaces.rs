//! The network interfaces that forwarded packets arrive at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};

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
    /// Its first global IPv4 address.
    pub v4: Option<Ipv4Addr>,
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
    let (v4, v6) = sources(netlink, link.header.index).await.map_err(missing)?;
    let ifindex = Ifindex(link.header.index);
    Ok(Interface { name: name.to_owned(), ifindex, mtu: mtu.unwrap_or(1500), v4, v6 })
}

/// Interfaces that may lead to containers or virtual machines of this host, by name and number: bridges, veths and TAPs that are
/// no port of another interface, and neither `own` nor above it.
///
/// # Errors
/// What the kernel says.
pub async fn to_containers(
    netlink: &rtnetlink::Handle,
    own: &[Interface],
) -> Result<Vec<(String, Ifindex)>, rtnetlink::Error> {
    let links: Vec<LinkMessage> = netlink.link().get().execute().try_collect().await?;
    let controller = |link: &LinkMessage| {
        link.attributes
            .iter()
            .find_map(|a| if let LinkAttribute::Controller(c) = a { Some(*c) } else { None })
    };
    let is_own = |index: u32| own.iter().any(|i| i.ifindex.0 == index);
    let above: Vec<u32> = links.iter().filter(|l| is_own(l.header.index)).filter_map(controller).collect();
    let leads = |link: &&LinkMessage| {
        let index = link.header.index;
        let has_kind = link.attributes.iter().any(|a| match a {
            LinkAttribute::LinkInfo(infos) => infos.iter().any(|info| {
                matches!(info, LinkInfo::Kind(InfoKind::Bridge | InfoKind::Veth | InfoKind::Tun))
            }),
            _ => false,
        });
        let is_apart = !is_own(index) && !above.contains(&index) && controller(link).is_none();
        has_kind && is_apart && link.header.link_layer_type == LinkLayerType::Ether
    };
    let name = |link: &LinkMessage| {
        link.attributes.iter().find_map(|a| match a {
            LinkAttribute::IfName(name) => Some((name.clone(), Ifindex(link.header.index))),
            _ => None,
        })
    };
    Ok(links.iter().filter(leads).filter_map(name).collect())
}

/// The first addresses of both families that may be a source.
async fn sources(
    netlink: &rtnetlink::Handle,
    index: u32,
) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>), rtnetlink::Error> {
    let unfit = AddressHeaderFlags::Deprecated | AddressHeaderFlags::Tentative;
    let mut addresses = netlink.address().get().set_link_index_filter(index).execute();
    let (mut v4, mut v6) = (None, None);
    while let Some(message) = addresses.try_next().await? {
        if message.header.scope != AddressScope::Universe || message.header.flags.intersects(unfit) {
            continue;
        }
        for attribute in message.attributes {
            match attribute {
                AddressAttribute::Address(IpAddr::V4(address)) => v4 = v4.or(Some(address)),
                AddressAttribute::Address(IpAddr::V6(address)) => v6 = v6.or(Some(address)),
                _ => {}
            }
        }
    }
    Ok((v4, v6))
}
