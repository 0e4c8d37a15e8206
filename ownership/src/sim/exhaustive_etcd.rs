//! Everything that can happen, for small bounds, where etcd decides: every state that two nodes and an etcd can reach, in whatever order
//! questions and answers arrive, and whichever leader renews. Nodes have the slowest clocks that are allowed and leaders the fastest.

use std::collections::BTreeSet;
use std::time::Duration;

use model::ownership::Ask;
use model::{Dvipa, Epoch};
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::Fault;
use super::clock::{Clock, Nanos};
use super::etcd::Etcd;
use super::world::ms;
use crate::etcd::{Leases, News, Question};
use crate::{Action, Ownership};

const NODES: usize = 2;
const LEASE: Duration = Duration::from_secs(2);
/// A leader's clock runs through a lease in two of these.
const STEP_MS: u64 = 1000;

/// What may happen how often.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    steps: u64,
    /// Leaders that are replaced and do not hear of it.
    elections: u8,
    /// More is not under way at a time: what is sent beyond is lost.
    under_way: usize,
    fault: Option<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Letter {
    To { from: usize, ask: Ask, question: Question },
    From { to: usize, news: News },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    leases: Leases,
    owned: Option<Epoch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    step: u64,
    nodes: Vec<Node>,
    etcd: Etcd,
    letters: BTreeSet<Letter>,
    elections: u8,
    /// The epoch of the last ownership.
    last: Epoch,
    shrunk: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Choice {
    /// `of_former`: at the leader that was replaced.
    Arrives {
        letter: Letter,
        of_former: bool,
    },
    TimePasses,
    Ticks(usize),
    Elects,
}

const ONE_OWNER: &str = "at most one node owns the DVIPA";
const EPOCHS_GROW: &str = "epochs grow";
const FOLLOWS: &str = "one owns it after the other";

fn dvipa() -> Dvipa {
    Dvipa::new("198.18.9.1".parse().expect("an address"))
}

impl State {
    fn begin(bounds: &Bounds) -> Self {
        let mut etcd = Etcd::new(bounds.fault);
        etcd.elect(Clock::fastest(), false, 0);
        let node = |_| {
            let mut leases = Leases::new(Epoch(0), LEASE);
            leases.faults.takes_every_term = bounds.fault == Some(Fault::TakesEveryTerm);
            if bounds.fault == Some(Fault::NoMargin) {
                leases.without_margin();
            }
            leases.want(dvipa(), true, Clock::slowest().at(0));
            Node { leases, owned: None }
        };
        let mut state = Self {
            step: 0,
            nodes: (0..NODES).map(node).collect(),
            etcd,
            letters: BTreeSet::new(),
            elections: bounds.elections,
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
        while let Some(action) = self.nodes[place].leases.poll() {
            match action {
                Action::Keep { .. } | Action::Send { .. } => {}
                Action::Gained { epoch, .. } => {
                    self.shrunk |= epoch <= self.last;
                    self.last = epoch;
                    self.nodes[place].owned = Some(epoch);
                }
                Action::Lost { .. } => self.nodes[place].owned = None,
                Action::Ask { ask, question } => {
                    self.post(Letter::To { from: place, ask, question }, bounds);
                }
            }
        }
    }

    fn arrives(&mut self, letter: Letter, of_former: bool, bounds: &Bounds) {
        match letter {
            Letter::To { from, ask, question } => {
                let (answer, freed) = self.etcd.ask(&question, of_former, self.now());
                if let Some(answer) = answer {
                    self.post(Letter::From { to: from, news: News::Answer { ask, answer } }, bounds);
                }
                for (dvipa, epoch) in freed {
                    self.post(Letter::From { to: 1 - from, news: News::Freed { dvipa, epoch } }, bounds);
                }
            }
            Letter::From { to, news } => {
                let now = Clock::slowest().at(self.now());
                if bounds.fault == Some(Fault::CountsFromAnswer) {
                    self.nodes[to].leases.asked_now(now);
                }
                self.nodes[to].leases.told(news, now);
                self.act(to, bounds);
            }
        }
    }

    /// The nodes whose workers forward as its owner: what they were told, until the fence.
    fn owners(&self) -> usize {
        let now = Clock::slowest().at(self.now());
        let forwards =
            |node: &&Node| node.owned.is_some() && node.leases.fence().is_some_and(|fence| now < fence);
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
            choices.push(Choice::Arrives { letter: letter.clone(), of_former: false });
            if state.etcd.has_former()
                && matches!(letter, Letter::To { question: Question::Renew { .. }, .. })
            {
                choices.push(Choice::Arrives { letter: letter.clone(), of_former: true });
            }
        }
        if state.step < self.steps {
            choices.push(Choice::TimePasses);
        }
        let now = Clock::slowest().at(state.now());
        let due = (0..NODES).filter(|n| state.nodes[*n].leases.next_deadline().is_some_and(|at| at <= now));
        choices.extend(due.map(Choice::Ticks));
        if state.elections > 0 {
            choices.push(Choice::Elects);
        }
    }

    fn next_state(&self, state: &State, choice: Choice) -> Option<State> {
        let mut next = state.clone();
        match choice {
            Choice::Arrives { letter, of_former } => {
                next.letters.remove(&letter);
                next.arrives(letter, of_former, self);
            }
            Choice::TimePasses => next.step += 1,
            Choice::Ticks(place) => {
                let now = Clock::slowest().at(next.now());
                next.nodes[place].leases.tick(now);
                next.act(place, self);
            }
            Choice::Elects => {
                next.elections -= 1;
                let now = next.now();
                next.etcd.elect(Clock::fastest(), true, now);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_OWNER, |_, state: &State| state.owners() <= 1),
            Property::always(EPOCHS_GROW, |_, state: &State| !state.shrunk),
            Property::sometimes(FOLLOWS, |_, state: &State| state.last > Epoch(1) && state.owners() == 1),
        ]
    }
}

/// Visits everything, or until something is wrong: how many states there are, and whether one owned it after the other; or what is
/// wrong.
fn visit(bounds: Bounds) -> Result<(usize, bool), String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker =
        bounds.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    for name in [ONE_OWNER, EPOCHS_GROW] {
        if let Some(path) = checker.discovery(name) {
            return Err(format!("{name}: not after {:#?}", path.into_actions()));
        }
    }
    Ok((checker.unique_state_count(), checker.discovery(FOLLOWS).is_some()))
}

