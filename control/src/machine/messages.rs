//! What a message of a peer does: the lower half of the transition table.

use std::time::Instant;

use model::codec::{Address, WireConnection};
use model::message::{
    Applications, FromStack, Hello, Listen, Load, Newconn, Say, Srvstat, Stalled, Termconn, ToStack,
};
use model::transfer::Reason;
use model::{ClusterAddress, Connection, Dvipa, Epoch, Protocol, Service, StackIndex, StackName};
use transfer::routing::Event as News;

use super::choosing::Asked;
use super::direct::Claim;
use super::dirty::Mark;
use super::pace::Urgency;
use super::rights::Wrong;
use super::session::{Said, Unfit};
use super::stacks::Greeting;
use super::{Action, Note, Offence, Refusal, RoutingStack};

impl RoutingStack {
    /// A message of the session with `from`, and who has the connection that it is about.
    pub(super) fn message(
        &mut self,
        from: &StackName,
        message: FromStack,
        home: Option<StackIndex>,
        now: Instant,
    ) -> Result<(), Refusal> {
        if !self.stacks.is_up(from) {
            return Err(Offence::NoSession { message: message.word() }.by(from));
        }
        let asked = Asked::of(&message);
        let outcome =
            self.permit(from, &message, home).and_then(|()| self.follow_message(from, message, now));
        if let (Some(asked), Err(refusal)) = (asked, &outcome) {
            self.refuse_question(from, asked, refusal);
        }
        outcome
    }

    fn follow_message(&mut self, from: &StackName, message: FromStack, now: Instant) -> Result<(), Refusal> {
        match message {
            FromStack::Ownership(message) => {
                self.dvipas.heard(from, message, now);
                Ok(())
            }
            FromStack::Transfer(message) => self.transfer_message(from, message, now),
            FromStack::Stays(stays) => self.stays(from, stays, now),
            FromStack::Applications(said) => self.applications(from, said),
            FromStack::Say(say) => self.say(from, say),
            FromStack::Choose(choose) => self.choose(from, choose),
            FromStack::View(view) => self.view(from, view),
            FromStack::PortsHeld(held) => self.ports_held(from, &held),
            FromStack::Bound(said) => self.bound(from, said),
            FromStack::TokensGiven(given) => {
                self.tokens_given(from, given);
                Ok(())
            }
            FromStack::Declined(declined) => {
                self.declined(from, &declined);
                Ok(())
            }
            FromStack::Srvstat(srvstat) => self.srvstat(from, srvstat),
            FromStack::Stalled(stalled) => self.stalled(from, &stalled),
            FromStack::Newconn(newconn) => self.newconn(from, newconn, now),
            FromStack::Termconn(termconn) => self.termconn(from, termconn, now),
            FromStack::Told(told) => {
                if self.stacks.said_mut(from).is_some_and(Said::end_former) {
                    self.mark_stack(from, Mark::Stack, Urgency::Soon);
                }
                self.told(from, told, now)
            }
            FromStack::After(after) => {
                if let Some(said) = self.stacks.said_mut(from) {
                    said.put_after(after.number);
                }
                Ok(())
            }
            FromStack::Looked(looked) => {
                self.looked(from, looked);
                Ok(())
            }
            FromStack::Load(load) => {
                self.loaded(from, &load);
                let load = Load { idle: None, elsewhere: None, ..load };
                if self.stacks.said_mut(from).is_some_and(|said| said.report_load(load)) {
                    self.mark_stack(from, Mark::Load, Urgency::Soon);
                }
                Ok(())
            }
        }
    }

    /// What a stack says of its connections goes to the workers if it is other than before.
    fn loaded(&mut self, from: &StackName, load: &Load) {
        let said = (load.idle.unwrap_or(0), load.elsewhere.unwrap_or(0));
        let is_news = self.stacks.said_mut(from).is_some_and(|of| of.kept.replace(said) != Some(said));
        if is_news && let Some(stack) = self.stack_index(from) {
            self.actions.push_back(Action::Loaded { stack, idle: said.0, elsewhere: said.1 });
        }
    }

    /// What a stack said of its connections is as old as its session, which is over.
    pub(super) fn load_is_void(&mut self, stack: &StackName) {
        let said = self.stacks.said_mut(stack).and_then(|of| of.kept.take());
        if said.is_some_and(|said| said != (0, 0))
            && let Some(stack) = self.stack_index(stack)
        {
            self.actions.push_back(Action::Loaded { stack, idle: 0, elsewhere: 0 });
        }
    }

