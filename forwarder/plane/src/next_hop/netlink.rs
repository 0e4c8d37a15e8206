//! The resolver's I/O: a thread of its own that speaks rtnetlink with the kernel of its network namespace.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use forwarder::Mac;
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use model::{Connection, StackIndex};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::watch;

use super::too_big::{Ear, TooBig};
use super::{Action, Event, Known, Resolver, Seen, Trust, Wanted};

type Message = NetlinkMessage<RouteNetlinkMessage>;

/// What the kernel says unasked.
trait News: Stream<Item = (Message, SocketAddr)> + Unpin {}
impl<S: Stream<Item = (Message, SocketAddr)> + Unpin> News for S {}

/// Routes change in bundles: how long to wait for the rest of one.
const SETTLE: Duration = Duration::from_millis(20);

/// The next hops of the stacks, kept up to date by a thread that ends when this is dropped.
#[derive(Debug)]
pub struct NextHops {
    wanted: watch::Sender<Vec<Wanted>>,
    table: Arc<ArcSwap<Known>>,
}

impl NextHops {
    /// Follows the kernel's neighbours on the interface with this number. `owner` tells which stack has a connection.
    ///
    /// # Errors
    /// If the thread or its netlink socket can't be had.
    pub fn follow(
        interface: u32,
        owner: impl Fn(&Connection) -> Option<StackIndex> + Send + 'static,
    ) -> io::Result<Self> {
        let (wanted, receiver) = watch::channel(Vec::new());
        let table = Arc::new(ArcSwap::from_pointee(Known::default()));
        let published = Arc::clone(&table);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        thread::Builder::new().name("next-hops".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let groups = [MulticastGroup::Neigh, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
                let connected = new_multicast_connection(&groups).map(|(connection, handle, news)| {
                    tokio::spawn(connection);
                    (Kernel { handle, interface, owner: Box::new(owner) }, news)
                });
                match connected {
                    Ok((kernel, news)) => {
                        // The thread that started this one waits for the word.
                        let _ = ready.send(Ok(()));
                        kernel.serve(news, receiver, &published).await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { wanted, table })
    }

    /// Replaces the list of cluster addresses whose next hops are wanted.
    pub fn want(&self, wanted: Vec<Wanted>) {
        self.wanted.send_replace(wanted);
    }

    /// What is known now.
    pub fn table(&self) -> Arc<Known> {
        self.table.load_full()
    }
}

/// Which stack has a connection.
type Owner = dyn Fn(&Connection) -> Option<StackIndex> + Send;

struct Kernel {
    handle: Handle,
    interface: u32,
    owner: Box<Owner>,
}

impl Kernel {
    async fn serve(
        &self,
        mut news: impl News,
        mut wanted: watch::Receiver<Vec<Wanted>>,
        table: &ArcSwap<Known>,
    ) {
        let mut resolver = Resolver::default();
        let ears = [true, false].map(ear);
        self.read_neighbours(&mut resolver).await;
        loop {
            self.act(&mut resolver, table).await;
            let deadline = resolver.next_deadline();
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let list = wanted.borrow_and_update().clone();
                    resolver.handle(Event::Wanted(list), Instant::now());
                }
                Some((message, _)) = news.next() => self.hear(message, &mut news, &mut resolver).await,
                TooBig { destination, mtu, carried } = hear(&ears) => {
                    let owner = carried.as_ref().and_then(&self.owner);
                    tracing::info!(%destination, mtu, ?owner, "a router on the way takes no longer packets");
                    resolver.handle(Event::TooBig { destination, mtu, owner }, Instant::now());
                }
                () = until(deadline) => resolver.handle(Event::Tick, Instant::now()),
            }
        }
    }

    async fn act(&self, resolver: &mut Resolver, table: &ArcSwap<Known>) {
        while let Some(action) = resolver.poll() {
            match action {
                Action::LookUp(destination) => {
                    let next_hop = self.look_up(destination).await;
                    resolver.handle(Event::Routed { destination, next_hop }, Instant::now());
                }
                Action::Probe(neighbour) => self.probe(neighbour).await,
                Action::Confirm(neighbour) => self.confirm(neighbour).await,
                Action::Publish(known) => table.store(Arc::new(known)),
            }
        }
    }

    /// Takes one message and, if routes changed, those that follow it closely.
    async fn hear(&self, message: Message, news: &mut impl News, resolver: &mut Resolver) {
        let mut routes_changed = self.take(message, resolver).await;
        if routes_changed {
            tokio::time::sleep(SETTLE).await;
        }
        while let Some(Some((message, _))) = news.next().now_or_never() {
            routes_changed |= self.take(message, resolver).await;
        }
        if routes_changed {
            resolver.handle(Event::RoutesChanged, Instant::now());
        }
    }

    /// Takes one message; returns whether a route changed.
    async fn take(&self, message: Message, resolver: &mut Resolver) -> bool {
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) => {
                self.see(&entry, false, resolver);
                false
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(entry)) => {
                self.see(&entry, true, resolver);
                false
            }
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_),
            ) => true,
            NetlinkPayload::Overrun(_) => {
                tracing::warn!("the kernel's news came too fast: its neighbours are read again");
                self.read_neighbours(resolver).await;
                true
            }
            _ => false,
        }
    }

    async fn read_neighbours(&self, resolver: &mut Resolver) {
        let mut entries = self.handle.neighbours().get().execute();
        loop {
            match entries.try_next().await {
                Ok(Some(entry)) => self.see(&entry, false, resolver),
                Ok(None) => return,
                Err(error) => return tracing::warn!(%error, "the kernel's neighbours can't be read"),
            }
        }
    }

    fn see(&self, entry: &NeighbourMessage, deleted: bool, resolver: &mut Resolver) {
        if let Some((address, seen)) = self.seen(entry, deleted) {
            resolver.handle(Event::Seen(address, seen), Instant::now());
        }
    }

    /// What a neighbour entry of this interface says.
    fn seen(&self, entry: &NeighbourMessage, deleted: bool) -> Option<(IpAddr, Seen)> {
        if entry.header.ifindex != self.interface {
            return None;
        }
        let address = entry.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        })?;
        let mac = entry.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => <[u8; 6]>::try_from(mac.as_slice()).ok().map(Mac),
            _ => None,
        });
        let seen = match (deleted, entry.header.state, mac) {
            (true, ..) => Seen::Gone,
            (false, NeighbourState::Failed, _) => Seen::Silent,
            (false, NeighbourState::Stale, Some(mac)) => Seen::At { mac, trust: Trust::Stale },
            (false, NeighbourState::Permanent | NeighbourState::Noarp, Some(mac)) => {
                Seen::At { mac, trust: Trust::Fixed }
            }
            (false, NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe, Some(mac)) => {
                Seen::At { mac, trust: Trust::Fresh }
            }
            (false, ..) => Seen::Resolving,
        };
        Some((address, seen))
    }

    /// The neighbour on the way to `destination`, if that leads through the local interface.
    async fn look_up(&self, destination: IpAddr) -> Option<IpAddr> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(destination);
        question.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        question.attributes.push(RouteAttribute::Destination(destination.into()));
        question.attributes.push(RouteAttribute::Oif(self.interface));
        let answer = self.handle.route().get(question).execute().try_next().await;
        let route = match answer {
            Ok(route) => route.filter(|route| route.header.kind == RouteType::Unicast)?,
            Err(error) => {
                tracing::debug!(%destination, %error, "no route");
                return None;
            }
        };
        let through =
            |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Oif(i) if *i == self.interface);
        route.attributes.iter().any(through).then(|| gateway(&route).unwrap_or(destination))
    }

    /// Has the kernel ask a neighbour at once whether it is there (`ip neigh change … nud probe`); one whose address it does
    /// not know can't be asked so.
    async fn confirm(&self, neighbour: IpAddr) {
        let request = self.handle.neighbours().add(self.interface, neighbour);
        if request.state(NeighbourState::Probe).replace().execute().await.is_err() {
            self.probe(neighbour).await;
        }
    }

    /// Has the kernel resolve or confirm a neighbour (NTF_USE: as if a packet were to be sent to it).
    async fn probe(&self, neighbour: IpAddr) {
        let request = self.handle.neighbours().add(self.interface, neighbour);
        let request = request.state(NeighbourState::None).flags(NeighbourFlags::Use).replace();
        if let Err(error) = request.execute().await {
            tracing::debug!(%neighbour, %error, "the kernel does not probe");
        }
    }
}

/// Hears ICMP of one family. Without it, path MTUs between the stacks have to be configured.
fn ear(is_v4: bool) -> Option<Ear> {
    let opened = Ear::open(is_v4);
    opened.inspect_err(|error| tracing::warn!(%error, is_v4, "ICMP from routers can't be heard")).ok()
}

/// The next thing that either ear hears; never if there is none.
async fn hear([v4, v6]: &[Option<Ear>; 2]) -> TooBig {
    async fn hear(ear: Option<&Ear>) -> TooBig {
        let Some(ear) = ear else { return std::future::pending().await };
        match ear.hear().await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::warn!(%error, "ICMP from routers can't be heard any more");
                std::future::pending().await
            }
        }
    }
    tokio::select! {
        heard = hear(v4.as_ref()) => heard,
        heard = hear(v6.as_ref()) => heard,
    }
}

fn gateway(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