const BOUNDS: Bounds = Bounds { steps: 3, elections: 0, under_way: 2, fault: None };

#[test]
fn at_most_one_node_owns_a_dvipa_in_whatever_order_etcd_is_asked_and_leases_lapse() {
    let (states, follows) = visit(BOUNDS).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(follows, "no node owns it after the other in {states} states");
    println!("{states} states");
}

#[test]
#[ignore = "takes hours: millions of states"]
fn at_most_one_node_owns_a_dvipa_whichever_leader_of_etcd_renews() {
    let (states, _) = visit(Bounds { elections: 1, ..BOUNDS }).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{states} states");
}

#[test]
#[ignore = "takes hours: millions of states"]
fn faults_of_leases_of_etcd_are_found_in_small_bounds_too() {
    let faults = [
        (Bounds { fault: Some(Fault::NoMargin), ..BOUNDS }, ONE_OWNER),
        (Bounds { fault: Some(Fault::CountsFromAnswer), ..BOUNDS }, ONE_OWNER),
        (Bounds { fault: Some(Fault::PutsWithoutCompare), ..BOUNDS }, ONE_OWNER),
        (Bounds { fault: Some(Fault::TakesEveryTerm), elections: 1, steps: 4, ..BOUNDS }, ONE_OWNER),
    ];
    for (bounds, property) in faults {
        let found = visit(bounds);
        assert!(
            found.as_ref().is_err_and(|wrong| wrong.contains(property)),
            "{bounds:?} is not found: {found:?}"
        );
    }
}
