//! Everything that can happen, for small bounds: the model checker visits every state that two nodes and who decides can reach, three
//! witnesses or an etcd, in whatever order messages arrive, however late timers fire, and whichever leader of etcd renews.
//!
//! Nodes have the slowest clocks that are allowed and those who lease to them the fastest, which is the worst case. A message that never
//! arrives is lost; a process whose timers do not fire is stopped.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use histories::{Clock, Nanos, ms};
use model::ownership::{Ask, FromWitness, ToWitness};
use model::{Dvipa, Epoch};
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::etcd::Etcd;
use super::process::{Machine, node_name, remembers, witness_name};
use super::{Fault, Judge, Settings};
use crate::etcd::{News, Question};
use crate::lease::DRIFT;
use crate::{Action, Deed, Kept, Witness};

/// What may happen how often.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    settings: Settings,
    /// A clock of those who lease runs through a lease in two of these.
    step: Nanos,
    steps: u64,
    /// Witnesses that begin anew; leaders that are replaced and do not hear of it.
    upsets: u8,
    /// Messages that arrive a second time.
    copies: u8,
    /// More messages are not under way at a time: what is sent beyond is lost.
    under_way: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Letter {
    ToWitness { from: usize, to: usize, message: ToWitness },
    FromWitness { from: usize, to: usize, message: FromWitness },
    ToEtcd { from: usize, ask: Ask, question: Question },
    FromEtcd { to: usize, news: News },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    machine: Machine,
    owned: Option<Epoch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Host {
    witness: Witness,
    disk: Kept,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    step: u64,
    nodes: Vec<Node>,
    hosts: Vec<Host>,
    etcd: Option<Etcd>,
    letters: BTreeSet<Letter>,
    upsets: u8,
    copies: u8,
    /// The epoch of the last ownership.
    last: Epoch,
    shrunk: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Choice {
    Arrives {
        letter: Letter,
        /// It is under way a second time.
        copy: bool,
        /// It comes to the leader that was replaced.
        of_former: bool,
    },
    /// A step of time passes for all.
    TimePasses,
    NodeTicks(usize),
    WitnessTicks(usize),
    WitnessBeginsAnew(usize),
    LeaderIsReplaced,
}

const ONE_OWNER: &str = "at most one node owns the DVIPA";
const EPOCHS_GROW: &str = "epochs grow";
const FOLLOWS: &str = "each of both owns it after the other";

fn dvipa() -> Dvipa {
    Dvipa::new("198.18.9.1".parse().expect("an address"))
}

/// What the clocks of nodes say.
fn slow(now: Nanos) -> Instant {
    Clock::slowest(DRIFT).at(now)
}

/// What the clocks of those say who lease to them.
fn fast(now: Nanos) -> Instant {
    Clock::fastest(DRIFT).at(now)
}

impl State {
    fn begin(bounds: &Bounds) -> Self {
        let Settings { nodes, witnesses, lease, judge, fault, .. } = bounds.settings;
        let node = |place: usize| {
            let run = u64::try_from(place).expect("few nodes") + 1;
            let mut machine = Machine::new(&bounds.settings, run, Epoch(0));
            (0..witnesses).for_each(|witness| machine.session(&witness_name(witness), true, slow(0)));
            machine.want(dvipa(), true, slow(0));
            Node { machine, owned: None }
        };
        // They were there before, and nothing was granted.
        let witness = Witness::new(Kept { epoch: Epoch(0), lease: Duration::ZERO }, fast(0));
        let host = Host { witness, disk: Kept { epoch: Epoch(0), lease } };
        let etcd = || {
            let mut etcd = Etcd::new(fault);
            etcd.elect(Clock::fastest(DRIFT), false, 0);
            etcd
        };
        let mut state = Self {
            step: 0,
            nodes: (0..nodes).map(node).collect(),
            hosts: vec![host; witnesses],
            etcd: (judge == Judge::Etcd).then(etcd),
            letters: BTreeSet::new(),
            upsets: bounds.upsets,
            copies: bounds.copies,
            last: Epoch(0),
            shrunk: false,
        };
        (0..nodes).for_each(|place| state.act(place, bounds));
        state
    }

    fn now(&self, bounds: &Bounds) -> Nanos {
        self.step * bounds.step
    }

    fn post(&mut self, letter: Letter, bounds: &Bounds) {
        if self.letters.len() < bounds.under_way {
            self.letters.insert(letter);
        }
    }

    /// Does what a node wants done.
    fn act(&mut self, place: usize, bounds: &Bounds) {
        while let Some(action) = self.nodes[place].machine.poll() {
            match action {
                Action::Keep { .. } => {}
                Action::Gained { epoch, .. } => {
                    self.shrunk |= epoch <= self.last;
                    self.last = epoch;
                    self.nodes[place].owned = Some(epoch);
                }
                Action::Lost { .. } => self.nodes[place].owned = None,
                Action::Send { to, message } => {
                    let to = (0..self.hosts.len()).find(|w| witness_name(*w) == to).expect("a witness");
                    self.post(Letter::ToWitness { from: place, to, message }, bounds);
                }
                Action::Ask { ask, question } => {
                    self.post(Letter::ToEtcd { from: place, ask, question }, bounds);
                }
            }
        }
    }

    fn do_deeds(&mut self, place: usize, bounds: &Bounds) {
        while let Some(deed) = self.hosts[place].witness.poll() {
            match deed {
                Deed::Keep(kept) => self.hosts[place].disk = kept,
                Deed::Send { to, message } => {
                    let to = (0..self.nodes.len()).find(|n| node_name(*n) == to).expect("a node");
                    self.post(Letter::FromWitness { from: place, to, message }, bounds);
                }
            }
        }
    }

    fn arrives(&mut self, letter: Letter, of_former: bool, bounds: &Bounds) {
        let now = self.now(bounds);
        match letter {
            Letter::ToWitness { from, to, message } => {
                self.hosts[to].witness.heard(&node_name(from), message, fast(now));
                self.do_deeds(to, bounds);
            }
            Letter::FromWitness { from, to, message } => {
                self.hears(to, bounds).heard(&witness_name(from), message, slow(now));
                self.act(to, bounds);
            }
            Letter::ToEtcd { from, ask, question } => {
                let Some(etcd) = &mut self.etcd else { return };
                let (answer, freed) = etcd.ask(&question, of_former, now);
                if let Some(answer) = answer {
                    self.post(Letter::FromEtcd { to: from, news: News::Answer { ask, answer } }, bounds);
                }
                for (dvipa, epoch) in freed {
                    self.post(Letter::FromEtcd { to: 1 - from, news: News::Freed { dvipa, epoch } }, bounds);
                }
            }
            Letter::FromEtcd { to, news } => {
                self.hears(to, bounds).told(news, slow(now));
                self.act(to, bounds);
            }
        }
    }

    /// The machine of a node that is about to hear something.
    fn hears(&mut self, place: usize, bounds: &Bounds) -> &mut Machine {
        let now = slow(self.now(bounds));
        let machine = &mut self.nodes[place].machine;
        if bounds.settings.fault == Some(Fault::CountsFromAnswer) {
            machine.asked_now(now);
        }
        machine
    }

    /// The nodes whose workers forward as its owner: what they were told, until the fence.
    fn owners(&self, bounds: &Bounds) -> usize {
        let now = slow(self.now(bounds));
        let forwards =
            |node: &&Node| node.owned.is_some() && node.machine.fence().is_some_and(|fence| now < fence);
        self.nodes.iter().filter(forwards).count()
    }
}

impl Model for Bounds {
    type State = State;
    type Action = Choice;

    fn init_states(&self) -> Vec<State> {
        vec![State::begin(self)]
    }

    fn actions(&self, state: &State, choices: &mut Vec<Choice>) {
        let has_former = state.etcd.as_ref().is_some_and(Etcd::has_former);
        for letter in &state.letters {
            let mut arrives =
                |copy, of_former| choices.push(Choice::Arrives { letter: letter.clone(), copy, of_former });
            arrives(false, false);
            if state.copies > 0 {
                arrives(true, false);
            }
            if has_former && matches!(letter, Letter::ToEtcd { question: Question::Renew { .. }, .. }) {
                arrives(false, true);
            }
        }
        if state.step < self.steps {
            choices.push(Choice::TimePasses);
        }
        let (node, witness) = (slow(state.now(self)), fast(state.now(self)));
        let nodes = state.nodes.iter().map(|node| node.machine.next_deadline()).enumerate();
        let due = nodes.filter(|(_, at)| at.is_some_and(|at| at <= node));
        choices.extend(due.map(|(place, _)| Choice::NodeTicks(place)));
        let hosts = state.hosts.iter().map(|host| host.witness.next_deadline()).enumerate();
        let due = hosts.filter(|(_, at)| at.is_some_and(|at| at <= witness));
        choices.extend(due.map(|(place, _)| Choice::WitnessTicks(place)));
        if state.upsets > 0 {
            choices.extend((0..state.hosts.len()).map(Choice::WitnessBeginsAnew));
            choices.extend(state.etcd.iter().map(|_| Choice::LeaderIsReplaced));
        }
    }

    fn next_state(&self, state: &State, choice: Choice) -> Option<State> {
        let mut next = state.clone();
        let now = next.now(self);
        match choice {
            Choice::Arrives { letter, copy, of_former } => {
                if copy {
                    next.copies -= 1;
                } else {
                    next.letters.remove(&letter);
                }
                next.arrives(letter, of_former, self);
            }
            Choice::TimePasses => next.step += 1,
            Choice::NodeTicks(place) => {
                next.nodes[place].machine.tick(slow(now));
                next.act(place, self);
            }
            Choice::WitnessTicks(place) => {
                next.hosts[place].witness.tick(fast(now));
                next.do_deeds(place, self);
            }
            Choice::WitnessBeginsAnew(place) => {
                next.upsets -= 1;
                let kept = remembers(next.hosts[place].disk, self.settings.fault);
                next.hosts[place].witness = Witness::new(kept, fast(now));
            }
            Choice::LeaderIsReplaced => {
                next.upsets -= 1;
                next.etcd.as_mut()?.elect(Clock::fastest(DRIFT), true, now);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_OWNER, |bounds: &Self, state: &State| state.owners(bounds) <= 1),
            Property::always(EPOCHS_GROW, |_, state: &State| !state.shrunk),
            Property::sometimes(FOLLOWS, |bounds: &Self, state: &State| {
                state.last > Epoch(1) && state.owners(bounds) == 1 && state.nodes[1].owned.is_some()
            }),
        ]
    }
}

/// What was visited.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "for people who read the test's output")]
struct Visited {
    states: usize,
    /// One node owned it after the other.
    follows: bool,
}

/// Visits everything, or until something is wrong. What is wrong, if anything, with the shortest way there.
fn visit(bounds: Bounds) -> Result<Visited, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker =
        bounds.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    for promise in [ONE_OWNER, EPOCHS_GROW] {
        if let Some(path) = checker.discovery(promise) {
            let steps: Vec<_> = path.into_actions().iter().map(|step| format!("  {step:?}")).collect();
            return Err(format!("{bounds:?}\n{promise}:\n{}", steps.join("\n")));
        }
    }
    let (states, follows) = (checker.unique_state_count(), checker.discovery(FOLLOWS).is_some());
    Ok(Visited { states, follows })
}

const SETTINGS: Settings = Settings {
    nodes: 2,
    witnesses: 3,
    targets: 0,
    dvipas: 1,
    lease: Duration::from_millis(110),
    judge: Judge::Witnesses,
    slow: 1,
    fault: None,
};

const WITNESSES: Bounds =
    Bounds { settings: SETTINGS, step: ms(50), steps: 2, upsets: 0, copies: 0, under_way: 2 };

const ETCD: Bounds = Bounds {
    settings: Settings { witnesses: 0, lease: Duration::from_secs(2), judge: Judge::Etcd, ..SETTINGS },
    step: ms(1000),
    steps: 3,
    ..WITNESSES
};

impl Bounds {
    const fn with(self, fault: Fault) -> Self {
        Self { settings: Settings { fault: Some(fault), ..self.settings }, ..self }
    }
}

fn every_order_is_right(bounds: Bounds) -> Visited {
    let visited = visit(bounds).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{visited:?}");
    visited
}

/// Each of these is found, with the shortest way there.
fn find(faults: &[Bounds]) {
    for bounds in faults {
        let found = visit(*bounds).expect_err("a fault that is built in");
        assert!(found.contains(ONE_OWNER), "{bounds:?} is not found: {found}");
        println!("{found}");
    }
}

#[test]
fn at_most_one_node_owns_a_dvipa_in_whatever_order_messages_arrive_and_leases_lapse() {
    let visited = every_order_is_right(WITNESSES);
    assert!(visited.follows, "no node owns it after the other: {visited:?}");
}

#[test]
fn at_most_one_node_owns_a_dvipa_in_whatever_order_messages_arrive_twice() {
    every_order_is_right(Bounds { steps: 1, copies: 1, ..WITNESSES });
}

#[test]
fn at_most_one_node_owns_a_dvipa_in_whatever_order_a_witness_begins_anew() {
    every_order_is_right(Bounds { steps: 0, upsets: 1, under_way: 4, ..WITNESSES });
    every_order_is_right(Bounds { steps: 1, upsets: 1, ..WITNESSES });
}

#[test]
fn at_most_one_node_owns_a_dvipa_in_whatever_order_etcd_is_asked_and_leases_lapse() {
    let visited = every_order_is_right(ETCD);
    assert!(visited.follows, "no node owns it after the other: {visited:?}");
}

#[test]
#[ignore = "takes hours: millions of states"]
fn at_most_one_node_owns_a_dvipa_whichever_leader_of_etcd_renews() {
    every_order_is_right(Bounds { upsets: 1, ..ETCD });
}

#[test]
fn faults_of_the_lease_are_found_in_small_bounds_too() {
    find(&[
        WITNESSES.with(Fault::NoMargin),
        WITNESSES.with(Fault::CountsFromAnswer),
        Bounds { steps: 0, under_way: 4, ..WITNESSES }.with(Fault::OneWitnessLess),
        Bounds { steps: 0, upsets: 1, under_way: 4, ..WITNESSES }.with(Fault::LeasesAtOnce),
    ]);
}

#[test]
#[ignore = "takes hours: millions of states"]
fn faults_of_leases_of_etcd_are_found_in_small_bounds_too() {
    find(&[
        ETCD.with(Fault::NoMargin),
        ETCD.with(Fault::CountsFromAnswer),
        ETCD.with(Fault::PutsWithoutCompare),
        Bounds { upsets: 1, steps: 4, ..ETCD }.with(Fault::TakesEveryTerm),
    ]);
}
