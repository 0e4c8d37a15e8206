//! Routes to this node's DVIPAs in a table of its kernel, for the routing daemon to read.
//!
//! They lead to an interface that lives as long as this process holds it open ([`INTERFACE`]): however the process ends, the kernel
//! removes the interface and the routes with it, and the daemon hears of that from the kernel. No clean-up is needed, and no
//! packet takes these routes, because no rule names the table. A thread of its own sets them: some of the calls wait for the
//! kernel's lock on interfaces.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use control::config::Announce;
use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{Handle, RouteMessageBuilder, new_connection};
use tokio::sync::watch;
use tokio_tun::{Tun, TunBuilder};

/// The interface that the routes lead to; nothing reads it.
pub const INTERFACE: &str = "dvipas";
/// Whose routes they are (rtnetlink(7), `rtm_protocol`): none of iproute2's `rt_protos`, so that no daemon takes them for its own.
const PROTOCOL: u8 = 183;
/// Until a route that the kernel has refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often all of them are set again: others may have removed some.
const LOOKED_AT: Duration = Duration::from_secs(5);

/// Why there can't be routes.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    /// The thread, or its netlink socket.
    #[error("no thread for the routes to the DVIPAs")]
    Thread(#[from] io::Error),
    /// The interface.
    #[error(
        "cannot make the interface `{INTERFACE}` for the routes of `[announce]`; /dev/net/tun (`modprobe tun`) and CAP_NET_ADMIN are \
         needed, and no other interface of this name may be there"
    )]
    Interface(#[source] tokio_tun::Error),
}

/// The routes. When this is dropped they go.
#[derive(Debug)]
pub struct Routes {
    wanted: watch::Sender<BTreeSet<IpAddr>>,
}

impl Routes {
    /// None yet.
    ///
    /// # Errors
    /// [`RoutesError`].
    pub fn open(settings: Announce) -> Result<Self, RoutesError> {
        let (wanted, receiver) = watch::channel(BTreeSet::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ready, started) = sync_channel(1);
        thread::Builder::new().name("routes".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let said = |outcome| drop(ready.send(outcome));
                match Table::open(settings).await {
                    Ok(mut table) => {
                        said(Ok(()));
                        table.follow(receiver).await;
                    }
                    Err(error) => said(Err(error)),
                }
            });
        })?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { wanted })
    }

    /// There are to be routes to these, and to no others.
    pub fn set(&self, to: BTreeSet<IpAddr>) {
        self.wanted.send_replace(to);
    }
}

/// The kernel's table, as far as it is this process's.
struct Table {
    settings: Announce,
    handle: Handle,
    interface: u32,
    has: BTreeSet<IpAddr>,
    _device: Vec<Tun>,
}

impl Table {
    async fn open(settings: Announce) -> Result<Self, RoutesError> {
        let (connection, handle, _) = new_connection()?;
        tokio::spawn(connection);
        let device = TunBuilder::new().name(INTERFACE).up().build().map_err(RoutesError::Interface)?;
        let mut found = handle.link().get().match_name(INTERFACE.to_owned()).execute();
        let link = found.try_next().await.map_err(io::Error::other)?;
        let link = link.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Self { settings, handle, interface: link.header.index, has: BTreeSet::new(), _device: device })
    }

    /// Until nobody wants anything any more.
    async fn follow(&mut self, mut wanted: watch::Receiver<BTreeSet<IpAddr>>) {
        loop {
            let want = wanted.borrow_and_update().clone();
            let is_done = self.change(&want).await;
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN), if !is_done => {}
                () = tokio::time::sleep(LOOKED_AT), if is_done => self.has.clear(),
            }
        }
    }

    /// Whether the table is as it is wanted.
    async fn change(&mut self, want: &BTreeSet<IpAddr>) -> bool {
        let surplus: Vec<IpAddr> = self.has.difference(want).copied().collect();
        for address in surplus {
            if self.said(address, "withdrawn", self.remove(address).await) {
                self.has.remove(&address);
            }
        }
        let missing: Vec<IpAddr> = want.difference(&self.has).copied().collect();
        for address in missing {
            if self.said(address, "set", self.add(address).await) {
                self.has.insert(address);
            }
        }
        self.has == *want
    }

    fn said(&self, address: IpAddr, what: &str, outcome: Result<(), rtnetlink::Error>) -> bool {
        let (table, is_done) = (self.settings.route_table, outcome.is_ok());
        if let Err(error) = outcome {
            tracing::error!(%address, table, %error, "the route could not be {what}");
        }
        is_done
    }

    async fn add(&self, to: IpAddr) -> Result<(), rtnetlink::Error> {
        self.handle.route().add(self.route(to)).replace().execute().await
    }

    /// One that is gone already, because somebody else removed it or the interface is down, is removed.
    async fn remove(&self, to: IpAddr) -> Result<(), rtnetlink::Error> {
        match self.handle.route().del(self.route(to)).execute().await {
            Err(rtnetlink::Error::NetlinkError(e)) if Errno::from_raw(-e.raw_code()) == Errno::ESRCH => {
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn route(&self, to: IpAddr) -> RouteMessage {
        match to {
            IpAddr::V4(to) => {
                let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to, 32);
                self.through(route.scope(RouteScope::Link))
            }
            IpAddr::V6(to) => {
                self.through(RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(to, 128))
            }
        }
    }

    fn through<T>(&self, route: RouteMessageBuilder<T>) -> RouteMessage {
        let Announce { route_table, metric, .. } = self.settings;
        let route = route.table_id(route_table).priority(metric).protocol(RouteProtocol::Other(PROTOCOL));
        route.output_interface(self.interface).build()
    }
}
