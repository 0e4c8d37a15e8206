//! What is kept and changed piece by piece is what would be computed from scratch, whatever happened before.

use std::collections::BTreeSet;
use std::mem::{Discriminant, discriminant};
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use model::codec::{Address, WireConnection};
use model::control_socket::JobName;
use model::control_socket::request::Role;
use model::message::{Choose, Failing, FromStack, Listen, Load, Question, Srvstat, Stalled, VipaList};
use model::transfer::{Abilities, FromHost, Ledger};
use model::{Connection, Protocol, Service, StackIndex};

use super::super::board::Board;
use super::super::dirty::{Concern, Dirty, Mark};
use super::super::fixture::{
    Bench, EPOCH, connection, dvipa, name, newconn, registered, session_up, tcp, termconn, try_config,
};
use super::super::{Action, Event, RoutingStack, Scope};
use crate::config::Config;

/// Histories of the ordinary run, and events in each.
const SEEDS: u64 = 300;
const EVENTS: usize = 60;
/// Histories in which a fault that is built in has to be found.
const PATIENCE: u64 = 200;

const STACKS: [&str; 6] = ["t1", "t2", "t3", "t4", "t5", "rt1"];
/// Two stacks may have the same one; one is a DVIPA in some definitions.
const ADDRESSES: [&str; 6] =
    ["198.18.0.21", "198.18.0.22", "198.18.0.23", "198.18.9.2", "2001:db8::24", "198.18.0.10"];
const DVIPAS: [&str; 3] = ["198.18.9.1", "198.18.9.2", "2001:db8:9::1"];
const PORTS: [u16; 4] = [80, 443, 8080, 9000];

/// Ways to define a DVIPA.
const DISTRIBUTIONS: [&str; 10] = [
    "",
    "ports = [80]\ndestip = \"all\"",
    "ports = [80, 443]\ndestip = [\"t1\", \"198.18.0.23\"]\nrefuse = \"silent\"",
    "destip = \"all\"\nmethod = \"weighted-round-robin\"\nweights = \"load\"",
    "destip = [\"t1\", \"t2\", \"198.18.0.22\", \"t9\"]",
    "ports = [443]\ndestip = \"all\"\ncontent_routed = true",
    "ports = [80]\ndestip = [\"t1\", \"t2\", \"t3\"]\nmethod = \"maglev\"\nweights = { t1 = 5, t2 = 0 }",
    "ports = [8080]\ndestip = \"all\"\nmethod = \"least-connections\"\nweights = \"load\"",
    "ports = [80, 9000]\ndestip = [\"t2\", \"t3\", \"t4\"]\ncontent_routed = true",
    "ports = [80, 443]\ndestip = [\"t1\", \"t2\", \"t3\"]\nslow_start_s = 20\npanic_percent = 60",
];
/// A policy behind the last of a DVIPA's distributions.
const POLICY: &str = "[[vipadynamic.vipadistribute.policy]]\nclient = \"198.18.1.0/24\"\ndestip = [\"t2\"]\n";

impl RoutingStack {
    /// Whether what is kept is what would be computed from scratch. To be called when nothing waits to be polled.
    pub(crate) fn check_board(&self) -> Result<(), String> {
        let (picture, mut all, mut fresh) = (self.picture(), Dirty::default(), Board::default());
        for (dvipa, _) in self.dvipas.iter() {
            all.mark(Mark::Dvipa(dvipa));
            all.mark(Mark::Definitions(dvipa));
        }
        all.mark(Mark::States);
        fresh.update(&picture, &all);
        let fresh = fresh.dpt(self.published.generation);
        let differs = |what: &str, kept: &dyn std::fmt::Debug, fresh: &dyn std::fmt::Debug| {
            Err(format!("{what} is kept as\n{kept:?}\nand would be\n{fresh:?}"))
        };
        if fresh.stacks != self.published.stacks {
            return differs("the stacks", &self.published.stacks, &fresh.stacks);
        }
        if fresh.dvipas != self.published.dvipas {
            return differs("the DVIPAs", &self.published.dvipas, &fresh.dvipas);
        }
        let rows = self.published.distributions.iter().zip(&fresh.distributions);
        if let Some((kept, fresh)) = rows.clone().find(|(kept, fresh)| kept != fresh) {
            return differs("a service", kept, fresh);
        }
        let (kept, fresh) = (self.published.distributions.len(), fresh.distributions.len());
        if kept != fresh {
            return differs("the number of services", &kept, &fresh);
        }
        let list = picture.vipa_list(&VipaList::default(), &BTreeSet::new());
        if list != self.list {
            return differs("the VIPA list", &self.list, &list);
        }
        let told = picture.told(&self.transfers.routing, &Concern::Every);
        if told != *self.transfers.told() {
            return differs("what applications are told", self.transfers.told(), &told);
        }
        if let Some((kept, fresh)) = self.stale_choice() {
            return differs("a row of choices", &kept, &fresh);
        }
        Ok(())
    }
}

