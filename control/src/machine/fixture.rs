//! One way to set up a routing stack in tests and to speak to it as targets do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use model::codec::{Address, WireConnection};
use model::control_socket::JobName;
use model::control_socket::request::Role;
use model::message::{
    Application, Applications, FromStack, Hello, Listen, Load, Newconn, Srvstat, Termconn, ToStack, VipaList,
};
use model::{Connection, Dvipa, Epoch, Protocol, Service, StackName};

use super::{Action, Event, Identity, Refusal, RoutingStack, TargetState};
use crate::config::{Config, Mistakes};

/// The first epoch of a [`Bench`].
pub(crate) const EPOCH: Epoch = Epoch(7);
/// DVIPA `198.18.9.1` on ports 80 and 443 for `t1`, `t2` and the stack at `198.18.0.23`.
pub(crate) const WEB: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80, 443]
destip = ["t1", "t2", "198.18.0.23"]
"#;

/// The configuration of node `rt1` with these definitions.
pub(crate) fn config(vipadynamic: &str) -> Config {
    try_config(vipadynamic).unwrap_or_else(|m| panic!("{m}"))
}

/// As [`config`], of definitions that may be none.
pub(crate) fn try_config(vipadynamic: &str) -> Result<Config, Mistakes> {
    let node = r#"
        node = { name = "rt1", cluster_address = ["198.18.0.10", "2001:db8::10"] }
        cluster = { listen = "198.18.0.10:7440", ca = "ca.pem", certificate = "rt1.pem", key = "rt1.key" }
        admin = { socket = "batond.sock" }
        [forwarder]
        workers = [1]
        port = [
            { role = "nic", device = "net_null0" },
            { role = "local", device = "net_null1", interface = "loc0" },
        ]
        "#;
    Config::parse("test", &format!("{node}\n{vipadynamic}"), Path::new(""))
}

pub(crate) fn name(name: &str) -> StackName {
    StackName::new(name).unwrap()
}

pub(crate) fn dvipa(address: &str) -> Dvipa {
    Dvipa::new(address.parse().unwrap())
}

pub(crate) fn tcp(address: &str, port: u16) -> Service {
    Service { dvipa: dvipa(address), port, protocol: Protocol::Tcp }
}

pub(crate) fn connection(client_port: u16, dvipa: &str) -> Connection {
    let client = SocketAddr::new("198.18.0.2".parse().unwrap(), client_port);
    Connection::new(Protocol::Tcp, client, dvipa.parse().unwrap()).unwrap()
}

/// The session of a stack with these addresses begins.
pub(crate) fn session_up(stack: &str, addresses: &[&str]) -> Event {
    session_of_run(stack, addresses, 1)
}

/// The same of this run of its agent.
pub(crate) fn session_of_run(stack: &str, addresses: &[&str], incarnation: u64) -> Event {
    let hello = Hello {
        stack: stack.to_owned(),
        cluster_addresses: addresses.iter().map(|a| Address(a.parse().unwrap())).collect(),
        incarnation,
        version: "0.1.0".to_owned(),
        ..Hello::default()
    };
    Event::SessionUp { stack: name(stack), hello }
}

pub(crate) fn srvstat(service: Service, listening: bool, complete: bool) -> FromStack {
    let listens = vec![Listen { protocol: service.protocol, port: service.port, listening }];
    FromStack::Srvstat(Srvstat { dvipa: Address(service.dvipa.address()), epoch: EPOCH, complete, listens })
}

pub(crate) fn registered(service: Service, applications: &[(Role, &str)]) -> FromStack {
    let application = |(role, job): &(Role, &str)| Application {
        port: service.port,
        role: *role,
        job: JobName::new(*job).unwrap(),
    };
    let applications = applications.iter().map(application).collect();
    FromStack::Applications(Applications {
        dvipa: Address(service.dvipa.address()),
        epoch: EPOCH,
        applications,
    })
}

pub(crate) fn newconn(first: bool, last: bool, connections: &[Connection]) -> FromStack {
    FromStack::Newconn(Newconn {
        first,
        last,
        connections: connections.iter().copied().map(WireConnection).collect(),
    })
}

pub(crate) fn termconn(connections: &[Connection]) -> FromStack {
    FromStack::Termconn(Termconn { connections: connections.iter().copied().map(WireConnection).collect() })
}

/// A routing stack `rt1` on a clock of its own, and everything it wanted done.
pub(crate) struct Bench {
    pub(crate) stack: RoutingStack,
    pub(crate) now: Instant,
}

