//! What an event leaves to be computed anew, and nothing else.
//!
//! | event | what is computed anew |
//! | --- | --- |
//! | Configure | services of definitions that came, went or changed; all of a DVIPA that came or went, has another epoch or changed the definition without ports; stacks that name the address of a DVIPA that came or went as theirs |
//! | Bound, and what peers say, if addresses of ranges are active elsewhere from then on | as Configure, of these |
//! | session up or down, Hello, quiet, heard | the stack in all its services |
//! | of these, if a cluster address changes hands | also the other stacks that name it as theirs, and the DVIPAs whose definitions name it |
//! | SRVSTAT | the stack in the services that it names; in all of the DVIPA if it is complete or the first one in the epoch |
//! | Stalled | the stack in the services of which it is news that nobody, or somebody, is served |
//! | a share that grows by a step | the stack in the service |
//! | Applications | the stack in all services of the DVIPA |
//! | Load that changes the weight | the stack in services that go by load |
//! | Drain, Resume, Evacuate | the stack in the services of the scope |
//! | SetWeights, and their end | the service |
//! | the last part of an account, silent hosts, a stack that is dead, the end of [`super::SETTLES`] | who is asked, and the states of stacks |
//! | Abilities | where the connections of services can be transferred to |
//! | NEWCONN, TERMCONN, any other Load, whatever is of a transfer or an order | nothing |
//!
//! That these marks are enough is checked against a DPT that is computed from scratch (`tests/incremental.rs`, and after each step of
//! the simulation).

use std::collections::BTreeSet;

use model::{Dvipa, Service, StackIndex};

use super::Scope;

/// One thing to be computed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// All services of a DVIPA.
    Dvipa(Dvipa),
    /// What is said of a DVIPA as a whole: its entry in the VIPA list, who is asked, how strangers are refused.
    Definitions(Dvipa),
    /// One service.
    Service(Service),
    /// One stack in all services, and its state.
    Stack(StackIndex),
    /// One stack in the services of a DVIPA.
    Part(Dvipa, StackIndex),
    /// One stack in one service.
    Cell(Service, StackIndex),
    /// One stack where its load decides.
    Load(StackIndex),
    /// The states of all stacks, and who is asked.
    States,
    /// Where connections can be transferred to.
    Abilities,
}

/// What is to be computed anew.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) dvipas: BTreeSet<Dvipa>,
    pub(super) definitions: BTreeSet<Dvipa>,
    pub(super) services: BTreeSet<Service>,
    pub(super) stacks: BTreeSet<StackIndex>,
    pub(super) parts: BTreeSet<(Dvipa, StackIndex)>,
    pub(super) cells: BTreeSet<(Service, StackIndex)>,
    pub(super) loads: BTreeSet<StackIndex>,
    pub(super) states: bool,
    pub(super) abilities: bool,
    /// A fault on purpose: marks like this one are forgotten.
    #[cfg(test)]
    pub(super) forgets: Option<std::mem::Discriminant<Mark>>,
}

impl Dirty {
    /// This is to be computed anew.
    pub(super) fn mark(&mut self, mark: Mark) {
        #[cfg(test)]
        if self.forgets == Some(std::mem::discriminant(&mark)) {
            return;
        }
        match mark {
            Mark::Dvipa(dvipa) => {
                self.dvipas.insert(dvipa);
            }
            Mark::Definitions(dvipa) => {
                self.definitions.insert(dvipa);
            }
            Mark::Service(service) => {
                self.services.insert(service);
            }
            Mark::Stack(stack) => {
                self.stacks.insert(stack);
            }
            Mark::Part(dvipa, stack) => {
                self.parts.insert((dvipa, stack));
            }
            Mark::Cell(service, stack) => {
                self.cells.insert((service, stack));
            }
            Mark::Load(stack) => {
                self.loads.insert(stack);
            }
            Mark::States => self.states = true,
            Mark::Abilities => self.abilities = true,
        }
    }

    /// What was marked; nothing is from now on.
    pub(super) fn take(&mut self) -> Self {
        let next = Self {
            #[cfg(test)]
            forgets: self.forgets,
            ..Self::default()
        };
        std::mem::replace(self, next)
    }

    /// The services of which targets of transfers may have come or gone.
    pub(super) fn concerns(&self) -> Concern {
        if !self.stacks.is_empty() || self.abilities {
            return Concern::Every;
        }
        let dvipas = self.dvipas.iter().chain(&self.definitions).copied();
        Concern::These {
            dvipas: dvipas.chain(self.parts.iter().map(|(dvipa, _)| *dvipa)).collect(),
            services: self.services.iter().copied().chain(self.cells.iter().map(|(s, _)| *s)).collect(),
        }
    }
}

impl Mark {
    /// A stack in the services of a scope.
    pub(super) fn scope(scope: Scope, stack: StackIndex) -> Self {
        match scope {
            Scope::All => Mark::Stack(stack),
            Scope::Dvipa(dvipa) => Mark::Part(dvipa, stack),
            Scope::Service(service) => Mark::Cell(service, stack),
        }
    }
}

/// Which services something is about.
#[derive(Debug)]
pub(super) enum Concern {
    Every,
    These { dvipas: BTreeSet<Dvipa>, services: BTreeSet<Service> },
}

impl Concern {
    pub(super) fn is_nobody(&self) -> bool {
        matches!(self, Concern::These { dvipas, services } if dvipas.is_empty() && services.is_empty())
    }

    pub(super) fn covers(&self, service: Service) -> bool {
        match self {
            Concern::Every => true,
            Concern::These { dvipas, services } => {
                dvipas.contains(&service.dvipa) || services.contains(&service)
            }
        }
    }
}