fn one<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

/// Definitions out of chance; some are none.
fn definitions(random: &mut Rng) -> Option<Config> {
    let mut text = String::from("[[vipadynamic]]\n");
    for address in DVIPAS {
        if random.usize(..8) == 0 {
            continue;
        }
        let mask = if address.contains(':') { 64 } else { 24 };
        text += &format!("[[vipadynamic.vipadefine]]\naddress = \"{address}\"\nmask = {mask}\n");
        for _ in 0..random.usize(..3) {
            let rest = one(random, &DISTRIBUTIONS);
            if !rest.is_empty() {
                text += &format!("[[vipadynamic.vipadistribute]]\naddress = \"{address}\"\n{rest}\n");
                if random.usize(..4) == 0 && rest.contains("\"t2\"") && !address.contains(':') {
                    text += POLICY;
                }
            }
        }
    }
    try_config(&text).ok()
}

fn event(random: &mut Rng, bench: &Bench) -> Event {
    let stack = name(one(random, &STACKS));
    let service = Service {
        dvipa: dvipa(one(random, &DVIPAS)),
        port: one(random, &PORTS),
        protocol: if random.usize(..8) == 0 { Protocol::Udp } else { Protocol::Tcp },
    };
    let scope = match random.usize(..3) {
        0 => Scope::All,
        1 => Scope::Dvipa(service.dvipa),
        _ => Scope::Service(service),
    };
    let says = |message| Event::Message { from: stack.clone(), message };
    match random.usize(..29) {
        0 => match definitions(random) {
            Some(config) => Event::Configure(Box::new(config)),
            None => Event::LinkReturned,
        },
        1 => Event::SessionDown { stack },
        2 | 3 => Event::Quiet { stack },
        4 => Event::Heard { stack },
        5 => Event::SilentHosts(vec![StackIndex(random.u16(..6))]),
        6 => Event::Drain { stack, scope },
        7 => Event::Resume { stack, scope },
        8 => {
            let weights = vec![(stack, one(random, &[0, 1, 7]))];
            Event::SetWeights { service, weights, ttl: Duration::from_secs(1 + random.u64(..3)) }
        }
        9..=11 if !bench.stack.stacks.is_up(&stack) || random.usize(..8) == 0 => {
            let own = stack.as_str() == "rt1";
            let address = if own { "198.18.0.10" } else { one(random, &ADDRESSES[..5]) };
            session_up(stack.as_str(), &[address])
        }
        12 => says(FromStack::Load(Load { cpu_permille: one(random, &[0, 500, 1000]), ..Load::default() })),
        13 => says(newconn(true, true, &[connection(1, "198.18.9.1:80")])),
        9..=11 | 14 | 15 => {
            let jobs = [(Role::Target, "job"), (Role::Routing, "router"), (Role::Target, "other")];
            let number = random.usize(..3);
            says(in_epoch(bench, registered(service, &jobs[number..])))
        }
        27 => says(in_epoch(bench, choice_of(random, service))),
        28 => {
            let fails = Failing { protocol: service.protocol, port: service.port, why: "503".to_owned() };
            let (failing, ports) = (random.bool().then(|| vec![fails]), vec![one(random, &PORTS)]);
            let dvipa = Address(service.dvipa.address());
            says(in_epoch(bench, FromStack::Stalled(Stalled { dvipa, epoch: EPOCH, ports, failing })))
        }
        26 => Event::ConnectionCounts(vec![(StackIndex(random.u16(..6)), random.u64(..2))]),
        16 => {
            let (restores, injects) = (random.bool(), random.bool());
            let abilities = Abilities { ledger: Ledger(1), restores, injects, incarnation: 1 };
            says(FromStack::Transfer(FromHost::Abilities(abilities)))
        }
        _ => {
            let complete = random.usize(..4) == 0;
            let listens = (0..random.usize(..3)).map(|_| Listen {
                protocol: service.protocol,
                port: one(random, &PORTS),
                listening: random.usize(..4) > 0,
            });
            let (listens, dvipa) = (listens.collect(), model::codec::Address(service.dvipa.address()));
            let srvstat = Srvstat { dvipa, epoch: EPOCH, complete, listens };
            says(in_epoch(bench, FromStack::Srvstat(srvstat)))
        }
    }
}

