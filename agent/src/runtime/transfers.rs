//! Joins the transfers with the rest of the agent.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use model::StackName;
use model::message::Message;
use transport::SendError;

use super::Agent;
use crate::machine::Event;
use crate::system::programs::Programs;
use crate::transfers::{Kernel, News, Standing};

impl Agent {
    /// Takes in what applications ask, and what else the transfers waited for.
    pub(super) fn hear(&mut self, news: News) {
        self.standings_changed |= matches!(&news, News::Application(_, event) if event.is_of_registrations());
        let kernel = kernel(&self.programs, &self.dvipas);
        self.transfers.hear(news, kernel, Instant::now());
    }

    pub(super) fn transfers_due(&mut self) {
        let kernel = kernel(&self.programs, &self.dvipas);
        self.transfers.time_passed(kernel, Instant::now());
    }

    /// Takes in a routing stack's message if it is about transfers; gives it back otherwise.
    pub(super) fn message_of_transfers(
        &mut self,
        from: StackName,
        message: Message,
    ) -> Option<(StackName, Message)> {
        match message {
            Message::Transfer(message) => self.transfers.message(from, message, Instant::now()),
            Message::Targets(targets) => self.transfers.targets(&from, targets),
            Message::Move(order) => {
                let owner = self.machine.owners().remove(&order.connection.0.service().dvipa);
                if owner == Some((from, order.epoch)) {
                    self.transfers.ordered(order);
                }
            }
            message => return Some((from, message)),
        }
        None
    }

    /// Does what the transfers want done, and keeps what the machine tells in step with it.
    pub(super) async fn act_on_transfers(&mut self) {
        if std::mem::take(&mut self.standings_changed) {
            self.tell_standings();
        }
        loop {
            let now = Instant::now();
            let kernel = kernel(&self.programs, &self.dvipas);
            self.transfers.look_for_made(kernel, now);
            self.transfers.act(kernel, now);
            let touched = self.transfers.take_touched();
            if touched.is_empty() {
                break;
            }
            // What its socket went through is told before it rests: none of that is news to a routing stack.
            touched.iter().for_each(|(connection, _)| self.tell(Event::Moving(*connection)));
            self.take(Ok(self.sockets.take()));
            for (connection, standing) in touched {
                match standing {
                    Standing::Moves => {}
                    Standing::Ours => self.tell(Event::Rests { connection, ours: true }),
                    Standing::Elsewhere => self.tell(Event::Rests { connection, ours: false }),
                }
            }
        }
        // The programs do not wake anybody for connections that move.
        self.take(Ok(self.sockets.take()));
        for (to, message) in self.transfers.take_messages() {
            match self.endpoint.send(&to, &message) {
                Ok(()) | Err(SendError::NoSession(_)) => {}
                Err(cause) => tracing::warn!(routing_stack = %to, %cause, "a message was not sent"),
            }
        }
        self.act().await;
    }

    fn tell_standings(&mut self) {
        self.transfers.owners(self.machine.owners(), self.machine.listing(), Instant::now());
        let held = self.transfers.held();
        self.tell(Event::Held(held));
    }
}

/// What of the kernel the transfers need.
pub(super) fn kernel<'a>(programs: &'a Programs, dvipas: &'a HashSet<IpAddr>) -> Kernel<'a> {
    let maps = &programs.maps;
    Kernel {
        freezes: &maps.freezes,
        admissions: &maps.admissions,
        conversations: &maps.conversations,
        dvipas,
    }
}
