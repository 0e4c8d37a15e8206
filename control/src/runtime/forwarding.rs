//! What the runtime asks of the forwarder beside it.
//!
//! `batond` implements [`Forwarding`] over the CRT and the workers; tests implement it over a `Vec`.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use model::dpt::{Distribution, Dpt, Shared};
use model::handoff::{Handoff, Token};
use model::numbering::Numbering;
use model::{Blame, Connection, CrtState, Dvipa, DvipaIndex, Protocol, StackIndex};
use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::looking::{Fate, Foretold, PacketQuestion, SeenPage, TraceOrder};
use crate::machine::{ToChoose, Wanted};

/// The forwarder as the control thread sees it. Every call is made on the control thread and returns within a few
/// milliseconds, however many connections there are.
pub trait Forwarding {
    /// What the numbers in the CRT's entries mean, if a former process has made them. Asked for once, before anything else.
    fn remembered(&mut self) -> Option<Numbering> {
        None
    }

    /// The numbers of the next DPT are these. A CRT that outlives this process has to keep them, because from then on its entries may have
    /// them.
    fn remember(&mut self, numbering: &dyn Fn() -> Numbering) {
        let _ = numbering;
    }

    /// Makes this DPT the one that workers select from. Its predecessor is void as a whole.
    fn publish(&mut self, dpt: &Dpt);

    /// `owner` has these connections now: enters them in the CRT, or confirms half-open entries.
    ///
    /// Accounts come in parts, in order. After the part with [`Account::last`], entries of `owner` that no part
    /// since the one with [`Account::first`] named, and that were there before that first part, are ended, but for those
    /// that are `moving`. Returns how many of the connections other stacks have, whose entries stay as they are.
    fn newconn(
        &mut self,
        owner: StackIndex,
        connections: &[Connection],
        account: Account,
        moving: &[Connection],
    ) -> usize;

    /// These connections ended at `owner`. One that another stack has by now stays.
    fn termconn(&mut self, owner: StackIndex, connections: &[Connection]);

    /// Holds the client's packets of a connection, within bounds. Its entry keeps its owner; if there is none, or it has
    /// ended, it is made with `owner`. Done once, it is done.
    fn freeze(&mut self, connection: &Connection, owner: StackIndex);

    /// The connection is `owner`'s (`None`: its entry's) from now on: lets the packets that are held go there, in order, and
    /// then all later ones, without handoff option. What is not frozen is only switched.
    fn thaw(&mut self, connection: &Connection, owner: Option<StackIndex>);

    /// As [`Forwarding::thaw`], with the handoff option in every packet until the next [`Forwarding::freeze`] or
    /// [`Forwarding::thaw`]. First goes a bare ACK as from the client, which begins where the option says; a repetition
    /// sends it again.
    ///
    /// # Errors
    /// [`NotHandedOver`]: nothing was sent, and the packets are held as before.
    fn hand_over(
        &mut self,
        connection: &Connection,
        to: StackIndex,
        handoff: &Handoff,
    ) -> Result<(), NotHandedOver>;

    /// The stack gives these tokens to the workers; `None`: those that it gave are void.
    fn tokens(&mut self, stack: StackIndex, tokens: Option<Vec<Token>>) {
        let _ = (stack, tokens);
    }

    /// The stack does not take the connection that a worker has handed over to it: its entry goes, if it is half-open there.
    fn declined(&mut self, connection: &Connection, by: StackIndex) {
        let _ = (connection, by);
    }

    /// A connection of [`Forwarding::wanted`] stays where it is.
    fn stay(&mut self, connection: &Connection) {
        let _ = connection;
    }

    /// Nobody has the connection: removes its entry and what is held.
    fn end(&mut self, connection: &Connection);

    /// Chooses a stack out of a row as workers select one for a SYN; `None`: it has none for the connection's client. From then on
    /// the connection counts as that stack's, until it moves, ends or has been waited for long enough.
    fn choose(&mut self, wanted: &ToChoose, row: &Shared<Distribution>) -> Option<StackIndex>;

    /// The entry of one connection.
    fn crt_entry(&self, connection: &Connection) -> Option<CrtEntry>;

    /// No DPT from the next one on names these stacks and DVIPAs: ends what else does. When no entry, no worker's table and
    /// nothing that workers hold can name them any more, [`Ticked::vacant`] says so.
    fn retire(&mut self, stacks: Vec<StackIndex>, dvipas: Vec<DvipaIndex>);

    /// This node became the owner of the DVIPA: tells the segment (gratuitous ARP, unsolicited neighbour
    /// advertisement).
    fn announce(&mut self, dvipa: Dvipa);

    /// Until then workers may take this node for the owner of what its DPT says it owns, unless they are told anew.
    fn fence(&mut self, until: Instant) {
        let _ = until;
    }

