//! One session with a stack: what it said in it. Where another one takes its place, what it said last of listens and applications holds
//! until it is said anew: an agent that begins again costs no connection.

use std::collections::{BTreeMap, BTreeSet};

use model::control_socket::JobName;
use model::control_socket::request::Role;
use model::message::{Application, Load, Stalled};
use model::transfer::{Done, TransferId};
use model::{Dvipa, Epoch, Protocol, Service};

use super::load::TargetLoad;
use super::looks::Look;
use super::{MAX_APPLICATIONS, MAX_LISTENS};

/// The most of what a stack says of an application that fails, in characters.
const LONGEST_WHY: usize = 200;

/// What a stack said in this session. Ends with it.
#[derive(Debug, Default)]
pub(super) struct Said {
    listens: BTreeSet<Service>,
    /// Services that are served there to nobody.
    unfit: BTreeMap<Service, Unfit>,
    reported: BTreeMap<Dvipa, Epoch>,
    applications: BTreeMap<Dvipa, (Epoch, BTreeSet<Application>)>,
    load: Option<TargetLoad>,
    /// How many of its connections are only kept open, and how many others it has to DVIPAs that are not this stack's.
    pub(super) kept: Option<(u32, u32)>,
    /// A complete account of connections has begun and not ended.
    pub(super) in_account: bool,
    /// One has ended: what connections the stack has is known.
    pub(super) accounted: bool,
    /// Which VIPA list the stack was sent; 0: none.
    pub(super) list_generation: u64,
    /// Up to which number of changes it was heard in this session.
    heard: u64,
    /// The ends of transfers count when it was heard up to this number.
    after: u64,
    early: BTreeMap<TransferId, Done>,
    /// How far it has looked.
    pub(super) look: Look,
    /// DVIPAs whose applications are as the former session had them.
    former: BTreeSet<Dvipa>,
}

/// What is wrong with an application that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It accepts none of the clients that wait.
    Stalled,
    /// It does not answer as it should.
    Failing {
        /// What was seen of it.
        why: String,
    },
}

impl Unfit {
    /// A peer says why: so much of that is kept, and nothing that a terminal obeys.
    fn failing(why: &str) -> Self {
        let why = why.chars().filter(|c| !c.is_control()).take(LONGEST_WHY).collect();
        Unfit::Failing { why }
    }
}

impl Said {
    /// What the session begins with that takes the place of this one.
    pub(super) fn successor(self) -> Self {
        let Self { listens, applications, .. } = self;
        let former = applications.keys().copied().collect();
        Self { listens, applications, former, ..Self::default() }
    }

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
        self.unfit.retain(|service, _| service.dvipa != dvipa);
    }

    /// These services of a DVIPA are served to nobody, and no others. Returns those that were served, or unfit in another way, before; with
    /// what they were.
    pub(super) fn stall(&mut self, dvipa: Dvipa, said: &Stalled) -> Vec<(Service, Option<Unfit>)> {
        let service = |protocol, port| Service { dvipa, port, protocol };
        let stalled = said.ports.iter().map(|port| (service(Protocol::Tcp, *port), Unfit::Stalled));
        let failing = said.failing.iter().flatten();
        let failing = failing.map(|one| (service(one.protocol, one.port), Unfit::failing(&one.why)));
        let now: BTreeMap<Service, Unfit> =
            stalled.chain(failing).filter(|(s, _)| self.listens.contains(s)).collect();
        let (before, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.unfit).into_iter().partition(|(service, _)| service.dvipa == dvipa);
        let kind = |unfit: Option<&Unfit>| unfit.map(std::mem::discriminant);
        let all: BTreeSet<Service> = before.keys().chain(now.keys()).copied().collect();
        let news = all.into_iter().filter(|service| kind(before.get(service)) != kind(now.get(service)));
        let news = news.map(|service| (service, before.get(&service).cloned())).collect();
        self.unfit = others.into_iter().chain(now).collect();
        news
    }

    /// What is wrong with the application that listens, if anything.
    pub(super) fn unfit(&self, service: Service) -> Option<&Unfit> {
        self.unfit.get(&service)
    }

    /// It has said all that it has to say at the beginning of the session: applications that it has not named are no more. `true`:
    /// there were some.
    pub(super) fn end_former(&mut self) -> bool {
        let former = std::mem::take(&mut self.former);
        former.iter().for_each(|dvipa| drop(self.applications.remove(dvipa)));
        !former.is_empty()
    }

    /// Something was said about this DVIPA, if only that nothing listens. `true`: for the first time in this epoch.
    pub(super) fn mark_reported(&mut self, dvipa: Dvipa, epoch: Epoch) -> bool {
        self.reported.insert(dvipa, epoch) != Some(epoch)
    }

    /// What was said of a DVIPA goes on to be true in another epoch.
    pub(super) fn carry(&mut self, dvipa: Dvipa, to: Epoch) {
        if let Some(epoch) = self.reported.get_mut(&dvipa) {
            *epoch = to;
        }
        if let Some((epoch, _)) = self.applications.get_mut(&dvipa) {
            *epoch = to;
        }
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
        self.former.remove(&dvipa);
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

    /// The DVIPAs that applications have registered for.
    pub(super) fn registered_dvipas(&self) -> impl Iterator<Item = Dvipa> {
        self.applications.keys().copied()
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

    /// The ends of transfers that come in now count when it was heard up to this number.
    pub(super) fn put_after(&mut self, number: u64) {
        self.after = self.after.max(number);
    }

    /// Keeps the end of a transfer if it came too early. There is one for each transfer under way.
    pub(super) fn keep_until_heard(&mut self, done: Done) -> bool {
        let early = self.heard < self.after;
        if early {
            self.early.insert(done.about.transfer, done);
        }
        early
    }

    /// It was heard up to this number; returns the ends that count now.
    pub(super) fn hear(&mut self, number: u64) -> Vec<Done> {
        self.heard = self.heard.max(number);
        if self.heard < self.after {
            Vec::new()
        } else {
            std::mem::take(&mut self.early).into_values().collect()
        }
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