impl Bench {
    /// With these definitions; its first actions are done.
    pub(crate) fn new(vipadynamic: &str) -> Self {
        let now = Instant::now();
        let identity = Identity { incarnation: 1, version: "0.1.0".to_owned(), first_epoch: EPOCH };
        let stack = RoutingStack::new(identity, config(vipadynamic), now).unwrap();
        let mut bench = Self { stack, now };
        bench.stack.tick(now);
        bench.actions();
        bench
    }

    pub(crate) fn handle(&mut self, event: Event) -> Result<(), Refusal> {
        self.stack.handle(event, self.now)
    }

    pub(crate) fn message(&mut self, from: &str, message: FromStack) -> Result<(), Refusal> {
        self.handle(Event::Message { from: name(from), message })
    }

    /// What is to be done now.
    pub(crate) fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.stack.poll()).collect()
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.stack.tick(self.now);
    }

    /// A stack comes up. `t3` has address `198.18.0.23`, and so on; `rt1` the node's own.
    pub(crate) fn up(&mut self, stack: &str) {
        let number: u8 = stack[stack.len() - 1..].parse().unwrap();
        let address = if stack == "rt1" { "198.18.0.10".to_owned() } else { format!("198.18.0.2{number}") };
        self.up_at(stack, &address);
    }

    /// A stack with this address comes up.
    pub(crate) fn up_at(&mut self, stack: &str, address: &str) {
        self.handle(session_up(stack, &[address])).unwrap();
    }

    pub(crate) fn down(&mut self, stack: &str) {
        self.handle(Event::SessionDown { stack: name(stack) }).unwrap();
    }

    pub(crate) fn listens(&mut self, stack: &str, service: Service) {
        self.message(stack, srvstat(service, true, false)).unwrap();
    }

    /// These are the applications registered on the stack for the service.
    pub(crate) fn registers(&mut self, stack: &str, service: Service, applications: &[(Role, &str)]) {
        self.message(stack, registered(service, applications)).unwrap();
    }

    pub(crate) fn stops(&mut self, stack: &str, service: Service) {
        self.message(stack, srvstat(service, false, false)).unwrap();
    }

    /// `stack` reports that its processors are this busy, for long enough to count.
    pub(crate) fn load(&mut self, stack: &str, cpu_permille: u16) {
        for _ in 0..20 {
            self.message(stack, FromStack::Load(Load { cpu_permille, ..Load::default() })).unwrap();
        }
    }

    /// The targets that a new connection of the service may go to, with weights. `None`: it is not in the DPT.
    pub(crate) fn targets(&mut self, service: Service) -> Option<Vec<(String, u16)>> {
        self.actions();
        let dpt = self.stack.dpt();
        let index = dpt.dvipas.iter().find(|entry| entry.dvipa == service.dvipa)?.index;
        let of_it = |d: &&model::dpt::Shared<model::dpt::Distribution>| {
            (d.dvipa, d.port, d.protocol) == (index, service.port, service.protocol)
        };
        let row = dpt.distributions.iter().find(of_it)?;
        Some(
            row.targets
                .iter()
                .map(|t| (self.stack.stack_name(t.stack).unwrap().to_string(), t.weight))
                .collect(),
        )
    }

    /// Their names.
    pub(crate) fn selectable(&mut self, service: Service) -> Vec<String> {
        self.targets(service).unwrap_or_default().into_iter().map(|(name, _)| name).collect()
    }

    /// What `baton dpt` says of each candidate.
    pub(crate) fn states(&mut self, service: Service) -> BTreeMap<String, TargetState> {
        self.actions();
        let view = self.stack.dpt_view(self.now);
        let of_it = |v: &&super::ServiceView| {
            (v.dvipa, v.port, v.protocol) == (service.dvipa, service.port, service.protocol)
        };
        let Some(row) = view.services.iter().find(of_it) else { return BTreeMap::new() };
        row.targets.iter().map(|target| (target.target.clone(), target.state)).collect()
    }
}

/// The VIPA lists among the actions, with whom they go to.
pub(crate) fn lists(actions: &[Action]) -> Vec<(String, VipaList)> {
    let list = |action: &Action| match action {
        Action::Send { to, message: ToStack::VipaList(list) } => Some((to.to_string(), list.clone())),
        _ => None,
    };
    actions.iter().filter_map(list).collect()
}
