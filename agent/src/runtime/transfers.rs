//! Joins the transfers with the rest of the agent.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;
use model::StackName;
use model::message::{FromStack, ToStack};
use model::transfer::{FromHost, FromSource};
use transfer::host::Standing;
use transport::SendError;

use super::Agent;
use crate::control_socket::Event as AsksTo;
use crate::machine::Event;
use crate::rights;
use crate::system::programs::Programs;
use crate::transfers::{Kernel, News};

impl Agent {
    /// Takes in what applications ask, and what else the transfers waited for.
    pub(super) fn hear(&mut self, news: News) {
        self.standings_changed |= matches!(&news, News::Application(_, event) if event.is_of_registrations());
        if let News::Application(application, AsksTo::Register(request, wanted, _)) = &news
            && let Some((why, detail)) = self.machine.objection(wanted.role, wanted.dvipa, &wanted.ports)
        {
            return self.transfers.refuse_registration(*application, *request, why, detail);
        }
        let kernel = kernel(&self.programs, &self.dvipas);
        self.transfers.hear(news, kernel, Instant::now());
    }

    pub(super) fn transfers_due(&mut self) {
        let kernel = kernel(&self.programs, &self.dvipas);
        self.transfers.time_passed(kernel, Instant::now());
    }

    /// Takes in a routing stack's message. What the stack may not say is counted, and that is all.
    pub(super) fn heard(&mut self, from: StackName, message: ToStack) {
        // A list that came just before may name another owner.
        if std::mem::take(&mut self.standings_changed) {
            self.tell_standings();
        }
        if let Err(wrong) = rights::judge(&from, &message, |dvipa| self.transfers.owner(dvipa)) {
            return self.refused.add(&from, message.word(), wrong);
        }
        match message {
            ToStack::Ranges(mut ranges) => {
                if let Err(wrong) = rights::cut_ranges(&mut ranges, self.networks_of(&from)) {
                    self.refused.add(&from, "Ranges", wrong);
                }
                self.tell(Event::Ranges(from, ranges));
            }
            ToStack::Activate(order) => self.tell(Event::Activate(from, order)),
            ToStack::VipaList(mut list) => {
                let networks = self.networks_of(&from);
                if let Err(wrong) = rights::cut(&mut list, networks) {
                    self.refused.add(&from, "a VIPA list", wrong);
                }
                self.standings_changed = true;
                self.tell(Event::Listed(from, list));
            }
            ToStack::Heard(heard) => self.tell(Event::Heard(from, heard.number)),
            ToStack::Asked(asked) => self.asked.push((from, asked.number)),
            ToStack::Ownership(message) => {
                let stack = self.config.routing_stacks.iter().find(|stack| stack.name == from);
                let networks = stack.and_then(|stack| stack.dvipas.as_deref());
                if let Err(wrong) = self.witness.heard(&from, message, networks, Instant::now()) {
                    self.refused.add(&from, "Claims", wrong);
                }
            }
            ToStack::Transfer(message) => self.transfers.message(from, message, Instant::now()),
            ToStack::Targets(targets) => self.transfers.targets(&from, targets),
            ToStack::Say(say) => self.transfers.said(say),
            ToStack::Chosen(chosen) => self.transfers.chosen(&from, chosen),
            ToStack::Views(views) => self.transfers.viewed(&from, views, Instant::now()),
            ToStack::Move(order) => self.transfers.ordered(order),
            ToStack::PortsGranted(granted) => self.ports_granted(&from, &granted),
            ToStack::TokensWanted(_) => self.tokens_wanted(&from),
        }
    }

    /// The DVIPAs that agent.toml leaves to a routing stack; none: all.
    fn networks_of(&self, stack: &StackName) -> Option<&[IpNet]> {
        self.config.routing_stacks.iter().find(|of| of.name == *stack)?.dvipas.as_deref()
    }

    /// Routing stacks want to know of all connections that they have asked about which are here.
    pub(super) async fn answer_asked(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        // In this order: what the programs could not tell is counted after what they could.
        self.take_all_told().await;
        self.notice_lost_events();
        for (by, number) in std::mem::take(&mut self.asked) {
            self.tell(Event::Asked(by, number));
        }
    }

    /// Does what the transfers want done, and keeps what the machine tells in step with it.
    pub(super) async fn act_on_transfers(&mut self) {
        if std::mem::take(&mut self.standings_changed) || self.held != self.machine.held() {
            self.tell_standings();
        }
        // Nothing else is heard before all is done, as in the simulation.
        while !self.act_on_some_transfers().await {
            tokio::task::yield_now().await;
        }
    }

    /// Does some of it; whether that was all.
    async fn act_on_some_transfers(&mut self) -> bool {
        let mut is_all;
        loop {
            let now = Instant::now();
            let kernel = kernel(&self.programs, &self.dvipas);
            is_all = self.transfers.act(kernel, now);
            let touched = self.transfers.take_touched();
            if touched.is_empty() {
                break;
            }
            // What its socket went through is told before it rests: none of that is news to a routing stack.
            touched.iter().for_each(|(connection, _)| self.tell(Event::Moving(*connection)));
            self.take_all_told().await;
            for (connection, standing) in touched {
                match standing {
                    Standing::Moves => {}
                    Standing::Ours => self.tell(Event::Rests { connection, ours: true }),
                    Standing::Elsewhere => self.tell(Event::Rests { connection, ours: false }),
                }
            }
            if !is_all {
                break;
            }
        }
        // The programs do not wake anybody for connections that move.
        self.take_all_told().await;
        for (to, message) in self.transfers.take_messages() {
            let ends = matches!(message, FromStack::Transfer(FromHost::Source(FromSource::Done(_))));
            let fence = if ends { self.machine.fence(&to) } else { None };
            for message in fence.iter().chain([&message]) {
                match self.endpoint.send(&to, message) {
                    Ok(()) => {}
                    Err(SendError::NoSession(_)) => self.transfers.not_sent(message),
                    Err(cause) => tracing::warn!(routing_stack = %to, %cause, "a message was not sent"),
                }
            }
        }
        self.act().await;
        is_all
    }

    fn tell_standings(&mut self) {
        self.transfers.owners(self.machine.owners(), Instant::now());
        let takers = self.transfers.takers(kernel(&self.programs, &self.dvipas));
        self.tell(Event::Takers(takers));
        self.held = self.machine.held();
        self.transfers.tell(self.machine.listing(), &self.held);
        self.ports_listed();
    }
}

/// What of the kernel the transfers need.
pub(super) fn kernel<'a>(programs: &'a Programs, dvipas: &'a HashSet<IpAddr>) -> Kernel<'a> {
    let maps = &programs.maps;
    Kernel {
        freezes: &maps.freezes,
        admissions: &maps.admissions,
        conversations: &maps.conversations,
        listeners: &maps.listeners,
        dvipas,
    }
}
