//! A routing node and a witness, each a process on a host with a clock and a disk, that is killed, stopped and started again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use model::{Dvipa, Epoch, StackName};

use super::clock::{Clock, Nanos};
use super::{Fault, Judge, Settings};
use crate::etcd::{Leases, News};
use crate::{Decider, Kept, Ownership, Tenures, Witness};

/// What a stopped process has not read yet.
pub(super) type Inbox<M> = VecDeque<(usize, M)>;

/// What a node hears.
#[derive(Debug)]
pub(super) enum Mail {
    Witness(usize, model::ownership::FromWitness),
    Etcd(News),
}

/// A routing node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) clock: Clock,
    /// `None`: it is down.
    pub(super) tenures: Option<Box<dyn Ownership>>,
    /// It does nothing until then.
    pub(super) stopped: Option<Nanos>,
    pub(super) inbox: VecDeque<Mail>,
    /// What rank, liveness and operators have it want.
    pub(super) wants: BTreeSet<Dvipa>,
    pub(super) worker: Worker,
    pub(super) run: u64,
    disk: Epoch,
}

/// What the workers of a node know.
#[derive(Debug, Default)]
pub(super) struct Worker {
    /// The table that the control thread has published.
    pub(super) owned: BTreeMap<Dvipa, Epoch>,
    /// The word that it stores.
    pub(super) fence: Option<Instant>,
    /// For a fault: they do not read it.
    pub(super) fence_is_void: bool,
}

impl Worker {
    /// In which epoch a worker forwards as the DVIPA's owner at this time.
    pub(super) fn forwards(&self, dvipa: Dvipa, now: Instant) -> Option<Epoch> {
        let epoch = self.owned.get(&dvipa).copied();
        epoch.filter(|_| self.fence_is_void || self.fence.is_some_and(|fence| now < fence))
    }
}

impl Node {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            tenures: None,
            stopped: None,
            inbox: VecDeque::new(),
            wants: BTreeSet::new(),
            worker: Worker::default(),
            run: 0,
            disk: Epoch(0),
        }
    }

    pub(super) fn start(&mut self, settings: &Settings, run: u64, now: Nanos) {
        let mut tenures: Box<dyn Ownership> = match settings.judge {
            Judge::Witnesses => {
                let names: BTreeSet<StackName> = (0..settings.witnesses).map(witness_name).collect();
                let decider = Decider::Witnesses { names, lease: settings.lease };
                let mut tenures = Tenures::new(crate::Settings { run, above: self.disk, decider });
                if settings.fault == Some(Fault::OneWitnessLess) {
                    tenures.one_witness_less();
                }
                Box::new(tenures)
            }
            Judge::Etcd => {
                let mut leases = Leases::new(self.disk, settings.lease);
                leases.faults.takes_every_term = settings.fault == Some(Fault::TakesEveryTerm);
                Box::new(leases)
            }
        };
        if settings.fault == Some(Fault::NoMargin) {
            tenures.without_margin();
        }
        let at = self.clock.at(now);
        for witness in 0..settings.witnesses {
            tenures.session(&witness_name(witness), true, at);
        }
        self.wants.iter().for_each(|dvipa| tenures.want(*dvipa, true, at));
        self.run = run;
        self.tenures = Some(tenures);
    }

    pub(super) fn kill(&mut self) {
        self.tenures = None;
        self.stopped = None;
        self.inbox.clear();
        self.worker = Worker::default();
    }

    pub(super) fn keep(&mut self, epoch: Epoch) {
        self.disk = epoch;
    }

    /// When it has something to do by itself.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let tenures = self.tenures.as_ref().filter(|_| self.stopped.is_none())?;
        tenures.next_deadline().map(|at| self.clock.when(at))
    }
}

/// A witness.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) clock: Clock,
    /// `None`: it is down.
    pub(super) witness: Option<Witness>,
    pub(super) stopped: Option<Nanos>,
    pub(super) inbox: Inbox<model::ownership::ToWitness>,
    disk: Kept,
}

impl Host {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, witness: None, stopped: None, inbox: VecDeque::new(), disk: Kept::default() }
    }

    pub(super) fn start(&mut self, settings: &Settings, now: Nanos) {
        let mut kept = self.disk;
        match settings.fault {
            Some(Fault::LeasesAtOnce) => kept.lease = std::time::Duration::ZERO,
            Some(Fault::ForgetsEpochs) => kept.epoch = Epoch(0),
            _ => {}
        }
        self.witness = Some(Witness::new(kept, self.clock.at(now)));
    }

    pub(super) fn kill(&mut self) {
        self.witness = None;
        self.stopped = None;
        self.inbox.clear();
    }

    pub(super) fn keep(&mut self, kept: Kept) {
        self.disk = kept;
    }

    pub(super) fn deadline(&self) -> Option<Nanos> {
        let witness = self.witness.as_ref().filter(|_| self.stopped.is_none())?;
        witness.next_deadline().map(|at| self.clock.when(at))
    }
}

pub(super) fn witness_name(place: usize) -> StackName {
    StackName::new(format!("w{place}")).expect("a name")
}

pub(super) fn node_name(place: usize) -> StackName {
    StackName::new(format!("n{place}")).expect("a name")
}
