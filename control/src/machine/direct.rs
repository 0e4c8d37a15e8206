//! Ports that one stack has for itself (row U2): a listener that no definition distributes is reached directly, whatever
//! methods, weights, policies and drains say (seed 003, claims 5 to 7 and 10 to 13).
//!
//! | event | the port has no stack | another stack has it | this stack has it |
//! | --- | --- | --- | --- |
//! | a stack listens | it is its | it waits, and is refused with a counter | – |
//! | a stack listens no longer, or is dead | – | it waits no longer | the first that waits has it, or none |
//! | a session is lost | – | – | – (the host may serve on) |
//!
//! So of two stacks with the same port the one that came first has it, for as long as it listens.
//!
//! A direct route is kept as the definition that an operator would have to write for it, so that the DPT and the displays read it as
//! any other.

use std::collections::{BTreeMap, BTreeSet};

use model::dpt::{Method, Refuse, Shared};
use model::{Dvipa, Limits, Protocol, Service, StackName};

use crate::config::{Candidate, Destip, TargetRules, VipaDistribute, Weights};

/// The ports that single stacks have, of all DVIPAs.
#[derive(Debug, Default)]
pub(super) struct Direct {
    routes: BTreeMap<Service, Route>,
    /// Those that came or went: there is one for each transfer of an FTP server, which is nothing for the log.
    changed: BTreeSet<Service>,
}

/// Who has a port.
#[derive(Debug)]
struct Route {
    /// All whose applications listen, the first of which has the port; never empty.
    stacks: Vec<StackName>,
    /// What the first one has, as a definition.
    definition: VipaDistribute,
}

/// Whose a port is after a stack has said that it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The stack's, from now on.
    Won,
    /// The stack's, as before.
    Had,
    /// This one's.
    Anothers(StackName),
}

impl Direct {
    /// An application of the stack listens.
    pub(super) fn claim(&mut self, service: Service, stack: &StackName) -> Claim {
        let Some(route) = self.routes.get_mut(&service) else {
            self.changed.insert(service);
            let route = Route { stacks: vec![stack.clone()], definition: definition(service, stack) };
            self.routes.insert(service, route);
            return Claim::Won;
        };
        match route.stacks.first() {
            Some(first) if first == stack => Claim::Had,
            Some(first) => {
                let first = first.clone();
                if !route.stacks.contains(stack) {
                    route.stacks.push(stack.clone());
                }
                Claim::Anothers(first)
            }
            None => Claim::Had,
        }
    }

    /// No application of the stack listens any more. `true`: the port is another stack's now, or nobody's.
    pub(super) fn leave(&mut self, service: Service, stack: &StackName) -> bool {
        let Some(route) = self.routes.get_mut(&service) else { return false };
        let had = route.stacks.first() == Some(stack);
        route.stacks.retain(|other| other != stack);
        match route.stacks.first() {
            Some(next) if had => route.definition = definition(service, next),
            Some(_) => {}
            None => drop(self.routes.remove(&service)),
        }
        if had {
            self.changed.insert(service);
        }
        had
    }

    /// The DVIPA is forgotten.
    pub(super) fn forget_dvipa(&mut self, dvipa: Dvipa) {
        self.routes.retain(|service, _| service.dvipa != dvipa);
    }

    /// The ports of a DVIPA that the stack has or waits for.
    pub(super) fn of(&self, dvipa: Dvipa, stack: &StackName) -> Vec<Service> {
        let of_it = self.range(dvipa).filter(|(_, route)| route.stacks.contains(stack));
        of_it.map(|(service, _)| *service).collect()
    }

    /// The ports of all DVIPAs that the stack has or waits for.
    pub(super) fn of_stack(&self, stack: &StackName) -> Vec<Service> {
        let of_it = self.routes.iter().filter(|(_, route)| route.stacks.contains(stack));
        of_it.map(|(service, _)| *service).collect()
    }

    /// The route to a port, as a definition.
    pub(super) fn definition(&self, service: Service) -> Option<&VipaDistribute> {
        self.routes.get(&service).map(|route| &route.definition)
    }

    /// The ports that another stack has than when this was asked last, or nobody.
    pub(super) fn take_changed(&mut self) -> BTreeSet<Service> {
        std::mem::take(&mut self.changed)
    }

    /// The ports of a DVIPA that some stack has.
    pub(super) fn services(&self, dvipa: Dvipa) -> impl Iterator<Item = Service> {
        self.range(dvipa).map(|(service, _)| *service)
    }

    fn range(&self, dvipa: Dvipa) -> impl Iterator<Item = (&Service, &Route)> {
        let service = |port, protocol| Service { dvipa, port, protocol };
        self.routes.range(service(0, Protocol::Tcp)..=service(u16::MAX, Protocol::Udp))
    }
}

/// Everything that comes to this port goes to this stack.
fn definition(service: Service, stack: &StackName) -> VipaDistribute {
    let Service { dvipa, port, protocol } = service;
    VipaDistribute {
        dvipa,
        protocol,
        ports: vec![port],
        destip: Destip::List(vec![Candidate::Name(stack.clone())]),
        method: Method::default(),
        weights: Weights::Equal,
        content_routed: false,
        refuse: Refuse::default(),
        rules: TargetRules::default(),
        limits: Limits::NONE,
        policies: Vec::new(),
        routing: None,
        quic: Shared::default(),
    }
}