    /// What was said in a former session, and was about to be said in it, is void.
    pub(super) fn session_up(
        &mut self,
        stack: &StackName,
        hello: &Hello,
        now: Instant,
    ) -> Result<(), Refusal> {
        let former = self.stacks.said_mut(stack).map(std::mem::take);
        self.session_over(stack, now);
        let addresses: Vec<_> = hello.cluster_addresses.iter().map(|address| address.0).collect();
        let usable = addresses.iter().all(|a| !(a.is_unspecified() || a.is_multicast() || a.is_loopback()));
        let cluster_address = ClusterAddress::from_addresses(&addresses).filter(|_| usable);
        let cluster_address = cluster_address.ok_or_else(|| Offence::BadClusterAddress.by(stack))?;
        let (version, fabric_mtu) = (hello.version.chars().take(64).collect(), hello.fabric_mtu);
        self.stacks.session_up(
            stack,
            Greeting { cluster_address, incarnation: hello.incarnation, version, fabric_mtu },
        )?;
        if let (Some(said), Some(former)) = (self.stacks.said_mut(stack), former) {
            *said = former.successor();
        }
        self.note_mtu(stack, fabric_mtu);
        self.dvipas.session(stack, true, now);
        self.transfer_news(News::SessionUp(stack.clone()), now);
        self.mark_stack(stack, Mark::Stack, Urgency::Now);
        Ok(())
    }

    fn note_mtu(&mut self, stack: &StackName, theirs: Option<u16>) {
        let ours = self.config.forwarder.fabric_mtu;
        if let Some(theirs) = theirs.filter(|theirs| *theirs != ours) {
            self.actions.push_back(Action::Note(Note::OtherMtu { stack: stack.clone(), theirs, ours }));
        }
    }

    /// A stack's `fabric_mtu` from now on.
    pub(super) fn says_mtu(&mut self, stack: &StackName, theirs: Option<u16>) -> Result<(), Refusal> {
        if self.stacks.says_mtu(stack, theirs) {
            self.note_mtu(stack, theirs);
        }
        Ok(())
    }

    fn srvstat(&mut self, from: &StackName, srvstat: Srvstat) -> Result<(), Refusal> {
        let (dvipa, ours) = self.present(from, srvstat.dvipa, srvstat.epoch)?;
        // What a definition does not ask of the sender, it would not take back either: an answer to a former list.
        let picture = self.picture();
        let mut listens = Vec::with_capacity(srvstat.listens.len());
        let mut direct = Vec::new();
        for Listen { protocol, port, listening } in srvstat.listens {
            let service = Service { dvipa, port, protocol };
            // The end of one counts also where the port is its own no longer.
            if !listening || picture.may_be_direct(from, service) {
                direct.push((service, listening));
            }
            if picture.is_asked(from, service) {
                listens.push((service, listening));
            }
        }
        let listens_now = listens.iter().any(|(_, listening)| *listening);
        let Some(said) = self.stacks.said_mut(from) else { return Ok(()) };
        if srvstat.complete {
            said.forget(dvipa);
        }
        let anew = said.mark_reported(dvipa, ours) | srvstat.complete;
        let ignored =
            listens.iter().filter(|(service, listening)| !said.listen(*service, *listening)).count();
        if anew {
            self.mark_stack(from, |stack| Mark::Part(dvipa, stack), Urgency::Soon);
        } else {
            for (service, _) in listens {
                self.mark_stack(from, |stack| Mark::Cell(service, stack), Urgency::Soon);
            }
        }
        if listens_now {
            self.ranges.listens(from, dvipa);
        }
        let own_ports = self.direct_listens(from, dvipa, srvstat.complete, &direct);
        if ignored > 0 {
            return Err(Offence::TooManyListens { ignored }.by(from));
        }
        own_ports
    }

    /// Which applications there serve nobody.
    fn stalled(&mut self, from: &StackName, stalled: &Stalled) -> Result<(), Refusal> {
        let (dvipa, _) = self.present(from, stalled.dvipa, stalled.epoch)?;
        let Some(said) = self.stacks.said_mut(from) else { return Ok(()) };
        for (service, before) in said.stall(dvipa, stalled) {
            self.note_unfit(from, service, before);
            self.mark_stack(from, |stack| Mark::Cell(service, stack), Urgency::Soon);
        }
        Ok(())
    }

