//! What others change on this host, as the kernel tells it (rtnetlink notifications).

use std::future::pending;
use std::io;
use std::net::IpAddr;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;

use crate::machine::Ifindex;

/// Something that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// An address was removed from an interface.
    AddressRemoved(IpAddr),
    /// An interface, its queueing discipline or a filter of it.
    Interface(Ifindex),
}

/// The notifications, and a handle for requests.
pub struct Changes {
    messages: BoxStream<'static, (NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr)>,
}

impl Changes {
    /// Subscribes. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn subscribe() -> io::Result<(rtnetlink::Handle, Self)> {
        let groups = [
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Link,
            MulticastGroup::Tc,
        ];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
        tokio::spawn(connection);
        Ok((handle, Self { messages: messages.boxed() }))
    }

    /// The next change. May be dropped and called again: none is lost by that.
    pub async fn next(&mut self) -> Change {
        loop {
            // The connection ends with the runtime; what is not told is found by the regular look.
            let Some((message, _)) = self.messages.next().await else { return pending().await };
            if let Some(change) = read(&message) {
                return change;
            }
        }
    }
}

fn read(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Change> {
    let NetlinkPayload::InnerMessage(message) = &message.payload else { return None };
    match message {
        RouteNetlinkMessage::DelAddress(message) => {
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(Change::AddressRemoved(*address)),
                _ => None,
            })
        }
        RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message) => {
            Some(Change::Interface(Ifindex(message.header.index)))
        }
        RouteNetlinkMessage::NewTrafficFilter(message)
        | RouteNetlinkMessage::DelTrafficFilter(message)
        | RouteNetlinkMessage::DelQueueDiscipline(message) => {
            Some(Change::Interface(Ifindex(message.header.index.cast_unsigned())))
        }
        _ => None,
    }
}
