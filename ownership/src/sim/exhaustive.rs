//! Everything that can happen, for small bounds: the model checker visits every state that two nodes and three witnesses can reach, in
//! whatever order messages arrive, however late timers fire.
//!
//! Nodes have the slowest clocks that are allowed and witnesses the fastest, which is the worst case. A message that never arrives is
//! lost; a process whose timers do not fire is stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use model::ownership::{FromWitness, ToWitness};
use model::{Dvipa, Epoch};
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::Fault;
use super::clock::{Clock, Nanos};
use super::process::{node_name, witness_name};
use super::world::ms;
use crate::{Action, Decider, Deed, Kept, Ownership, Tenures, Witness};

const NODES: usize = 2;
const WITNESSES: usize = 3;
const LEASE: Duration = Duration::from_millis(110);
/// A witness's clock runs through a lease in two of these.
const STEP_MS: u64 = 50;

/// What may happen how often.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    steps: u64,
    /// Witnesses that begin anew.
    restarts: u8,
    /// Messages that arrive a second time.
    copies: u8,
    /// More messages are not under way at a time: what is sent beyond is lost.
    under_way: usize,
    fault: Option<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Letter {
    To { from: usize, to: usize, message: ToWitness },
    From { from: usize, to: usize, message: FromWitness },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    tenures: Tenures,
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
    letters: BTreeSet<Letter>,
    restarts: u8,
    copies: u8,
    /// The epoch of the last ownership.
    last: Epoch,
    shrunk: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Choice {
    /// It arrives; `copy`: and is under way a second time.
    Arrives {
        letter: Letter,
        copy: bool,
    },
    /// A step of time passes for all.
    TimePasses,
    NodeTicks(usize),
    WitnessTicks(usize),
    WitnessBeginsAnew(usize),
}

const ONE_OWNER: &str = "at most one node owns the DVIPA";
const EPOCHS_GROW: &str = "epochs grow";
const FOLLOWS: &str = "each of both owns it after the other";

fn dvipa() -> Dvipa {
    Dvipa::new("198.18.9.1".parse().expect("an address"))
}

fn node_clock() -> Clock {
    Clock::slowest()
}

fn witness_clock() -> Clock {
    Clock::fastest()
}

impl State {
    fn begin(bounds: &Bounds) -> Self {
        let names: BTreeSet<_> = (0..WITNESSES).map(witness_name).collect();
        let node = |place: usize| {
            let decider = Decider::Witnesses { names: names.clone(), lease: LEASE };
            let run = u64::try_from(place).expect("few nodes") + 1;
            let mut tenures = Tenures::new(crate::Settings { run, above: Epoch(0), decider });
            match bounds.fault {
                Some(Fault::NoMargin) => tenures.without_margin(),
                Some(Fault::OneWitnessLess) => tenures.one_witness_less(),
                _ => {}
            }
            let now = node_clock().at(0);
            names.iter().for_each(|name| tenures.session(name, true, now));
            tenures.want(dvipa(), true, now);
            Node { tenures, owned: None }
        };
        // They were there before, and nothing was granted.
        let kept = Kept { epoch: Epoch(0), lease: Duration::ZERO };
        let witness = Witness::new(kept, witness_clock().at(0));
        let host = Host { witness, disk: Kept { epoch: Epoch(0), lease: LEASE } };
        let mut state = Self {
            step: 0,
            nodes: (0..NODES).map(node).collect(),
            hosts: vec![host; WITNESSES],
            letters: BTreeSet::new(),
            restarts: bounds.restarts,
            copies: bounds.copies,
            last: Epoch(0),
            shrunk: false,
        };
        (0..NODES).for_each(|place| state.act(place, bounds));
        state
    }

    fn now(&self) -> Nanos {
        ms(self.step * STEP_MS)
    }

    fn post(&mut self, letter: Letter, bounds: &Bounds) {
        if self.letters.len() < bounds.under_way {
            self.letters.insert(letter);
        }
    }

    fn act(&mut self, place: usize, bounds: &Bounds) {
        while let Some(action) = self.nodes[place].tenures.poll() {
            match action {
                Action::Keep { .. } | Action::Ask { .. } => {}
                Action::Gained { epoch, .. } => {
                    self.shrunk |= epoch <= self.last;
                    self.last = epoch;
                    self.nodes[place].owned = Some(epoch);
                }
                Action::Lost { .. } => self.nodes[place].owned = None,
                Action::Send { to, message } => {
                    let to = (0..WITNESSES).find(|w| witness_name(*w) == to).expect("a witness");
                    self.post(Letter::To { from: place, to, message }, bounds);
                }
            }
        }
    }

    fn do_deeds(&mut self, place: usize, bounds: &Bounds) {
        while let Some(deed) = self.hosts[place].witness.poll() {
            match deed {
                Deed::Keep(kept) => self.hosts[place].disk = kept,
                Deed::Send { to, message } => {
                    let to = (0..NODES).find(|n| node_name(*n) == to).expect("a node");
                    self.post(Letter::From { from: place, to, message }, bounds);
                }
            }
        }
    }

    fn arrives(&mut self, letter: Letter, bounds: &Bounds) {
        match letter {
            Letter::To { from, to, message } => {
                let now = witness_clock().at(self.now());
                self.hosts[to].witness.heard(&node_name(from), message, now);
                self.do_deeds(to, bounds);
            }
            Letter::From { from, to, message } => {
                let now = node_clock().at(self.now());
                if bounds.fault == Some(Fault::CountsFromAnswer) {
                    self.nodes[to].tenures.asked_now(now);
                }
                self.nodes[to].tenures.heard(&witness_name(from), message, now);
                self.act(to, bounds);
            }
        }
    }

    fn begins_anew(&mut self, place: usize, bounds: &Bounds) {
        let mut kept = self.hosts[place].disk;
        match bounds.fault {
            Some(Fault::LeasesAtOnce) => kept.lease = Duration::ZERO,
            Some(Fault::ForgetsEpochs) => kept.epoch = Epoch(0),
            _ => {}
        }
        self.restarts -= 1;
        self.hosts[place].witness = Witness::new(kept, witness_clock().at(self.now()));
    }

    /// The nodes whose workers forward as its owner: what they were told, until the fence.
    fn owners(&self) -> usize {
        let now = node_clock().at(self.now());
        let forwards =
            |node: &&Node| node.owned.is_some() && node.tenures.fence().is_some_and(|fence| now < fence);
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
        for letter in &state.letters {
            choices.push(Choice::Arrives { letter: letter.clone(), copy: false });
            if state.copies > 0 {
                choices.push(Choice::Arrives { letter: letter.clone(), copy: true });
            }
        }
        if state.step < self.steps {
            choices.push(Choice::TimePasses);
        }
        let (node, witness) = (node_clock().at(state.now()), witness_clock().at(state.now()));
        let due = (0..NODES).filter(|n| state.nodes[*n].tenures.next_deadline().is_some_and(|at| at <= node));
        choices.extend(due.map(Choice::NodeTicks));
        let due = (0..WITNESSES)
            .filter(|w| state.hosts[*w].witness.next_deadline().is_some_and(|at| at <= witness));
        choices.extend(due.map(Choice::WitnessTicks));
        if state.restarts > 0 {
            choices.extend((0..WITNESSES).map(Choice::WitnessBeginsAnew));
        }
    }

    fn next_state(&self, state: &State, choice: Choice) -> Option<State> {
        let mut next = state.clone();
        match choice {
            Choice::Arrives { letter, copy } => {
                if copy {
                    next.copies -= 1;
                } else {
                    next.letters.remove(&letter);
                }
                next.arrives(letter, self);
            }
            Choice::TimePasses => next.step += 1,
            Choice::NodeTicks(place) => {
                let now = node_clock().at(next.now());
                next.nodes[place].tenures.tick(now);
                next.act(place, self);
            }
            Choice::WitnessTicks(place) => {
                let now = witness_clock().at(next.now());
                next.hosts[place].witness.tick(now);
                next.do_deeds(place, self);
            }
            Choice::WitnessBeginsAnew(place) => next.begins_anew(place, self),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_OWNER, |_, state: &State| state.owners() <= 1),
            Property::always(EPOCHS_GROW, |_, state: &State| !state.shrunk),
            Property::sometimes(FOLLOWS, |_, state: &State| {
                state.last > Epoch(1) && state.owners() == 1 && state.nodes[1].owned.is_some()
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

const BOUNDS: Bounds = Bounds { steps: 2, restarts: 0, copies: 0, under_way: 2, fault: None };

fn every_order_is_right(bounds: Bounds) {
    match visit(bounds) {
        Ok(visited) => println!("{visited:?}"),
        Err(wrong) => panic!("{wrong}"),
    }
}

#[test]
fn at_most_one_node_owns_a_dvipa_in_whatever_order_messages_arrive_and_leases_lapse() {
    let visited = visit(BOUNDS).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(visited.follows, "no node owns it after the other: {visited:?}");
}

#[test]
fn at_most_one_node_owns_a_dvipa_in_whatever_order_messages_arrive_twice() {
    every_order_is_right(Bounds { steps: 1, copies: 1, ..BOUNDS });
}

#[test]
fn at_most_one_node_owns_a_dvipa_in_whatever_order_a_witness_begins_anew() {
    every_order_is_right(Bounds { steps: 0, restarts: 1, under_way: 4, ..BOUNDS });
    every_order_is_right(Bounds { steps: 1, restarts: 1, ..BOUNDS });
}

#[test]
fn faults_of_the_lease_are_found_in_small_bounds_too() {
    let faults = [
        Bounds { fault: Some(Fault::NoMargin), ..BOUNDS },
        Bounds { fault: Some(Fault::CountsFromAnswer), ..BOUNDS },
        Bounds { fault: Some(Fault::OneWitnessLess), steps: 0, under_way: 4, ..BOUNDS },
        Bounds { fault: Some(Fault::LeasesAtOnce), steps: 0, restarts: 1, under_way: 4, ..BOUNDS },
    ];
    for bounds in faults {
        let found = visit(bounds);
        assert!(found.is_err_and(|wrong| wrong.contains(ONE_OWNER)), "{bounds:?} is not found");
    }
}
