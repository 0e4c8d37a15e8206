//! What one application's requests come to.
//!
//! Pure: [`Machine::handle`] takes an event and the time, [`Machine::poll`] gives what is to be done,
//! [`Machine::next_deadline`] says when to come back. A socket's life:
//!
//! | standing | Register | other request | malformed, or a number twice | Closed by it | time passes | Overflow |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | Silent | Known | refused | Over (Invalid) | Over | Over (Silent) | Over (Stuck) |
//! | Known | as its registration | as below | Over (Invalid) | Over | – | Over (Stuck) |
//! | Over | – | – | – | – | – | – |
//!
//! What an application may do depends on its registrations: it subscribes and transfers for services that one covers, and
//! is offered connections by the agent. A request is open from its message to its answer; a registration and a
//! subscription stay until the socket closes. An offer goes Asked → Accepted → Passing → Passed → (its connection is the
//! application's), or is withdrawn; a given connection begins with Passing, and has to be taken in time.

mod offers;
mod requests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::time::Instant;

use channel::{Peer, Sealed};
use model::codec::WireConnection;
use model::control_socket::notification::{
    By, Chosen, Claimed, Failed, Goodbye, Heard, Registered, Said, Transferred, Waiting, Welcome,
};
use model::control_socket::{Notification, OfferId, Refusal, Request, RequestId, Target};
use model::{Connection, Service, StackName};

use super::event::{self, Command, Held, Named, Registration};
use super::limits::REGISTER_WITHIN;
use offers::Offers;

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// The application asks, with what came beside the message: or why that can't be used.
    Received(Request, Result<Enclosed, Refusal>),
    /// The application sent something that is no message.
    Malformed,
    /// The agent says something.
    Command(Command),
    /// The application has closed, or was killed.
    Closed,
    /// The connection of an offer has been sent: the kernel has it for the application.
    Sent(OfferId),
    /// More waits to be sent than may.
    Overflow,
    /// The agent is ending.
    Stop,
    /// The deadline has come.
    TimePassed,
}

/// What came beside a message.
#[derive(Debug, Default)]
pub struct Enclosed {
    /// A connection.
    pub connection: Option<Held>,
    /// A socket whose connection an agent has taken away.
    pub was_taken_away: bool,
    /// Application state.
    pub state: Option<Sealed>,
    /// A listening socket, and nothing else.
    pub listener: Option<(OwnedFd, Named)>,
}

impl Enclosed {
    /// The connection, and what came with it.
    fn into_held(self) -> Result<(Held, Option<Sealed>), Refusal> {
        let none = if self.was_taken_away { Refusal::Ended } else { Refusal::NoConnection };
        Ok((self.connection.ok_or(none)?, self.state))
    }
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Action {
    /// Tell the application.
    Tell(Notification, Beside),
    /// Tell the agent.
    Report(event::Event),
    /// Close the socket once what was told is sent, or can't be.
    Close,
}

/// What goes beside a message.
#[derive(Debug)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// The application state of an offer.
    State(Sealed),
    /// A connection that is the application's.
    Connection(OwnedFd),
    /// A silent one, and state if it was not offered before. That it was sent is to be said with [`Event::Sent`], and once the
    /// socket is over it is not sent any more.
    Arriving(OfferId, OwnedFd, Option<Sealed>),
}

/// What the machine does by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The application has not registered for anything, and its socket is closed.
    Register,
    /// There is no room in its socket for a connection, and it is closed.
    Pass,
    /// It has not taken a connection that it was given, and does not get it any more.
    Take,
}

#[derive(Debug)]
enum Standing {
    Silent { until: Instant },
    Known,
    Over,
}

#[derive(Debug)]
struct Entry {
    registration: Registration,
    /// The agent has not refused it so far and has said that it knows of it.
    known: bool,
}

/// One control socket's state.
#[derive(Debug)]
pub struct Machine {
    peer: Peer,
    standing: Standing,
    registrations: BTreeMap<RequestId, Entry>,
    /// The targets that were told.
    subscriptions: BTreeMap<RequestId, Option<BTreeSet<Target>>>,
    transfers: BTreeMap<RequestId, Connection>,
    says: BTreeSet<RequestId>,
    /// Choices and views.
    questions: BTreeSet<RequestId>,
    /// Whether they were given.
    claims: BTreeMap<RequestId, (Connection, bool)>,
    offers: Offers,
    actions: VecDeque<Action>,
}

