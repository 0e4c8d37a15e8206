//! What the routing node's worker does of a connection of a service with routes: answers the SYN, forgets the acknowledgement, reads the
//! request, selects a target of its route and sends the request there with the handoff option.

mod clients;
#[cfg(feature = "dpdk")]
mod line;
mod memory;

use std::sync::Arc;

use forwarder::crt::{Config, Crt};
use forwarder::{Counters, Limits, Now, PacketBuffer, Pool, Pools, Port, Sink, Tables, Worker};
use model::dpt::{Routing, WeightedTarget};
use model::handoff::Token;
use model::route::{Backend, Match, Pattern, Route, RouteSet};
use model::{StackIndex, StackName};

use crate::cluster::{TARGETS, Traffic};
use crate::frames::Kind;

pub(crate) use clients::{Clients, Says};
#[cfg(feature = "dpdk")]
pub(crate) use line::measure;
pub(crate) use memory::say;

/// A worker with all that it needs for the first requests of clients.
pub(crate) struct Node<B> {
    worker: Worker<B>,
    tables: Tables,
    crt: Crt,
    pools: Vec<Arc<Pool>>,
    token: u64,
    pub(crate) clients: Clients,
}

impl<B: PacketBuffer> Node<B> {
    /// With so many clients in a round and so many routes, each of a host name and a prefix.
    ///
    /// # Errors
    /// The system's, if the memory can't be had.
    pub(crate) fn new(clients: u32, routes: u32) -> std::io::Result<Self> {
        let mut worker = Worker::new(Limits::default(), Arc::new(Counters::new()));
        let pools: Vec<_> = (0..=TARGETS).map(|_| Arc::new(Pool::new(clients as usize))).collect();
        let of_all = pools
            .iter()
            .zip(0..)
            .fold(Pools::default(), |all, (pool, stack)| all.with(StackIndex(stack), Some(Arc::clone(pool))));
        worker.set_pools(&Arc::new(of_all));
        Ok(Self {
            worker,
            tables: Traffic::new(Kind::Syn).tables_with(Some(routing(routes))),
            crt: Crt::new(&Config { connections_v4: 1000, connections_v6: 0, ..Config::default() })?,
            pools,
            token: 0,
            clients: Clients::new(clients, routes),
        })
    }

    /// Gives all targets as many tokens as they have room for.
    pub(crate) fn fill_pools(&mut self) {
        for pool in &self.pools {
            let first = self.token + 1;
            self.token += self.clients.len() as u64;
            pool.fill((first..=self.token).filter_map(Token::new));
        }
    }

    /// Forgets the connections of this round, and lets other clients come.
    #[cfg(feature = "dpdk")]
    pub(crate) fn next_round(&mut self) {
        for n in 0..self.clients.len() {
            self.crt.remove(self.clients.key(n));
        }
        self.clients.next_round();
    }

    /// Takes a burst through the path.
    #[inline(always)]
    pub(crate) fn process<S: Sink<B>>(&mut self, burst: &mut [Option<B>], now: Now, sink: &mut S) {
        self.worker.process(burst, Port::Nic, &self.tables, &self.crt, now, sink);
    }

    /// What the worker counted.
    #[cfg(feature = "dpdk")]
    fn counters(&self) -> &Counters {
        self.worker.counters()
    }
}

/// Routes of a host name and a prefix each, to two of the targets.
fn routing(routes: u32) -> Routing {
    let pair = |n: u32| [n, n + 7].map(|n| 1 + (n % u32::from(TARGETS)) as u16);
    let name =
        |n: u16| StackName::new(format!("t{n}")).unwrap_or_else(|e| unreachable!("the name of a stack: {e}"));
    let route = |n: u32| Route {
        name: format!("r{n}"),
        hostnames: vec![clients::host(n)],
        matches: vec![Match { subject: Some(Pattern::Prefix("/v1".to_owned())), ..Match::default() }],
        backends: pair(n).map(|n| Backend { stack: name(n), weight: 1 }).to_vec(),
    };
    let targets = |n: u32| {
        let mut stacks = pair(n);
        stacks.sort_unstable();
        stacks.map(|n| WeightedTarget { stack: StackIndex(n), weight: 1 }).to_vec()
    };
    let set = RouteSet { routes: (0..routes).map(route).collect(), ..RouteSet::default() };
    Routing { set: set.into(), targets: (0..routes).map(targets).collect() }
}