    /// That an application fails is for the log, and that it does not any more.
    fn note_unfit(&mut self, stack: &StackName, service: Service, before: Option<Unfit>) {
        let now = self.stacks.said_mut(stack).and_then(|said| said.unfit(service));
        let stack = stack.clone();
        let note = match (before, now) {
            (_, Some(Unfit::Failing { why })) => Note::Fails { stack, service, why: why.clone() },
            (Some(Unfit::Failing { .. }), _) => Note::Recovers { stack, service },
            (None | Some(Unfit::Stalled), None | Some(Unfit::Stalled)) => return,
        };
        self.actions.push_back(Action::Note(note));
    }

    /// Ports that the stack has for itself, or no longer.
    fn direct_listens(
        &mut self,
        from: &StackName,
        dvipa: Dvipa,
        complete: bool,
        listens: &[(Service, bool)],
    ) -> Result<(), Refusal> {
        let mut ended: Vec<Service> =
            listens.iter().filter(|(_, on)| !on).map(|(service, _)| *service).collect();
        if complete {
            let here = |service: &Service| listens.contains(&(*service, true));
            ended.extend(self.direct.of(dvipa, from).into_iter().filter(|service| !here(service)));
        }
        for service in ended {
            self.leave_port(service, from);
        }
        let mut contested = None;
        for (service, _) in listens.iter().filter(|(_, on)| *on) {
            match self.direct.claim(*service, from) {
                Claim::Won => self.mark(Mark::Service(*service), Urgency::Now),
                Claim::Had => {}
                Claim::Anothers(holder) => contested = Some((*service, holder)),
            }
        }
        match contested {
            Some((service, holder)) => Err(Offence::PortTaken { service, holder }.by(from)),
            None => Ok(()),
        }
    }

    fn leave_port(&mut self, service: Service, stack: &StackName) {
        if self.direct.leave(service, stack) {
            self.mark(Mark::Service(service), Urgency::Now);
        }
    }

    /// The stack's host is dead, or the stack is forgotten: it has no port for itself any more.
    pub(super) fn leave_ports(&mut self, stack: &StackName) {
        for service in self.direct.of_stack(stack) {
            self.leave_port(service, stack);
        }
        self.ports.forget(stack);
        self.ranges.forget(stack);
    }

    fn applications(&mut self, from: &StackName, message: Applications) -> Result<(), Refusal> {
        let (dvipa, ours) = self.present(from, message.dvipa, message.epoch)?;
        let Some(said) = self.stacks.said_mut(from) else { return Ok(()) };
        let applications = message.applications.clone();
        let ignored = said.register(dvipa, ours, message.applications);
        self.mark_stack(from, |stack| Mark::Part(dvipa, stack), Urgency::Soon);
        self.actions.push_back(Action::Note(Note::Registered { stack: from.clone(), dvipa, applications }));
        if ignored > 0 { Err(Offence::TooManyApplications { ignored }.by(from)) } else { Ok(()) }
    }

    /// Passes on what an application says to another one. Both have to be registered for the service.
    fn say(&mut self, from: &StackName, say: Say) -> Result<(), Refusal> {
        let (dvipa, _) = self.present(from, say.dvipa, say.epoch)?;
        let service = Service { dvipa, port: say.port, protocol: Protocol::Tcp };
        let picture = self.picture();
        let of_it = say.about.is_none_or(|about| about.0.service() == service);
        let refused = if say.from.stack != *from || !of_it || !picture.is_registered(service, &say.from) {
            Some(Reason::NotOurs)
        } else if !picture.is_registered(service, &say.to) {
            Some(Reason::ApplicationGone)
        } else {
            None
        };
        if let Some(reason) = refused {
            return Err(Offence::NotFollowed { message: "Say", reason }.by(from));
        }
        let to = say.to.stack.clone();
        self.actions.push_back(Action::Send { to, message: ToStack::Say(say) });
        Ok(())
    }