impl Machine {
    /// A socket that an application has just connected; its first action is to tell who answers.
    pub fn new(peer: Peer, stack: StackName, now: Instant) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let welcome = Action::Tell(Welcome { stack, version }.into(), Beside::Nothing);
        Self {
            peer,
            standing: Standing::Silent { until: now + REGISTER_WITHIN },
            registrations: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            transfers: BTreeMap::new(),
            says: BTreeSet::new(),
            questions: BTreeSet::new(),
            claims: BTreeMap::new(),
            offers: Offers::default(),
            actions: VecDeque::from([welcome]),
        }
    }

    /// Takes an event.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match (&self.standing, event) {
            (Standing::Over, _) => {}
            (Standing::Silent { .. } | Standing::Known, event) => match event {
                Event::Received(request, enclosed) => self.request(request, enclosed),
                Event::Malformed => self.end(Refusal::Invalid),
                Event::Command(command) => self.command(command, now),
                Event::Sent(offer) => self.actions.extend(self.offers.sent(offer)),
                Event::Closed => self.over(),
                Event::Overflow => self.end(Refusal::Stuck),
                Event::Stop => self.end(Refusal::Ending),
                Event::TimePassed => self.time_passed(now),
            },
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::TimePassed`] is wanted, and for what.
    pub fn next_deadline(&self) -> Option<(Instant, Timer)> {
        match self.standing {
            Standing::Silent { until } => Some((until, Timer::Register)),
            Standing::Known => self.offers.next_deadline(),
            Standing::Over => None,
        }
    }

    fn time_passed(&mut self, now: Instant) {
        match self.standing {
            Standing::Silent { until } if until <= now => self.end(Refusal::Silent),
            Standing::Known => {
                self.actions.extend(self.offers.not_taken(now));
                if self.offers.is_stuck(now) {
                    self.end(Refusal::Stuck);
                }
            }
            Standing::Silent { .. } | Standing::Over => {}
        }
    }

    /// What the agent says. It may have been overtaken: then there is nothing that it belongs to.
    fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Registered(request) => {
                if let Some(registered) = self.registrations.get_mut(&request) {
                    registered.known = true;
                    self.tell(Registered { request });
                }
            }
            Command::Waiting(request) => {
                if let Some(registered) = self.registrations.get_mut(&request) {
                    registered.known = true;
                    self.tell(Waiting { request });
                }
            }
            Command::Targets(request, targets) => self.targets(request, targets),
            Command::Offer { offer, connection, job, giver, state } => {
                self.actions.push_back(self.offers.offer(offer, connection, job, giver, state));
            }
            Command::Pass(offer, socket) => self.actions.extend(self.offers.pass(offer, socket, now)),
            Command::Give { offer, held, giver, state } => {
                self.actions.push_back(self.offers.give(offer, held, giver, state, now));
            }
            Command::Withdraw(offer, why) => self.actions.extend(self.offers.withdraw(offer, why)),
            Command::Connection(offer, socket) => {
                self.actions.extend(self.offers.connection(offer, socket, now));
            }
            Command::Claimed(request, socket) => {
                if let Some((connection, given)) = self.claims.remove(&request) {
                    if given {
                        self.offers.is_given(By::Claim(request), Held { socket, connection }, now);
                    }
                    self.tell(Claimed { request });
                }
            }
            Command::Said(request) => {
                if self.says.remove(&request) {
                    self.tell(Said { request });
                }
            }
            Command::Heard { from, port, about, bytes } => {
                let about = about.map(WireConnection);
                self.tell(Heard { from, port, about, bytes });
            }
            Command::Chosen(request, target) => {
                if self.questions.remove(&request) {
                    self.tell(Chosen { request, target });
                }
            }
            Command::Views(request, views) => self.views(request, views),
            Command::Transferred(request) => {
                if self.transfers.remove(&request).is_some() {
                    self.tell(Transferred { request });
                }
            }
            Command::Failed { request, why, detail } => {
                let known = self.transfers.remove(&request).is_some()
                    || self.says.remove(&request)
                    || self.questions.remove(&request)
                    || self.claims.remove(&request).is_some()
                    || self.subscriptions.remove(&request).is_some()
                    || self.registrations.remove(&request).is_some();
                if known {
                    self.tell(Failed { request, why, detail });
                }
            }
        }
    }

    /// A registration that the agent knows covers the service.
    fn may_use(&self, service: Service) -> bool {
        self.registrations.values().any(|r| r.known && r.registration.covers(service))
    }

    fn tell(&mut self, notification: impl Into<Notification>) {
        self.actions.push_back(Action::Tell(notification.into(), Beside::Nothing));
    }

    fn report(&mut self, event: event::Event) {
        self.actions.push_back(Action::Report(event));
    }

    fn end(&mut self, why: Refusal) {
        self.tell(Goodbye { why });
        self.over();
    }

    fn over(&mut self) {
        self.standing = Standing::Over;
        self.report(event::Event::Ended);
        self.actions.push_back(Action::Close);
    }
}

#[cfg(test)]
mod tests;
