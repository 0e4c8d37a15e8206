//! What becomes of each request.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use channel::Sealed;
use model::control_socket::notification::{Failed, Targets, Transferred, Views};
use model::control_socket::request::{Choose, Claim, Register, Resume, Say, Subscribe, Transfer, View};
use model::control_socket::{
    MAX_CHOICE, MAX_GIVEN_BACK_BYTES, MAX_PORTS, MAX_SAID_BYTES, Refusal, Request, RequestId,
    TARGETS_A_MESSAGE, Target, TargetView,
};
use model::{Dvipa, Protocol, Service};

use super::{Enclosed, Entry, Machine, Standing};
use crate::control_socket::event::{Choice, Event, Held, Moving, Named, Registration, Saying};
use crate::control_socket::limits::{MAX_OFFERS, MAX_REGISTRATIONS, MAX_SUBSCRIPTIONS, MAX_TRANSFERS};

impl Machine {
    pub(super) fn request(&mut self, request: Request, enclosed: Result<Enclosed, Refusal>) {
        let number = match &request {
            Request::Register(r) => Some(r.request),
            Request::Subscribe(r) => Some(r.request),
            Request::Transfer(r) => Some(r.request),
            Request::Resume(r) => Some(r.request),
            Request::Claim(r) => Some(r.request),
            Request::Say(r) => Some(r.request),
            Request::Choose(r) => Some(r.request),
            Request::View(r) => Some(r.request),
            Request::Accept(_) | Request::Reject(_) | Request::Taken(_) | Request::TakesOffers(_) => None,
        };
        if number.is_some_and(|number| self.is_open(number)) {
            return self.end(Refusal::Invalid);
        }
        match request {
            Request::Register(register) => self.register(register, enclosed),
            Request::Subscribe(subscribe) => self.subscribe(subscribe),
            Request::Transfer(transfer) => self.transfer(transfer, enclosed),
            Request::Resume(Resume { request }) => self.resume(request, enclosed),
            Request::Claim(claim) => self.claim(claim, enclosed),
            Request::Say(say) => self.say(say),
            Request::Choose(choose) => self.choose(choose),
            Request::View(view) => self.view(view),
            Request::Taken(taken) => self.offers.taken(taken.by),
            Request::TakesOffers(takes) => {
                if self.registrations.contains_key(&takes.request) {
                    self.report(Event::TakesOffers(takes.request));
                }
            }
            Request::Accept(accept) => self.actions.extend(self.offers.accept(accept.offer)),
            Request::Reject(reject) => self.actions.extend(self.offers.reject(reject.offer, reject.reason)),
        }
    }

    fn is_open(&self, number: RequestId) -> bool {
        self.registrations.contains_key(&number)
            || self.subscriptions.contains_key(&number)
            || self.transfers.contains_key(&number)
            || self.claims.contains_key(&number)
            || self.says.contains(&number)
            || self.questions.contains(&number)
            || self.offers.has_claimed(number)
    }

    fn refuse(&mut self, request: RequestId, why: Refusal) {
        self.tell(Failed { request, why, detail: None });
    }

    fn register(&mut self, register: Register, enclosed: Result<Enclosed, Refusal>) {
        let Register { request, role, job, dvipa, ports, hold_accepts, takes_offers } = register;
        let takes_offers = takes_offers.unwrap_or(true);
        if ports.is_empty() || ports.len() > MAX_PORTS || ports.contains(&0) {
            return self.refuse(request, Refusal::Invalid);
        }
        if self.registrations.len() >= MAX_REGISTRATIONS {
            return self.refuse(request, Refusal::TooMany);
        }
        let dvipa = Dvipa::new(dvipa.0);
        let (socket, listener) = match enclosed.map(listener) {
            Ok(Ok(named)) => named.unzip(),
            Ok(Err(why)) => return self.refuse(request, why),
            // It does not listen.
            Err(Refusal::NoConnection | Refusal::Ended) => return self.refuse(request, Refusal::NoListener),
            Err(why) => return self.refuse(request, why),
        };
        if listener
            .is_some_and(|named: Named| !ports.contains(&named.bound.port()) || !named.is_reached_at(dvipa))
        {
            return self.refuse(request, Refusal::NoListener);
        }
        self.standing = Standing::Known;
        let registration =
            Registration { peer: self.peer, role, job, dvipa, ports, hold_accepts, listener, takes_offers };
        self.registrations.insert(request, Entry { registration: registration.clone(), known: false });
        self.report(Event::Register(request, registration, socket));
    }

