//! Everything that can happen next.

use super::kernel::Packet;
use super::node::Forwarded;
use super::world::{Choice, World};
use super::{Fault, Settings};
use crate::fixture::numbered;
use crate::timers::Timer;

impl World {
    /// What can happen next. As long as a process is about to do something, only that, or its death: what others do
    /// meanwhile they could as well have done before or afterwards.
    pub(super) fn choices(&self) -> Vec<Choice> {
        for (host, state) in self.hosts.iter().enumerate() {
            if state.is_busy(self.now) {
                let mut choices = vec![Choice::Act(host)];
                if self.may_die(Some(host)) {
                    choices.push(Choice::KillAgent(host));
                    choices.extend((1..state.calls(self.now)).map(|calls| Choice::ActAndDie(host, calls)));
                }
                return choices;
            }
        }
        if self.node.as_ref().is_some_and(|node| !node.pending.is_empty()) {
            let death = self.may_die(None).then_some(Choice::KillNode);
            return [Choice::NodeActs].into_iter().chain(death).collect();
        }
        let mut choices = self.network();
        choices.extend((0..self.hosts.len()).flat_map(|host| self.kernel(host)));
        choices.extend(self.streams());
        choices.extend(self.wishes());
        choices.extend(self.timers());
        choices.extend(self.deaths());
        choices
    }

    /// What a host's kernel has begun, or its agent sees that it has ended.
    fn kernel(&self, host: usize) -> Vec<Choice> {
        let state = &self.hosts[host];
        let Some(agent) = &state.agent else { return Vec::new() };
        let claimed = state.kernel.is_claimed_somewhere() && agent.machine.can_see_claims();
        let shared = self.settings.fault == Some(Fault::SharedClaim);
        let sees = (claimed && (shared || state.kernel.claims.is_empty())).then_some(Choice::SeeClaims(host));
        let process = &state.kernel.process;
        let awaits = process.awaits.is_some() && process.awaited.is_disjoint(&state.kernel.claims);
        let through = awaits.then_some(Choice::Through(host));
        let make = |(flow, packet): &(usize, Packet)| {
            [true, false].map(|made| Choice::Make { host, flow: *flow, packet: *packet, made })
        };
        state.kernel.claims.iter().flat_map(make).chain(sees).chain(through).collect()
    }

    fn network(&self) -> Vec<Choice> {
        let heard = |to: &model::StackName| match self.hosts.iter().find(|host| host.name == *to) {
            Some(host) => host.agent.is_some(),
            None => self.node.is_some(),
        };
        let mail = self.mail.iter().filter(|mail| heard(&mail.to)).map(|mail| Choice::Deliver(mail.clone()));
        // Where a process dies, only what was under way then, or comes later, is lost, which leaves fewer orders.
        let Settings { copies, outlives, kills, .. } = self.settings;
        let lost = !copies && (outlives || self.kills == kills);
        let lose = self.mail.iter().filter(|_| lost).map(|mail| Choice::Lose(mail.clone()));
        let arrive = self.packets.iter().map(|packet: &Forwarded| Choice::Arrive(*packet));
        let miss = self.packets.iter().map(|packet| Choice::Miss(*packet));
        mail.chain(lose).chain(arrive).chain(miss).collect()
    }

    pub(super) fn streams(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (flow, client) in self.clients.iter().enumerate() {
            if self.packets.len() < self.settings.packets {
                let window = client.acknowledged..self.settings.bytes.min(client.acknowledged + 2);
                choices.extend(window.map(|byte| Choice::ClientSends { flow, byte: Some(byte) }));
                choices.push(Choice::ClientSends { flow, byte: None });
            }
            for (host, state) in
                self.hosts.iter().enumerate().filter(|(_, host)| host.kernel.slots[flow].owns())
            {
                choices.push(Choice::ServerSends { flow, host });
                if state.kernel.can_serve(flow) {
                    choices.push(Choice::Serve { flow, host });
                }
            }
        }
        choices
    }