    /// This stack has reported, before now, all connections that it has of those that it was asked about between these times of
    /// [`Ticked::asked`].
    fn looked(&mut self, stack: StackIndex, since: u64, until: u64) {
        let _ = (stack, since, until);
    }

    /// Of this stack's connections so many are only kept open, and it has so many others to DVIPAs that are not this node's.
    fn loaded(&mut self, stack: StackIndex, idle: u32, elsewhere: u32) {
        let _ = (stack, idle, elsewhere);
    }

    /// Has routes to these DVIPAs, and to no others, in the kernel's table that the routing daemon reads ([`crate::config::Announce`]).
    fn route(&mut self, dvipas: BTreeSet<Dvipa>);

    /// Called about every [`TICK_MS`] milliseconds: ages a bounded part of the CRT, ends some entries of dead stacks,
    /// refreshes next hops, looks at the links.
    fn tick(&mut self) -> Ticked;

    /// Whether clients' requests are read here: then [`Forwarding::wanted`] is called about every millisecond.
    fn reads_requests(&self) -> bool {
        false
    }

    /// Connections whose next request is for another stack, since the last call. Their clients wait.
    fn wanted(&mut self) -> Vec<Wanted> {
        Vec::new()
    }

    /// Both ports: the NIC and the local port.
    fn ports(&self) -> Vec<PortView>;

    /// What others have changed in the node's kernel.
    fn environment(&self) -> Environment {
        Environment::default()
    }

    /// Shows a bounded part of the CRT from a place on, in no particular order; returns where to go on, or `None` at the
    /// end.
    fn crt_scan(&self, from: CrtCursor, each: &mut dyn FnMut(CrtEntry)) -> Option<CrtCursor>;

    /// How full the CRT is.
    fn crt_stats(&self) -> CrtStats;

    /// Connections that each stack has in the CRT, stacks without any left out.
    fn connections(&self) -> Vec<(StackIndex, u64)>;

    /// How many requests of each route workers sent to a target, of so many routes at most.
    fn routes(&self, most: usize) -> Vec<RouteCount> {
        let _ = most;
        Vec::new()
    }

    /// What would become of a packet that comes from the NIC now. Nothing changes by the question.
    ///
    /// # Errors
    /// The system's, if there is no memory to find it out in.
    fn foretell(&self, question: &PacketQuestion) -> io::Result<Foretold> {
        let _ = question;
        Ok(Foretold::default())
    }

    /// What became of connections with these ends lately, the last one first.
    fn fates(&self, connection: &Connection) -> Vec<Fate> {
        let _ = connection;
        Vec::new()
    }

    /// Has the workers look at packets; returns the trace's number. `None`: they look for somebody else.
    fn begin_trace(&mut self, order: &TraceOrder) -> Option<u64> {
        let _ = order;
        None
    }

    /// What a trace has seen since it was asked last; `None`: there is no such trace.
    fn traced(&mut self, trace: u64) -> Option<SeenPage> {
        let _ = trace;
        None
    }

    /// The workers need not look any more; what they have seen can be read. `false`: there is no such trace.
    fn end_trace(&mut self, trace: u64) -> bool {
        let _ = trace;
        false
    }

    /// What each stack was given of each service, and what was refused of each, since the start; of [`MOST_SHARES`] of them at most.
    fn given(&self) -> Given {
        Given::default()
    }

    /// Every counter of the workers, summed over them, in the order in which they should be shown.
    fn counters(&self) -> Vec<Counter>;
}

/// What workers have sent to targets by one route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCount {
    /// The service's DVIPA.
    pub dvipa: IpAddr,
    /// Its port.
    pub port: u16,
    /// The route's name.
    pub route: String,
    /// How many requests.
    pub requests: u64,
}

/// So many shares of services are counted at most.
pub const MOST_SHARES: usize = 10_000;

/// What was given to stacks, and what was refused, by service. The port 0 stands for what is of no service and for later fragments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// By service and stack, in no order.
    pub shares: Vec<Share>,
    /// By service, in no order.
    pub turned_away: Vec<TurnedAway>,
}

/// What one stack was given of one service since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The DVIPA and its port.
    pub service: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The stack.
    pub stack: StackIndex,
    /// TCP connections that it has confirmed; transferred ones are not among them.
    pub opened: u64,
    /// TCP connections that were moved to it.
    pub moved: u64,
    /// Packets that workers have sent it.
    pub packets: u64,
    /// Bytes of these, from the IP header on, without what they are carried in.
    pub bytes: u64,
}