    fn subscribe(&mut self, subscribe: Subscribe) {
        let Subscribe { request, dvipa, port } = subscribe;
        let service = Service { dvipa: Dvipa::new(dvipa.0), port, protocol: Protocol::Tcp };
        if !self.may_use(service) {
            return self.refuse(request, Refusal::NotRegistered);
        }
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return self.refuse(request, Refusal::TooMany);
        }
        self.subscriptions.insert(request, None);
        self.report(Event::Subscribe(request, service));
    }

    fn say(&mut self, Say { request, dvipa, port, to, about, bytes }: Say) {
        let service = Service { dvipa: Dvipa::new(dvipa.0), port, protocol: Protocol::Tcp };
        let about = about.map(|about| about.0);
        if !self.may_use(service) || about.is_some_and(|about| about.service() != service) {
            return self.refuse(request, Refusal::NotRegistered);
        }
        if bytes.len() > MAX_SAID_BYTES {
            return self.refuse(request, Refusal::StateTooLong);
        }
        if self.says.len() >= MAX_TRANSFERS {
            return self.refuse(request, Refusal::TooMany);
        }
        self.says.insert(request);
        self.report(Event::Say(request, Saying { service, to, about, bytes }));
    }

    fn choose(&mut self, Choose { request, connection, jobs, besides }: Choose) {
        let connection = connection.0;
        if jobs.len() > MAX_CHOICE || besides.len() > MAX_CHOICE {
            return self.refuse(request, Refusal::Invalid);
        }
        if self.may_ask(request, connection.service()) {
            self.report(Event::Choose(request, Choice { connection, jobs, besides }));
        }
    }

    fn view(&mut self, View { request, dvipa, port }: View) {
        let service = Service { dvipa: Dvipa::new(dvipa.0), port, protocol: Protocol::Tcp };
        if self.may_ask(request, service) {
            self.report(Event::View(request, service));
        }
    }

    /// A question about the targets of a service is open from now on; otherwise the application is told why not.
    fn may_ask(&mut self, request: RequestId, service: Service) -> bool {
        let why = if !self.may_use(service) {
            Refusal::NotRegistered
        } else if self.questions.len() >= MAX_TRANSFERS {
            Refusal::TooMany
        } else {
            return self.questions.insert(request);
        };
        self.refuse(request, why);
        false
    }

    /// Tells how targets are, in messages that are not too long.
    pub(super) fn views(&mut self, request: RequestId, views: Vec<TargetView>) {
        if !self.questions.remove(&request) {
            return;
        }
        let mut parts = views.chunks(TARGETS_A_MESSAGE).peekable();
        if parts.peek().is_none() {
            self.tell(Views { request, last: true, views: Vec::new() });
        }
        while let Some(part) = parts.next() {
            self.tell(Views { request, last: parts.peek().is_none(), views: part.to_vec() });
        }
    }

    fn transfer(&mut self, transfer: Transfer, enclosed: Result<Enclosed, Refusal>) {
        let Transfer { request, to, consent, unacknowledged, given_back } = transfer;
        let given_back = given_back.unwrap_or_default();
        if given_back.len() > MAX_GIVEN_BACK_BYTES {
            return self.refuse(request, Refusal::GivenBack);
        }
        if let Some((held, state)) = self.moving(request, enclosed) {
            let moving = Moving { held, to, consent, unacknowledged, state, given_back };
            self.report(Event::Transfer(request, moving));
        }
    }

    fn resume(&mut self, request: RequestId, enclosed: Result<Enclosed, Refusal>) {
        match enclosed {
            // The former run has done that because the connection had moved, and was killed before it could say so.
            Ok(Enclosed { was_taken_away: true, .. }) => self.tell(Transferred { request }),
            enclosed => {
                if let Some((held, _)) = self.moving(request, enclosed) {
                    self.report(Event::Resume(request, held));
                }
            }
        }
    }

    fn claim(&mut self, Claim { request, given }: Claim, enclosed: Result<Enclosed, Refusal>) {
        match enclosed.and_then(Enclosed::into_held).map(|(held, _)| held) {
            // It was disconnected, because the transfer is void.
            Err(Refusal::Ended) if !given => self.refuse(request, Refusal::Aborted),
            Err(why) => self.refuse(request, why),
            Ok(held) if !self.may_use(held.connection.service()) => {
                self.refuse(request, Refusal::NotRegistered);
            }
            Ok(_) if self.claims.len() + self.offers.len() >= MAX_OFFERS => {
                self.refuse(request, Refusal::TooMany);
            }
            Ok(held) => {
                self.claims.insert(request, (held.connection, given));
                self.report(Event::Claim(request, held));
            }
        }
    }

    /// What is enclosed, if the application may have it moved; otherwise it is told why not.
    fn moving(
        &mut self,
        request: RequestId,
        enclosed: Result<Enclosed, Refusal>,
    ) -> Option<(Held, Option<Sealed>)> {
        match self.check(enclosed) {
            Ok((held, state)) => {
                self.transfers.insert(request, held.connection);
                Some((held, state))
            }
            Err(why) => {
                self.refuse(request, why);
                None
            }
        }
    }

    fn check(&self, enclosed: Result<Enclosed, Refusal>) -> Result<(Held, Option<Sealed>), Refusal> {
        let (held, state) = enclosed?.into_held()?;
        if !self.may_use(held.connection.service()) {
            Err(Refusal::NotRegistered)
        } else if self.transfers.len() >= MAX_TRANSFERS {
            Err(Refusal::TooMany)
        } else if self.transfers.values().any(|moving| *moving == held.connection) {
            Err(Refusal::AlreadyMoving)
        } else {
            Ok((held, state))
        }
    }

    /// Tells a complete list once, and then what has changed.
    pub(super) fn targets(&mut self, request: RequestId, targets: Vec<Target>) {
        let Some(told) = self.subscriptions.get_mut(&request) else { return };
        let now: BTreeSet<Target> = targets.into_iter().collect();
        let (added, removed, is_first): (Vec<_>, Vec<_>, _) = match told {
            None => (now.iter().cloned().collect(), Vec::new(), true),
            Some(told) => {
                (now.difference(told).cloned().collect(), told.difference(&now).cloned().collect(), false)
            }
        };
        *told = Some(now);
        for part in parts(request, is_first, added, removed) {
            self.tell(part);
        }
    }
}

/// The listening socket that came with a registration, if one did.
fn listener(enclosed: Enclosed) -> Result<Option<(OwnedFd, Named)>, Refusal> {
    let other = enclosed.connection.is_some() || enclosed.was_taken_away || enclosed.state.is_some();
    if other { Err(Refusal::NoListener) } else { Ok(enclosed.listener) }
}

/// A list or a change in messages that are not too long: first what is gone, then what is new.
fn parts(request: RequestId, is_first: bool, added: Vec<Target>, removed: Vec<Target>) -> Vec<Targets> {
    let whole = Targets { request: Some(request), ..Targets::default() };
    let gone = removed.chunks(TARGETS_A_MESSAGE).map(|c| Targets { removed: c.to_vec(), ..whole.clone() });
    let new = added.chunks(TARGETS_A_MESSAGE).map(|c| Targets { added: c.to_vec(), ..whole.clone() });
    let mut parts: Vec<Targets> = gone.chain(new).collect();
    if parts.is_empty() && is_first {
        parts.push(whole);
    }
    if let Some(first) = parts.first_mut() {
        first.first = is_first;
    }
    if let Some(last) = parts.last_mut() {
        last.last = true;
    }
    parts
}
