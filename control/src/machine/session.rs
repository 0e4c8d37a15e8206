//! One session with a stack: has it greeted, and what did it say since.

use std::collections::{BTreeMap, BTreeSet};

use model::message::Load;
use model::{Dvipa, Epoch, Protocol, Service};

use super::MAX_LISTENS;
use super::load::TargetLoad;

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
    load: Option<TargetLoad>,
    /// A complete account of connections has begun and not ended.
    pub(super) in_account: bool,
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

    /// A report of its load.
    pub(super) fn report_load(&mut self, load: Load) {
        match &mut self.load {
            Some(known) => known.report(load),
            none => *none = Some(TargetLoad::new(load)),
        }
    }

    /// Its load, if it said it.
    pub(super) fn load(&self) -> Option<&TargetLoad> {
        self.load.as_ref()
    }
}