/// Packets that were refused of one service since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// The DVIPA and its port.
    pub service: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// No target took them.
    pub refused: u64,
    /// They were beyond the service's limit of new connections.
    pub service_limited: u64,
    /// They were beyond their client's limit of new connections.
    pub client_limited: u64,
}

/// This forwarder can't hand the connection over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHandedOver {
    /// The target is the node's own kernel, which packets reach as they are.
    #[error("the routing node's own kernel takes no hand-over: its application needs a control socket")]
    OwnKernel,
    /// There is no entry to switch.
    #[error("the CRT has no such connection")]
    NoEntry,
}

/// What a [`Forwarding::tick`] has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Which stacks of those that are not up have hosts that do not answer, if that changed.
    pub silent: Option<Vec<StackIndex>>,
    /// The NIC's link is back, and whatever is behind it may have forgotten where the DVIPAs are.
    pub link_returned: bool,
    /// Stacks whose tokens are nearly used up.
    pub tokens_low: Vec<StackIndex>,
    /// Numbers of stacks and DVIPAs that nothing names any more.
    pub vacant: Option<(Vec<StackIndex>, Vec<DvipaIndex>)>,
    /// Stacks were asked about connections until this time, and whether they have them is to be known.
    pub asked: Option<u64>,
}

/// Milliseconds between two calls of [`Forwarding::tick`].
pub const TICK_MS: u64 = 10;

/// Where a part of a stack's NEWCONN stands in its complete account; neither: news between accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The first part of a complete account.
    pub first: bool,
    /// The last part of a complete account (may be the first one too).
    pub last: bool,
    /// It is not news, but what the stack had before its session began, or may be.
    pub earlier: bool,
}

/// Which entries of the CRT an operator wants to see. A field that is `None` lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrtFilter {
    /// Client address, any port.
    pub client: Option<IpAddr>,
    /// Client port.
    pub client_port: Option<u16>,
    /// DVIPA.
    pub dvipa: Option<IpAddr>,
    /// Port of the DVIPA.
    pub port: Option<u16>,
    /// The stack that has the connection.
    pub stack: Option<StackIndex>,
    /// The entry's state.
    pub state: Option<CrtState>,
}

impl CrtFilter {
    /// Whether an entry is to be shown.
    pub fn admits(&self, entry: &CrtEntry) -> bool {
        fn is<T: PartialEq>(wanted: Option<T>, found: T) -> bool {
            wanted.is_none_or(|w| w == found)
        }
        is(self.client, entry.connection.client.ip())
            && is(self.client_port, entry.connection.client.port())
            && is(self.dvipa, entry.connection.dvipa.ip())
            && is(self.port, entry.connection.dvipa.port())
            && is(self.stack, entry.stack)
            && is(self.state, entry.state)
    }
}

/// A place in the CRT. The first one is [`CrtCursor::default`]; others are what [`Forwarding::crt_scan`] has returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrtCursor(pub u64);

/// One entry of the CRT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrtEntry {
    /// The connection.
    pub connection: Connection,
    /// The stack that has it.
    pub stack: StackIndex,
    /// Its state.
    pub state: CrtState,
    /// Milliseconds since its last packet, as exact as aging needs it.
    pub idle_ms: u64,
}

/// A bounded look into the CRT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrtPage {
    /// The entries, at most as many as were asked for.
    pub entries: Vec<CrtEntry>,
    /// Entries that pass the filter too and are not in `entries`.
    pub more: u64,
}

/// How full the CRT is. Entries and capacities are numbers of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrtStats {
    /// Confirmed IPv4 TCP connections.
    pub entries_v4: u64,
    /// How many there may be.
    pub capacity_v4: u64,
    /// Confirmed IPv6 TCP connections.
    pub entries_v6: u64,
    /// How many there may be.
    pub capacity_v6: u64,
    /// UDP flows of both families.
    pub flows_udp: u64,
    /// How many there may be; beyond it the oldest of them give way.
    pub flows_udp_capacity: u64,
    /// Half-open connections of both families.
    pub half_open: u64,
    /// How many there may be; beyond it the oldest of them give way.
    pub half_open_capacity: u64,
}

/// A port of the forwarder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortView {
    /// `nic` or `local`.
    pub role: String,
    /// The device, as it is configured.
    pub device: String,
    /// DPDK's driver.
    pub driver: String,
    /// The link is up.
    pub link: bool,
    /// How often the link was lost.
    pub lost: u64,
    /// What has a receive queue to itself.
    #[serde(default)]
    pub steered: Vec<String>,
}

/// One counter with what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The outcome or reason in snake_case: the metric's name.
    pub name: &'static str,
    /// Packets since the start.
    pub value: u64,
    /// Who can mend it; `None`: it is as it should be.
    pub fault: Option<Blame>,
    /// What it means.
    pub sentence: &'static str,
}