    fn wishes(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (host, state) in self.hosts.iter().enumerate() {
            for transfer in state.offers() {
                if self.settings.answers {
                    choices.extend([true, false].map(|accept| Choice::Answer { host, transfer, accept }));
                }
                choices.extend(self.settings.quits.then_some(Choice::Quit { host, transfer }));
            }
            for (flow, application) in state.kernel.applications.iter().enumerate() {
                if state.kernel.slots[flow].socket.is_some_and(|socket| socket.in_flight) {
                    choices.push(Choice::Receive { flow, host });
                    continue;
                }
                let (Some(application), Some(agent)) = (application, &state.agent) else { continue };
                let connection = numbered(flow);
                let settled = !agent.moving.contains(&connection) && state.kernel.is_given(flow);
                // An application asks when it owes no answer; an operator at any time.
                let owes = state.kernel.slots[flow].socket.is_some_and(|socket| socket.read > socket.written);
                let free = state.kernel.slots[flow].owns()
                    && state.kernel.is_the_applications(flow)
                    && settled
                    && !agent.machine.is_leaving(&connection)
                    && (state.kernel.listener || !owes);
                if application.claims {
                    choices.push(Choice::Claim { flow, host });
                } else if application.asks_again {
                    choices.push(Choice::Resume { flow, host });
                } else if application.waits && self.settings.cancels {
                    choices.push(Choice::Cancel { flow, host });
                } else if free && !application.waits && self.asks < self.settings.asks {
                    for to in (0..self.hosts.len()).filter(|to| *to != host) {
                        if state.kernel.listener {
                            choices.push(Choice::Order { flow, from: host, to });
                            continue;
                        }
                        for gives_last in [false].into_iter().chain(self.settings.gives_last.then_some(true))
                        {
                            choices.push(Choice::Ask { flow, from: host, to, gives_last });
                        }
                    }
                }
            }
        }
        choices
    }

    pub(super) fn timers(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        let early = self.settings.copies || self.mail.is_empty();
        let wanted = |timer: Timer| match timer {
            Timer::Repeat => early,
            Timer::Patience => self.settings.impatient,
        };
        for (host, state) in self.hosts.iter().enumerate() {
            let Some(agent) = &state.agent else { continue };
            let source = agent.machine.source_timers().into_iter().filter(|(_, t)| wanted(*t));
            choices.extend(source.map(|(c, t)| Choice::SourceTimer(host, c, t)));
            let looked_at = (0..self.clients.len()).filter(|f| agent.machine.settles(&numbered(*f)));
            choices.extend(looked_at.map(|flow| Choice::Look { host, flow }));
            let target = agent.machine.target_timers().into_iter().filter(|(_, t)| wanted(*t));
            choices.extend(target.map(|(id, t)| Choice::TargetTimer(host, id, t)));
        }
        let waits = |host: &super::host::Host| {
            host.agent.as_ref().is_some_and(|a| a.machine.waits_for_time(self.now))
        };
        // What the kernel forgets by itself it forgets on a walk only: time has no end.
        let forgets = |host: &super::host::Host| host.kernel.slots.iter().any(|slot| slot.shut.is_some());
        let passes = self.hosts.iter().any(waits) || self.settings.copies && self.hosts.iter().any(forgets);
        choices.extend(passes.then_some(Choice::Tick));
        let doubts = self.hosts.iter().any(|host| !host.kernel.leaving.is_empty());
        choices.extend((doubts && self.settings.waits).then_some(Choice::Wait));
        if let Some(node) = &self.node {
            let node = node.machine.timers().into_iter().filter(|(_, t)| wanted(*t));
            choices.extend(node.map(|(id, t)| Choice::NodeTimer(id, t)));
        }
        choices
    }

    /// May this process die: a host's agent, or the routing node?
    fn may_die(&self, process: Option<usize>) -> bool {
        self.kills < self.settings.kills && self.settings.mortal.is_none_or(|only| only == process)
    }

    fn deaths(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (host, state) in self.hosts.iter().enumerate() {
            match &state.agent {
                None => choices.push(Choice::StartAgent(host)),
                Some(_) => {
                    if self.may_die(Some(host)) {
                        choices.push(Choice::KillAgent(host));
                    }
                    match (self.sessions[host], &self.node) {
                        (false, Some(_)) => choices.push(Choice::Session(host)),
                        (true, Some(_)) if self.settings.breaks => choices.push(Choice::Break(host)),
                        (false | true, _) => {}
                    }
                }
            }
            if self.settings.hosts_crash && self.may_die(Some(host)) {
                choices.push(Choice::CrashHost(host));
            }
        }
        match &self.node {
            None => choices.push(Choice::StartNode),
            Some(_) if self.may_die(None) => choices.push(Choice::KillNode),
            Some(_) => {}
        }
        choices
    }
}
