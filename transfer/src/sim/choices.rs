//! Everything that can happen next.

use super::Settings;
use super::kernel::Packet;
use super::node::Forwarded;
use super::world::{Choice, World};
use crate::fixture::numbered;
use crate::timers::Timer;

impl World {
    /// What can happen next. As long as a process is about to do something, only that, or its death: what others do
    /// meanwhile they could as well have done before or afterwards.
    pub(super) fn choices(&self) -> Vec<Choice> {
        for (host, state) in self.hosts.iter().enumerate() {
            if state.agent.as_ref().is_some_and(|agent| !agent.pending.is_empty()) {
                let death = self.may_die(Some(host)).then_some(Choice::KillAgent(host));
                let act = (!state.waits()).then_some(Choice::Act(host));
                let kernel = self.kernel(host).into_iter().filter(|_| act.is_none());
                return act.clone().into_iter().chain(kernel).chain(death).collect();
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
        let reopen = state.can_reopen().then_some(Choice::Reopen(host));
        let make = |(flow, packet): &(usize, Packet)| {
            [true, false].map(|made| Choice::Make { host, flow: *flow, packet: *packet, made })
        };
        state.claims.iter().flat_map(make).chain(reopen).collect()
    }

    fn network(&self) -> Vec<Choice> {
        let heard = |to: &model::StackName| match self.hosts.iter().find(|host| host.name == *to) {
            Some(host) => host.agent.is_some(),
            None => self.node.is_some(),
        };
        let mail = self.mail.iter().filter(|mail| heard(&mail.to)).map(|mail| Choice::Deliver(mail.clone()));
        // Where somebody dies, only what was under way then, or comes later, is lost, which leaves fewer orders.
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
            for (host, state) in self.hosts.iter().enumerate().filter(|(_, host)| host.slots[flow].owns()) {
                choices.push(Choice::ServerSends { flow, host });
                let unread = state.slots[flow].socket.is_some_and(|socket| socket.read < socket.received);
                if unread && state.applications[flow].is_some_and(|application| !application.waits) {
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
            for (flow, application) in state.applications.iter().enumerate() {
                let (Some(application), Some(agent)) = (application, &state.agent) else { continue };
                let settled = !agent.target.unsettled(&numbered(flow as u16)) && state.is_given(flow);
                let free = state.slots[flow].owns() && settled;
                if application.waits && self.settings.cancels {
                    choices.push(Choice::Cancel { flow, host });
                } else if free && !application.waits && self.asks < self.settings.asks {
                    for to in (0..self.hosts.len()).filter(|to| *to != host) {
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
            let source = agent.source.timers().into_iter().filter(|(_, t)| wanted(*t));
            choices.extend(source.map(|(c, t)| Choice::SourceTimer(host, c, t)));
            let target = agent.target.timers().into_iter().filter(|(_, t)| wanted(*t));
            choices.extend(target.map(|(id, t)| Choice::TargetTimer(host, id, t)));
        }
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
