//! One session with a stack: has it greeted, and what did it say since.

use std::collections::{BTreeMap, BTreeSet};

use model::control_socket::JobName;
use model::control_socket::request::Role;
use model::message::{Application, Load};
use model::{Dvipa, Epoch, Protocol, Service};

use super::load::TargetLoad;
use super::{MAX_APPLICATIONS, MAX_LISTENS};

/// A session that is up.
#[derive(Debug)]
pub(super) enum Session {
    /// The peer's Hello has not come yet.
    Greeting,
    /// It has.
    Greeted(Box<Said>),
}

/// What a stack said in this session. Ends with it.
#[derive(Debug, Default)]
pub(super) struct Said {
    listens: BTreeSet<Service>,
    reported: BTreeMap<Dvipa, Epoch>,
    applications: BTreeMap<Dvipa, (Epoch, BTreeSet<Application>)>,
    load: Option<TargetLoad>,
    /// A complete account of connections has begun and not ended.
    pub(super) in_account: bool,
    /// One has ended: what connections the stack has is known.
    pub(super) accounted: bool,
    /// Which VIPA list the stack was sent; 0: none.
    pub(super) list_generation: u64,
}

impl Said {
    /// An application listens, or stopped. `false`: there is no room for it.
    pub(super) fn listen(&mut self, service: Service, listening: bool) -> bool {
        if !listening {
            self.listens.remove(&service);
            return true;
        }
        if self.listens.len() >= MAX_LISTENS && !self.listens.contains(&service) {
            return false;
        }
        self.listens.insert(service);
        true
    }

    /// Everything about this DVIPA is about to be said anew.
    pub(super) fn forget(&mut self, dvipa: Dvipa) {
        self.listens.retain(|service| service.dvipa != dvipa);
    }

    /// Something was said about this DVIPA, if only that nothing listens.
    pub(super) fn mark_reported(&mut self, dvipa: Dvipa, epoch: Epoch) {
        self.reported.insert(dvipa, epoch);
    }

    /// Does an application listen?
    pub(super) fn listens(&self, service: Service) -> bool {
        self.listens.contains(&service)
    }

    /// The services of a DVIPA on which an application listens.
    pub(super) fn services_of(&self, dvipa: Dvipa) -> impl Iterator<Item = Service> {
        let service = |port, protocol| Service { dvipa, port, protocol };
        let range = service(0, Protocol::Tcp)..=service(u16::MAX, Protocol::Udp);
        self.listens.range(range).copied()
    }

    /// All services on which an application listens.
    pub(super) fn services(&self) -> impl Iterator<Item = Service> {
        self.listens.iter().copied()
    }

    /// How many listens are known.
    pub(super) fn listen_count(&self) -> usize {
        self.listens.len()
    }

    /// In which epoch did it last say anything about this DVIPA?
    pub(super) fn reported_epoch(&self, dvipa: Dvipa) -> Option<Epoch> {
        self.reported.get(&dvipa).copied()
    }

    /// These applications are registered for the DVIPA, and no others. Returns for how many there is no room.
    pub(super) fn register(&mut self, dvipa: Dvipa, epoch: Epoch, applications: Vec<Application>) -> usize {
        self.applications.remove(&dvipa);
        let kept: usize = self.applications.values().map(|(_, set)| set.len()).sum();
        let mut set: BTreeSet<Application> = applications.into_iter().collect();
        let all = set.len();
        set = set.into_iter().take(MAX_APPLICATIONS.saturating_sub(kept)).collect();
        let ignored = all - set.len();
        if !set.is_empty() {
            self.applications.insert(dvipa, (epoch, set));
        }
        ignored
    }

    /// The applications registered for a service in this role.
    pub(super) fn jobs(&self, service: Service, role: Role, epoch: Epoch) -> impl Iterator<Item = &JobName> {
        let of_it = move |a: &&Application| a.port == service.port && a.role == role;
        self.applications_of(service.dvipa, epoch).filter(of_it).map(|a| &a.job)
    }

    /// The services of a DVIPA that applications are registered for.
    pub(super) fn registered(&self, dvipa: Dvipa, epoch: Epoch) -> impl Iterator<Item = Service> {
        let ports: BTreeSet<u16> = self.applications_of(dvipa, epoch).map(|a| a.port).collect();
        ports.into_iter().map(move |port| Service { dvipa, port, protocol: Protocol::Tcp })
    }

    /// What was said in another epoch is void.
    fn applications_of(&self, dvipa: Dvipa, epoch: Epoch) -> impl Iterator<Item = &Application> {
        let said = self.applications.get(&dvipa).filter(|(of, _)| *of == epoch);
        said.into_iter().flat_map(|(_, set)| set)
    }

    /// A report of its load. `true`: its weight is another one now.
    pub(super) fn report_load(&mut self, load: Load) -> bool {
        match &mut self.load {
            Some(known) => {
                let before = known.weight();
                known.report(load);
                known.weight() != before
            }
            none => {
                *none = Some(TargetLoad::new(load));
                true
            }
        }
    }

    /// Its load, if it said it.
    pub(super) fn load(&self) -> Option<&TargetLoad> {
        self.load.as_ref()
    }
}