    /// The DVIPA that a report is about and its epoch, which must be the present one.
    pub(super) fn present(
        &self,
        from: &StackName,
        dvipa: Address,
        epoch: Epoch,
    ) -> Result<(Dvipa, Epoch), Refusal> {
        let dvipa = Dvipa::new(dvipa.0);
        let ours = self.dvipas.warm(dvipa).ok_or_else(|| Offence::NotOurs { dvipa }.by(from))?.epoch;
        if epoch != ours {
            let (theirs, ours) = (epoch.0, ours.0);
            return Err(Offence::OtherEpoch { dvipa, theirs, ours }.by(from));
        }
        Ok((dvipa, ours))
    }

    fn newconn(&mut self, from: &StackName, newconn: Newconn, now: Instant) -> Result<(), Refusal> {
        let Newconn { first, last, connections } = newconn;
        self.transfers.said_open(from, connections.iter().map(|connection| &connection.0));
        let Reported { owner, connections, refused } = self.of_ours(from, connections, "NEWCONN")?;
        let Some(said) = self.stacks.said_mut(from) else { return Ok(()) };
        let earlier = !said.accounted;
        said.in_account |= first;
        if first {
            // One that breaks off has to be given again.
            self.stacks.hear(from, None);
        }
        let Some(said) = self.stacks.said_mut(from) else { return Ok(()) };
        let ends = last && said.in_account;
        said.in_account &= !last;
        said.accounted |= ends;
        if ends {
            self.reconsider();
            // Now it is certain what the stack does not have.
            self.mark(Mark::States, Urgency::Soon);
        }
        if first || ends || !connections.is_empty() {
            let moving = if ends { self.transfers.routing.connections().collect() } else { Vec::new() };
            let elsewhere = self.asked_about(&connections, |source| source != from);
            self.actions.push_back(Action::Newconn {
                owner,
                first,
                last: ends,
                earlier,
                connections,
                moving,
            });
            self.no_longer_asked(elsewhere, now);
        }
        if last && !ends {
            return Err(Offence::AccountWithoutFirst.by(from));
        }
        refused
    }

    fn termconn(&mut self, from: &StackName, termconn: Termconn, now: Instant) -> Result<(), Refusal> {
        self.transfers.said_ended(from, termconn.connections.iter().map(|connection| &connection.0));
        let Reported { owner, connections, refused } =
            self.of_ours(from, termconn.connections, "TERMCONN")?;
        if !connections.is_empty() {
            let ended = self.asked_about(&connections, |source| source == from);
            self.actions.push_back(Action::Termconn { owner, connections });
            self.no_longer_asked(ended, now);
        }
        refused
    }

    /// Of the connections that a stack reports those that it may report on. Of those that are moving only the messages of
    /// their transfers decide.
    fn of_ours(
        &self,
        from: &StackName,
        connections: Vec<WireConnection>,
        message: &'static str,
    ) -> Result<Reported, Refusal> {
        let no_session = || Offence::NoSession { message: "connections" }.by(from);
        let owner = self.stacks.known(from).ok_or_else(no_session)?.index;
        let (mut foreign, mut wrong, mut asked) = (0, None, None);
        let mut may_report = |connection: &Connection| {
            let dvipa = connection.service().dvipa;
            if self.dvipas.warm(dvipa).is_none() {
                foreign += 1;
                return false;
            }
            // Nearly always the same DVIPA as before.
            let may = match asked {
                Some((before, may)) if before == dvipa => may,
                Some(_) | None => self.may_have(from, dvipa),
            };
            asked = Some((dvipa, may));
            if !may {
                wrong = Some(Wrong::NoCandidate(dvipa));
            }
            may
        };
        let connections: Vec<Connection> =
            connections.into_iter().map(|connection| connection.0).filter(&mut may_report).collect();
        let refused = match (wrong, foreign) {
            (Some(wrong), _) => Err(Offence::Wrong { message, wrong }.by(from)),
            (None, 0) => Ok(()),
            (None, ignored) => Err(Offence::ForeignConnections { ignored }.by(from)),
        };
        let stands = |c: &Connection| !self.transfers.routing.speaks_for(c);
        Ok(Reported { owner, connections: connections.into_iter().filter(stands).collect(), refused })
    }
}

/// What a stack reports of connections, as far as it is followed.
struct Reported {
    /// Its number.
    owner: StackIndex,
    /// Those that it may report on.
    connections: Vec<Connection>,
    /// Why the others are not among them.
    refused: Result<(), Refusal>,
}
