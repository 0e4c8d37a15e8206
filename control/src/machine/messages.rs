//! What a message of a peer does: the lower half of the transition table.

use std::time::Instant;

use model::codec::{Address, WireConnection};
use model::message::{Applications, Hello, Listen, Message, Newconn, Srvstat, Termconn};
use model::{ClusterAddress, Connection, Dvipa, Epoch, Service, StackIndex, StackName};
use transfer::routing::Event as News;

use super::pace::Urgency;
use super::session::Session;
use super::stacks::Greeting;
use super::{Action, Note, Refusal, RoutingStack, refusal};

impl RoutingStack {
    /// A message of the session with `from`.
    pub(super) fn message(
        &mut self,
        from: &StackName,
        message: Message,
        now: Instant,
    ) -> Result<(), Refusal> {
        let word = refusal::word(&message);
        match (self.stacks.session(from), message) {
            (None, _) => Err(Refusal::NoSession { from: from.clone(), message: word }),
            (Some(_), Message::Hello(hello)) => self.hello(from, hello, now),
            (Some(_), Message::Heartbeat(_)) => Ok(()),
            (Some(Session::Greeting), _) => Err(Refusal::BeforeHello { from: from.clone(), message: word }),
            // Another routing stack's, for its targets.
            (Some(Session::Greeted(_)), Message::VipaList(_) | Message::Targets(_) | Message::Move(_)) => {
                Ok(())
            }
            (Some(Session::Greeted(_)), Message::Transfer(message)) => {
                self.transfer_message(from, message, now)
            }
            (Some(Session::Greeted(_)), Message::Stays(stays)) => self.stays(from, stays, now),
            (Some(Session::Greeted(_)), Message::Applications(said)) => self.applications(from, said),
            (Some(Session::Greeted(_)), Message::Srvstat(srvstat)) => self.srvstat(from, srvstat),
            (Some(Session::Greeted(_)), Message::Newconn(newconn)) => self.newconn(from, newconn, now),
            (Some(Session::Greeted(_)), Message::Termconn(termconn)) => self.termconn(from, termconn, now),
            (Some(Session::Greeted(_)), Message::Load(load)) => {
                if self.stacks.said_mut(from).is_some_and(|said| said.report_load(load)) {
                    self.pace.want(Urgency::Soon);
                }
                Ok(())
            }
        }
    }

    fn hello(&mut self, from: &StackName, hello: Hello, now: Instant) -> Result<(), Refusal> {
        if hello.stack != from.as_str() {
            return Err(Refusal::OtherName { from: from.clone(), claimed: hello.stack });
        }
        let addresses: Vec<_> = hello.cluster_addresses.iter().map(|address| address.0).collect();
        let usable = addresses.iter().all(|a| !(a.is_unspecified() || a.is_multicast() || a.is_loopback()));
        let cluster_address = ClusterAddress::from_addresses(&addresses).filter(|_| usable);
        let cluster_address =
            cluster_address.ok_or_else(|| Refusal::BadClusterAddress { from: from.clone() })?;
        let version = hello.version.chars().take(64).collect();
        let fabric_mtu = hello.fabric_mtu;
        let greeting = Greeting { cluster_address, incarnation: hello.incarnation, version, fabric_mtu };
        if self.stacks.greet(from, greeting)? {
            let ours = self.config.forwarder.fabric_mtu;
            if let Some(theirs) = fabric_mtu.filter(|theirs| *theirs != ours) {
                self.actions.push_back(Action::Note(Note::OtherMtu { stack: from.clone(), theirs, ours }));
            }
            self.transfers.forget_told(from);
            self.transfer_news(News::SessionDown(from.clone()), now);
            self.transfer_news(News::SessionUp(from.clone()), now);
        }
        Ok(())
    }

    fn srvstat(&mut self, from: &StackName, srvstat: Srvstat) -> Result<(), Refusal> {
        let (dvipa, ours) = self.present(from, srvstat.dvipa, srvstat.epoch)?;
        // What a definition does not ask of the sender, it would not take back either: an answer to a former list.
        let picture = self.picture();
        let mut listens = Vec::with_capacity(srvstat.listens.len());
        for Listen { protocol, port, listening } in srvstat.listens {
            let service = Service { dvipa, port, protocol };
            if picture.is_asked(from, service) {
                listens.push((service, listening));
            }
        }
        let Some(said) = self.stacks.said_mut(from) else { return Ok(()) };
        if srvstat.complete {
            said.forget(dvipa);
        }
        said.mark_reported(dvipa, ours);
        let mut ignored = 0;
        for (service, listening) in listens {
            if !said.listen(service, listening) {
                ignored += 1;
            }
        }
        if ignored > 0 { Err(Refusal::TooManyListens { from: from.clone(), ignored }) } else { Ok(()) }
    }