fn choice_of(random: &mut Rng, service: Service) -> FromStack {
    let client = if service.dvipa.address().is_ipv4() { "198.18.0.2:1000" } else { "[2001:db8::2]:1000" };
    let dvipa = SocketAddr::new(service.dvipa.address(), service.port);
    let connection = Connection::new(Protocol::Tcp, client.parse().unwrap(), dvipa).unwrap();
    let jobs = if random.bool() { Vec::new() } else { vec![JobName::new("job").unwrap()] };
    let (connection, question) = (WireConnection(connection), Question(1));
    FromStack::Choose(Choose { connection, epoch: EPOCH, question, jobs, besides: Vec::new() })
}

/// The message with the present epoch of its DVIPA.
fn in_epoch(bench: &Bench, mut message: FromStack) -> FromStack {
    let (dvipa, epoch) = match &mut message {
        FromStack::Srvstat(said) => (said.dvipa, &mut said.epoch),
        FromStack::Applications(said) => (said.dvipa, &mut said.epoch),
        FromStack::Stalled(said) => (said.dvipa, &mut said.epoch),
        FromStack::Choose(wants) => (Address(wants.connection.0.dvipa.ip()), &mut wants.epoch),
        other => unreachable!("{other:?}"),
    };
    if let Some(view) = bench.stack.vipa_view().dvipas.iter().find(|view| view.dvipa.address() == dvipa.0) {
        *epoch = view.epoch;
    }
    message
}

/// What is wrong after a history, if anything, and when.
fn run(seed: u64, forgets: Option<Discriminant<Mark>>) -> Result<(), String> {
    let mut random = Rng::with_seed(seed);
    let mut bench = Bench::new("");
    bench.stack.dirty.forgets = forgets;
    let (mut history, mut resting) = (Vec::new(), Vec::new());
    for _ in 0..EVENTS {
        if random.bool()
            && let Some(vacant) = resting.pop()
        {
            bench.handle(vacant).map_err(|refusal| refusal.to_string())?;
        }
        bench.wait(Duration::from_millis(one(
            &mut random,
            &[0, 0, 1, 30, 1500, 5000, 0, 0, 1, 30, 1500, 700_000],
        )));
        for _ in 0..=random.usize(..3) {
            let event = event(&mut random, &bench);
            history.push(format!("{:?}", discriminant(&event)));
            // What is refused changes nothing, or not all that it says.
            let _ = bench.handle(event);
        }
        bench.stack.hurry();
        for action in bench.actions() {
            if let Action::Retire { stacks, dvipas } = action {
                resting.push(Event::Vacant { stacks, dvipas });
            }
        }
        bench
            .stack
            .check_board()
            .map_err(|wrong| format!("seed {seed}, {} events: {wrong}", history.len()))?;
    }
    Ok(())
}

