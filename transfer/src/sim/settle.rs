//! When the faults have ended: does everything come to a good end?

use std::time::Duration;

use super::process::Application;
use super::world::{Choice, World};

/// Rounds after which a world that has not settled never will.
const ROUNDS: usize = 60;
/// Rounds without patience ending: what is only slow gets its time.
const CALM: usize = 4;

impl World {
    /// Runs on without further faults until nothing is left to do.
    ///
    /// # Errors
    /// What has not come to a good end: a connection with no owner or two, a stream that stops, something left behind.
    pub(super) fn settle(&self) -> Result<(), String> {
        let mut world = self.clone();
        world.settings.asks = 0;
        let mut wrong = String::new();
        for round in 0..ROUNDS {
            world.round(round % CALM == CALM - 1);
            if let Some(wrong) = world.wrong {
                return Err(wrong);
            }
            match world.is_settled() {
                Ok(()) => return Ok(()),
                Err(unsettled) => wrong = unsettled,
            }
        }
        Err(format!("does not settle: {wrong}"))
    }

    /// Everybody does once what he can.
    fn round(&mut self, patience_ends: bool) {
        self.run_deeds();
        for choice in self.restarts() {
            self.apply(&choice);
            self.run_deeds();
        }
        for mail in std::mem::take(&mut self.mail) {
            self.apply(&Choice::Deliver(mail));
            self.run_deeds();
        }
        for host in 0..self.hosts.len() {
            let answers = self.settings.answers;
            for transfer in self.hosts[host].offers().into_iter().filter(|_| answers) {
                self.apply(&Choice::Answer { host, transfer, accept: true });
                self.run_deeds();
            }
        }
        for (host, flow) in self.applications(|_| true) {
            self.apply(&Choice::Receive { flow, host });
            self.run_deeds();
        }
        for (host, flow) in self.applications(|application| application.claims) {
            self.apply(&Choice::Claim { flow, host });
            self.run_deeds();
        }
        for (host, flow) in self.applications(|application| application.asks_again) {
            self.apply(&Choice::Resume { flow, host });
            self.run_deeds();
        }
        self.talk();
        self.apply(&Choice::Tick);
        let now = self.now;
        self.hosts.iter_mut().for_each(|host| host.with(|machine, kernel| machine.time_passed(kernel, now)));
        self.run_deeds();
        if patience_ends {
            let later = self.now + Duration::from_secs(60);
            for host in &mut self.hosts {
                host.with(|machine, kernel| machine.sweep(kernel, later));
            }
        }
        self.settings.impatient = patience_ends;
        for choice in self.timers() {
            self.apply(&choice);
            self.run_deeds();
        }
    }

    /// Where such applications are, and of which connections.
    fn applications(&self, is_such: impl Fn(&Application) -> bool) -> Vec<(usize, usize)> {
        let of = |(at, host): (usize, &super::host::Host)| {
            let flows = host.kernel.applications.iter().enumerate();
            let such = flows.filter(|(_, application)| application.as_ref().is_some_and(&is_such));
            such.map(|(flow, _)| (at, flow)).collect::<Vec<_>>()
        };
        self.hosts.iter().enumerate().flat_map(of).collect()
    }

    fn restarts(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        if self.node.is_none() {
            choices.push(Choice::StartNode);
        }
        for (host, state) in self.hosts.iter().enumerate() {
            if state.agent.is_none() {
                choices.push(Choice::StartAgent(host));
            }
            if !self.sessions[host] || self.node.is_none() {
                choices.push(Choice::Session(host));
            }
        }
        choices
    }

    /// Clients send, packets arrive, applications answer, hosts send.
    fn talk(&mut self) {
        for host in 0..self.hosts.len() {
            let kernel = &self.hosts[host].kernel;
            if kernel.is_claimed_somewhere() && kernel.claims.is_empty() {
                self.apply(&Choice::SeeClaims(host));
                self.run_deeds();
            }
        }
        for flow in 0..self.clients.len() {
            let client = self.clients[flow];
            let next = (client.acknowledged < self.settings.bytes).then_some(client.acknowledged);
            self.apply(&Choice::ClientSends { flow, byte: next });
        }
        for packet in std::mem::take(&mut self.packets) {
            self.apply(&Choice::Arrive(packet));
            self.run_deeds();
        }
        for choice in self.streams() {
            if !matches!(choice, Choice::ClientSends { .. }) {
                self.apply(&choice);
            }
        }
    }

    fn is_settled(&self) -> Result<(), String> {
        for (flow, client) in self.clients.iter().enumerate() {
            let owners: Vec<_> =
                (0..self.hosts.len()).filter(|h| self.hosts[*h].kernel.slots[flow].owns()).collect();
            let entry = self.node.as_ref().and_then(|node| node.crt[flow].as_ref());
            match owners.as_slice() {
                [] if self.may_be_lost[flow] => {}
                [owner] => {
                    let done =
                        client.acknowledged == self.settings.bytes && client.received == self.settings.bytes;
                    // A packet to a host that died may have taken what it acknowledged along.
                    if !done && !self.may_be_lost[flow] {
                        return Err(format!(
                            "connection {flow}: {client:?} at {:?}, {entry:?}, under way {:?}",
                            self.hosts[*owner], self.packets
                        ));
                    }
                    let points = entry.is_some_and(|e| e.owner == *owner && !e.frozen && e.handoff.is_none());
                    if !points && !self.given_up[flow] {
                        return Err(format!("connection {flow}: it is at {owner}, the CRT says {entry:?}"));
                    }
                }
                owners => return Err(format!("connection {flow}: its owners are {owners:?}")),
            }
            if entry.is_some_and(|entry| entry.frozen) {
                return Err(format!("connection {flow}: frozen for ever"));
            }
        }
        if let Some(host) = self.hosts.iter().find(|host| !host.is_quiet(self.now)) {
            return Err(format!("something is left at {}: {host:?}", host.name));
        }
        match &self.node {
            Some(node) if node.machine.next_deadline().is_none() => Ok(()),
            node => Err(format!("something is left at the routing node: {node:?}")),
        }
    }
}
