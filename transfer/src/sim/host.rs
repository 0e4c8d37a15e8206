//! A host: the machine that agents run ([`crate::Host`]), over a kernel, notes and applications that outlive it.
//!
//! The application reads the client's bytes in order and answers each with one byte. Its only state is how many it has
//! answered; it moves along, so that an application that is woken with stale state shows at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use model::control_socket::RequestId;
use model::transfer::{Abilities, About, FromHost, Ledger, TransferId, Way};
use model::{Connection, StackName};

use super::hands::SimKernel;
use super::kernel::Slot;
use super::process::{Noted, Process};
use super::{Fault, Settings};
use crate::fixture::stack;
use crate::host::{ApplicationId, Kernel, Standing as Rests};
use crate::taking::{self, Standing};
use crate::{Host as Machine, giving, limits};

/// What ends with the agent's process.
#[derive(Clone, Debug, Hash)]
pub(super) struct Agent {
    pub(super) machine: Machine,
    /// Connections that are moving: no account tells of them.
    pub(super) moving: BTreeSet<Connection>,
}

/// The host.
#[derive(Clone, Debug, Hash)]
pub(super) struct Host {
    pub(super) name: StackName,
    pub(super) agent: Option<Agent>,
    pub(super) kernel: SimKernel,
}

/// An application's request about this connection.
pub(super) fn request(flow: usize) -> (ApplicationId, RequestId) {
    (ApplicationId(flow as u64), RequestId(1))
}

impl Host {
    pub(super) fn new(index: usize, settings: Settings, now: Instant) -> Self {
        let number = index as u64 + 1;
        let kernel = SimKernel {
            fault: settings.fault,
            incarnation: 1000 * number,
            ledger: 10 * number,
            listener: settings.listeners.contains(&index),
            room: settings.room,
            shut_room: settings.shut_room,
            slow: settings.slow,
            clock: now,
            slots: vec![Slot::default(); settings.flows],
            applications: vec![None; settings.flows],
            leaving: Vec::new(),
            noted: BTreeMap::new(),
            admissions: BTreeMap::new(),
            claims: BTreeSet::new(),
            // Random in truth: no two admissions have the same.
            token: 1000 * number,
            unread: BTreeMap::new(),
            process: Process::default(),
        };
        let mut host = Self { name: stack(&format!("t{number}")), agent: None, kernel };
        host.start(now);
        host
    }

    /// The agent's process begins, and reads what its predecessor noted.
    pub(super) fn start(&mut self, now: Instant) {
        let kernel = &mut self.kernel;
        if kernel.fault != Some(Fault::RunsAlike) {
            kernel.incarnation += 1;
        }
        let abilities = Abilities {
            ledger: Ledger(kernel.ledger),
            restores: !kernel.listener,
            injects: kernel.listener,
            incarnation: kernel.incarnation,
        };
        let mut machine = Machine::new(abilities, now);
        machine.inherit(kernel.left(now), kernel, now);
        self.agent = Some(Agent { machine, moving: BTreeSet::new() });
    }

    /// The agent's process dies. The flows whose socket died with it and told the client.
    pub(super) fn kill(&mut self) -> Vec<usize> {
        self.agent = None;
        let kernel = &mut self.kernel;
        kernel.process = Process::default();
        let told = |(flow, slot): (usize, &mut Slot)| slot.agent_died().then_some(flow);
        let told = kernel.slots.iter_mut().enumerate().filter_map(told).collect();
        // An application that asked on a control socket, or was given a silent descriptor there, learns that it is closed, and asks the next
        // agent, if it has a descriptor still.
        for (flow, application) in kernel.applications.iter_mut().enumerate() {
            if kernel.slots[flow].socket.is_none_or(|socket| !socket.is_an_applications()) {
                *application = None;
            } else if let Some(application) = application.as_mut() {
                application.claims = application.untold;
                application.asks_again |= application.waits && !kernel.listener;
                application.waits &= !kernel.listener;
            }
        }
        told
    }

    /// The host dies with everything and comes back empty.
    pub(super) fn crash(&mut self) {
        self.agent = None;
        let kernel = &mut self.kernel;
        kernel.process = Process::default();
        kernel.ledger += 1;
        kernel.slots.fill(Slot::default());
        kernel.applications.fill(None);
        kernel.leaving.clear();
        kernel.admissions.clear();
        kernel.claims.clear();
        kernel.unread.clear();
        kernel.noted.clear();
    }