    fn applications(&mut self, from: &StackName, message: Applications) -> Result<(), Refusal> {
        let (dvipa, ours) = self.present(from, message.dvipa, message.epoch)?;
        let Some(said) = self.stacks.said_mut(from) else { return Ok(()) };
        let applications = message.applications.clone();
        let ignored = said.register(dvipa, ours, message.applications);
        self.actions.push_back(Action::Note(Note::Registered { stack: from.clone(), dvipa, applications }));
        if ignored > 0 { Err(Refusal::TooManyApplications { from: from.clone(), ignored }) } else { Ok(()) }
    }

    /// The DVIPA that a report is about and its epoch, which must be the present one.
    pub(super) fn present(
        &self,
        from: &StackName,
        dvipa: Address,
        epoch: Epoch,
    ) -> Result<(Dvipa, Epoch), Refusal> {
        let dvipa = Dvipa::new(dvipa.0);
        let ours =
            self.dvipas.owned(dvipa).ok_or_else(|| Refusal::NotOurs { from: from.clone(), dvipa })?.epoch;
        if epoch != ours {
            let (from, theirs, ours) = (from.clone(), epoch.0, ours.0);
            return Err(Refusal::OtherEpoch { from, dvipa, theirs, ours });
        }
        Ok((dvipa, ours))
    }

    fn newconn(&mut self, from: &StackName, newconn: Newconn, now: Instant) -> Result<(), Refusal> {
        let Newconn { first, last, connections } = newconn;
        self.transfers.said_open(from, connections.iter().map(|connection| &connection.0));
        let (owner, connections, ignored) = self.of_ours(from, connections)?;
        let Some(said) = self.stacks.said_mut(from) else { return Ok(()) };
        said.in_account |= first;
        let ends = last && said.in_account;
        said.in_account &= !last;
        said.accounted |= ends;
        if ends {
            // Now it is certain what the stack does not have.
            self.pace.want(Urgency::Soon);
        }
        if first || ends || !connections.is_empty() {
            let moving = if ends { self.transfers.routing.connections().collect() } else { Vec::new() };
            let elsewhere = self.asked_about(&connections, |source| source != from);
            self.actions.push_back(Action::Newconn { owner, first, last: ends, connections, moving });
            self.no_longer_asked(elsewhere, now);
        }
        if last && !ends {
            return Err(Refusal::AccountWithoutFirst { from: from.clone() });
        }
        if ignored > 0 { Err(Refusal::ForeignConnections { from: from.clone(), ignored }) } else { Ok(()) }
    }

    fn termconn(&mut self, from: &StackName, termconn: Termconn, now: Instant) -> Result<(), Refusal> {
        self.transfers.said_ended(from, termconn.connections.iter().map(|connection| &connection.0));
        let (owner, connections, ignored) = self.of_ours(from, termconn.connections)?;
        connections.iter().for_each(|connection| self.transfers.departed.ended(connection));
        if !connections.is_empty() {
            let ended = self.asked_about(&connections, |source| source == from);
            self.actions.push_back(Action::Termconn { owner, connections });
            self.no_longer_asked(ended, now);
        }
        if ignored > 0 { Err(Refusal::ForeignConnections { from: from.clone(), ignored }) } else { Ok(()) }
    }

    /// The sender's number, those of its connections that are to DVIPAs owned here, and how many are not. Of those that are
    /// moving only the messages of their transfers decide, and of those that it gave away the sender may not have heard it
    /// when it spoke.
    fn of_ours(
        &self,
        from: &StackName,
        connections: Vec<WireConnection>,
    ) -> Result<(StackIndex, Vec<Connection>, usize), Refusal> {
        let known = self.stacks.known(from);
        let no_session = || Refusal::NoSession { from: from.clone(), message: "connections" };
        let owner = known.ok_or_else(no_session)?.index;
        let all = connections.len();
        let ours = |connection: &Connection| self.dvipas.owned(connection.service().dvipa).is_some();
        let connections: Vec<Connection> = connections.into_iter().map(|c| c.0).filter(ours).collect();
        let ignored = all - connections.len();
        let transfers = &self.transfers;
        let stands = |c: &Connection| !transfers.routing.speaks_for(c) && !transfers.departed.left(c, from);
        let connections = connections.into_iter().filter(stands).collect();
        Ok((owner, connections, ignored))
    }
}