#[test]
fn the_dpt_that_is_kept_is_the_one_that_would_be_computed_from_scratch() {
    for seed in 0..SEEDS {
        run(seed, None).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

#[test]
fn a_mark_that_is_forgotten_is_found() {
    let (service, stack) = (tcp("198.18.9.1", 80), StackIndex(0));
    let marks = [
        Mark::Dvipa(service.dvipa),
        Mark::Definitions(service.dvipa),
        Mark::Service(service),
        Mark::Stack(stack),
        Mark::Part(service.dvipa, stack),
        Mark::Cell(service, stack),
        Mark::Load(stack),
        Mark::States,
        Mark::Abilities,
    ];
    for mark in marks {
        let found = (0..PATIENCE).any(|seed| run(seed, Some(discriminant(&mark))).is_err());
        assert!(found, "{mark:?} can be forgotten, and nobody notices");
    }
}

/// Three stacks that serve all of a hundred services.
fn hundred() -> Bench {
    let mut text = String::from("[[vipadynamic]]\n");
    for n in 1..=10 {
        text += &format!("[[vipadynamic.vipadefine]]\naddress = \"198.18.9.{n}\"\nmask = 24\n");
        for port in 80..90 {
            text += &format!(
                "[[vipadynamic.vipadistribute]]\naddress = \"198.18.9.{n}\"\nports = [{port}]\ndestip = \"all\"\n"
            );
        }
    }
    let mut bench = Bench::new(&text);
    for stack in ["t1", "t2", "t3"] {
        bench.up(stack);
        bench.actions();
        for n in 1..=10 {
            (80..90).for_each(|port| bench.listens(stack, tcp(&format!("198.18.9.{n}"), port)));
        }
    }
    bench.stack.hurry();
    bench.actions();
    bench
}

/// How many services and candidates the events make the machine look at, and how many rows of the DPT are others then.
fn cost(bench: &mut Bench, events: impl FnOnce(&mut Bench)) -> (u64, u64, usize) {
    let (work, rows) = (bench.stack.work(), bench.stack.dpt().distributions.clone());
    events(bench);
    bench.stack.hurry();
    bench.actions();
    let now = bench.stack.work();
    let changed = bench.stack.dpt().distributions.iter().zip(&rows).filter(|(now, before)| !now.is(before));
    (now.services - work.services, now.targets - work.targets, changed.count())
}

#[test]
fn what_an_event_costs_follows_what_it_changes() {
    let mut bench = hundred();
    let web = tcp("198.18.9.7", 85);
    assert_eq!(cost(&mut bench, |b| b.stops("t2", web)), (1, 1, 1), "one listen of one stack");
    assert_eq!(cost(&mut bench, |b| b.stops("t2", web)), (0, 1, 0), "that is no news");
    let connections: Vec<_> = (1..100).map(|n| connection(n, "198.18.9.7:85")).collect();
    let said = newconn(false, false, &connections);
    assert_eq!(cost(&mut bench, |b| b.message("t1", said).unwrap()), (0, 0, 0), "connections");
    let gone = termconn(&connections);
    assert_eq!(cost(&mut bench, |b| b.message("t1", gone).unwrap()), (0, 0, 0), "their ends");
    assert_eq!(cost(&mut bench, |b| b.load("t1", 900)), (0, 0, 0), "load that no service goes by");
    let down = cost(&mut bench, |b| b.down("t3"));
    assert_eq!(down, (100, 100, 100), "a stack among others, in all its services");
    let drained = cost(&mut bench, |b| {
        b.handle(Event::Drain { stack: name("t1"), scope: Scope::Service(web) }).unwrap();
    });
    assert_eq!(drained, (1, 1, 1));
}

#[test]
fn the_events_of_a_turn_are_followed_by_one_computation() {
    let mut bench = hundred();
    let before = bench.stack.work();
    for (stack, port) in ["t1", "t2", "t3"].into_iter().flat_map(|stack| [(stack, 80), (stack, 81)]) {
        bench.stops(stack, tcp("198.18.9.1", port));
    }
    bench.stack.hurry();
    bench.actions();
    let work = bench.stack.work();
    let did = (work.settles - before.settles, work.services - before.services, work.targets - before.targets);
    assert_eq!(did, (1, 2, 6));
}

#[test]
fn a_reload_that_changes_one_service_of_a_hundred_computes_that_one() {
    let mut bench = hundred();
    let same = bench.stack.config().clone();
    assert_eq!(cost(&mut bench, |b| configure(b, same)), (0, 0, 0), "nothing has changed");
    let mut other = bench.stack.config().clone();
    other.vipadynamic.distributes[42].method = model::dpt::Method::Maglev;
    assert_eq!(cost(&mut bench, |b| configure(b, other)), (1, 3, 1));
}

fn configure(bench: &mut Bench, config: Config) {
    bench.handle(Event::Configure(Box::new(config))).unwrap();
}