    /// Has the machine do something.
    pub(super) fn with(&mut self, deed: impl FnOnce(&mut Machine, &mut SimKernel)) {
        if let Some(agent) = &mut self.agent {
            deed(&mut agent.machine, &mut self.kernel);
        }
    }

    /// Whether the agent is about to do something.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        let news = self.kernel.process.made || !self.kernel.process.passed.is_empty();
        self.agent.as_ref().is_some_and(|agent| news || agent.machine.is_busy(now))
    }

    /// The agent does the next thing, and dies after so many calls of its kernel. What it has sent.
    pub(super) fn act(&mut self, fuse: Option<usize>, now: Instant) -> Vec<(StackName, FromHost)> {
        let process = &mut self.kernel.process;
        (process.calls, process.fuse) = (0, fuse);
        if let Some(agent) = &mut self.agent {
            if let Some(transfer) = process.passed.pop_front() {
                agent.machine.passed(transfer, now);
            } else if std::mem::take(&mut process.made) {
                agent.machine.look_for_made(&mut self.kernel, now);
            } else {
                agent.machine.step(&mut self.kernel, now);
            }
        }
        self.kernel.process.fuse = None;
        std::mem::take(&mut self.kernel.process.sent)
    }

    /// Sees which connections move now; which of those that do no longer are this host's, so that it tells of them.
    pub(super) fn rested(&mut self) -> Vec<Connection> {
        let Some(agent) = &mut self.agent else { return Vec::new() };
        let mut ours = Vec::new();
        for (connection, standing) in agent.machine.take_touched() {
            if standing == Rests::Moves {
                agent.moving.insert(connection);
                continue;
            }
            agent.moving.remove(&connection);
            ours.extend((standing == Rests::Ours).then_some(connection));
        }
        ours
    }

    /// How many calls its next deed makes: it may die between any two.
    pub(super) fn calls(&self, now: Instant) -> usize {
        let mut host = self.clone();
        host.act(None, now);
        host.kernel.process.calls
    }

    /// The offers that wait for an answer.
    pub(super) fn offers(&self) -> BTreeSet<TransferId> {
        self.kernel.process.offers.keys().copied().collect()
    }

    /// The application answers an offer, or (`None`) ends while it thinks about it.
    pub(super) fn answer(&mut self, transfer: TransferId, accept: Option<bool>, now: Instant) {
        self.kernel.process.offers.remove(&transfer);
        self.with(|machine, _| match accept {
            Some(true) => machine.accepted(transfer, now),
            Some(false) => machine.rejected(transfer, String::new(), now),
            None => machine.application_gone(transfer, now),
        });
    }

    /// Nothing of a transfer is left here. What was barred or shut stays for as long as a packet may live.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        let kernel = &self.kernel;
        let noted = |(_, noted): &(taking::Note, Noted)| *noted != Noted::Stands(Standing::Barred);
        let repair = |slot: &Slot| slot.socket.is_some_and(|s| s.repair && s.by_agent);
        let rests = self.agent.as_ref().is_some_and(|agent| agent.machine.rests());
        rests
            && !self.is_busy(now)
            && kernel.process.offers.is_empty()
            && kernel.unread.is_empty()
            && kernel.leaving.is_empty()
            && !kernel.noted.values().any(noted)
            && !kernel.slots.iter().any(repair)
    }
}

/// Faults for the tests of the tests.
impl Host {
    /// The source freezes what its application asks for.
    pub(super) fn source_freezes(&mut self, About { connection, transfer, .. }: About) {
        let (connection, target, ledger) = (connection.0, self.name.clone(), Ledger(self.kernel.ledger));
        let note = giving::Note { connection, transfer, target, ledger, way: Way::Restore };
        self.kernel.leaving.push((note, super::now() + limits::IN_DOUBT));
    }

    /// The source thaws because time has passed.
    pub(super) fn source_thaws(&mut self, connection: Connection) {
        self.kernel.let_flow(&connection);
        self.kernel.thaw(&connection);
    }
}
