//! A routing node and a witness, each a process on a host with a clock and a disk, that is killed, stopped and started again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use histories::{Clock, Nanos};
use model::{Dvipa, Epoch, StackName};

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

/// A node's machine, of who decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Machine {
    Tenures(Tenures),
    Leases(Leases),
}

impl Machine {
    /// With the fault that is built in.
    pub(super) fn new(settings: &Settings, run: u64, above: Epoch) -> Self {
        let &Settings { witnesses, lease, judge, fault, .. } = settings;
        let mut machine = match judge {
            Judge::Witnesses => {
                let decider = Decider::Witnesses { names: (0..witnesses).map(witness_name).collect(), lease };
                let mut tenures = Tenures::new(crate::Settings { run, above, decider });
                if fault == Some(Fault::OneWitnessLess) {
                    tenures.one_witness_less();
                }
                Self::Tenures(tenures)
            }
            Judge::Etcd => {
                let mut leases = Leases::new(above, lease);
                leases.faults.takes_every_term = fault == Some(Fault::TakesEveryTerm);
                Self::Leases(leases)
            }
        };
        if fault == Some(Fault::NoMargin) {
            machine.without_margin();
        }
        machine
    }
}

impl Deref for Machine {
    type Target = dyn Ownership;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Tenures(tenures) => tenures,
            Self::Leases(leases) => leases,
        }
    }
}

impl DerefMut for Machine {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Tenures(tenures) => tenures,
            Self::Leases(leases) => leases,
        }
    }
}

/// What a witness that begins anew has of its disk.
pub(super) fn remembers(disk: Kept, fault: Option<Fault>) -> Kept {
    match fault {
        Some(Fault::LeasesAtOnce) => Kept { lease: Duration::ZERO, ..disk },
        Some(Fault::ForgetsEpochs) => Kept { epoch: Epoch(0), ..disk },
        _ => disk,
    }
}

/// A routing node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) clock: Clock,
    /// `None`: it is down.
    pub(super) tenures: Option<Machine>,
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
        let mut tenures = Machine::new(settings, run, self.disk);
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
        self.witness = Some(Witness::new(remembers(self.disk, settings.fault), self.clock.at(now)));
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
